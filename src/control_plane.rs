//! Configuration from a control plane, over xDS.
//!
//! The agent subscribes to all listeners, because their names are the targets and sockets of the mesh. It subscribes
//! by name to the routes, clusters and endpoints of the listeners that channels use.

use std::{fmt, sync::Arc, time::Duration};

use mesh_core::rng::SplitMix64;
use mesh_xds::{
    client::{Agent, ApplyReport, Notice, Scope, Subscriber, Transport},
    node::to_xds,
    resource::ResourceType,
    status::{ConfigStatus, SourceStatus},
};
use tokio::{sync::broadcast, task::JoinSet, time::timeout};

use crate::{
    Applied, ConfigEvent, Error, MeshBuilder,
    background::{Followed, Following, Joining, Source, Subscription, rng},
    error::Kind,
};

/// Timeout of the first configuration.
const START_LIMIT: Duration = Duration::from_secs(30);

impl MeshBuilder {
    /// Takes the configuration from the control plane behind `transport`, over one ADS stream (Envoy's "Aggregated
    /// Discovery Service"), and follows it as it changes. The program identifies itself as Istio's agent does for a client
    /// of gRPC. A transport carries discovery messages: `mesh-xds` has one within the process,
    /// `mesh_xds::client::transport::in_process`.
    ///
    /// [`build`](Self::build) fails if the first configuration is not in force within 30 s.
    pub fn control_plane(self, transport: impl Transport) -> Self {
        self.source(ControlPlane(transport))
    }
}

struct ControlPlane<T>(T);

impl<T: Transport> Source for ControlPlane<T> {
    fn follow(self: Box<Self>, member: &mut Joining) -> Following<'_> {
        Box::pin(follow(self.0, member, JoinSet::new(), None))
    }
}

impl<T> fmt::Debug for ControlPlane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ControlPlane").finish_non_exhaustive()
    }
}

/// A running agent and the other tasks of its source.
#[derive(Debug)]
struct RunningAgent {
    subscriber: Subscriber,
    status: ConfigStatus,
    /// Ends before the other tasks: otherwise it would report that its control plane has closed the stream.
    _agent: JoinSet<()>,
    _tasks: JoinSet<()>,
}

impl Followed for RunningAgent {
    fn subscribe(&self, listener: &Arc<str>) -> Subscription {
        Arc::new(self.subscriber.subscribe(listener))
    }

    fn metrics(&self) -> String {
        self.status.prometheus_text()
    }
}

/// Starts keeping the store of `member` up to date with the control plane; returns when the first configuration is in force.
/// `tasks` run for as long as it is followed. `source` has the outcomes of the control plane, if it is in this process.
pub(crate) async fn follow(
    transport: impl Transport,
    member: &mut Joining,
    tasks: JoinSet<()>,
    source: Option<Arc<SourceStatus>>,
) -> Result<Box<dyn Followed>, Error> {
    let store = Arc::clone(&member.store);
    let agent = Agent::new(transport, to_xds(&member.identity.node), Scope::AllListeners, store, rng());
    run(agent, member, tasks, source).await
}

/// As [`follow`], with an agent.
pub(crate) async fn run(
    agent: Agent<impl Transport, SplitMix64>,
    member: &mut Joining,
    tasks: JoinSet<()>,
    source: Option<Arc<SourceStatus>>,
) -> Result<Box<dyn Followed>, Error> {
    let mut settled = agent.settled();
    let subscriber = agent.subscriber();
    let status = ConfigStatus { client: agent.status(), source };
    describe(member, &status);
    let (events, mut changes, mut running) = (member.events.clone(), Changes::default(), JoinSet::new());
    running.spawn(agent.run(move |notice| {
        if let Some(applied) = changes.add(notice) {
            send(&events, ConfigEvent::Applied(applied));
        }
    }));
    let first = timeout(START_LIMIT, settled.changed()).await;
    first.map_err(|_| Kind::NotInForce { limit: START_LIMIT })?;
    Ok(Box::new(RunningAgent { subscriber, status, _agent: running, _tasks: tasks }))
}

/// Gives the admin endpoint of `member` what becomes of the configuration.
#[cfg(feature = "admin")]
fn describe(member: &mut Joining, status: &ConfigStatus) {
    member.identity.facts.config_dump.dynamic = Some(status.clone());
}

#[cfg(not(feature = "admin"))]
fn describe(_: &mut Joining, _: &ConfigStatus) {}

pub(crate) fn send(events: &broadcast::Sender<ConfigEvent>, event: ConfigEvent) {
    // Fails if there is no receiver.
    drop(events.send(event));
}

/// Collects the reports of an agent until all changes are in force.
#[derive(Debug, Default)]
struct Changes {
    applied: Applied,
    /// Whether the configuration has changed. Resources that are loaded because of a new subscription are no change.
    is_change: bool,
}

impl Changes {
    /// Adds a notice; returns the changes when all of them are in force, if there are any.
    fn add(&mut self, notice: Notice) -> Option<Applied> {
        match notice {
            Notice::Settled => {
                let Self { applied, is_change } = std::mem::take(self);
                return is_change.then_some(applied);
            }
            Notice::Applied(report) if is_renewal(&report) => {}
            Notice::Applied(ApplyReport { resource_type, is_answer, accepted, removed, rejected, .. }) => {
                self.is_change |= !is_answer || !rejected.is_empty();
                self.applied.changed.extend(accepted.iter().map(|name| resource(resource_type, name)));
                self.applied.removed.extend(removed.iter().map(|name| resource(resource_type, name)));
                self.applied.refused.extend(rejected.iter().map(|rejected| rejected.error.to_string()));
            }
            Notice::NotApplied(error) => {
                self.is_change = true;
                self.applied.refused.push(error.to_string());
            }
            // The agent logs all other notices.
            _ => {}
        }
        None
    }
}

/// The certificate of a workload, and the roots of the mesh.
const IDENTITY: [&str; 2] = ["default", "ROOTCA"];

/// Whether only the certificate of this program or the roots of the mesh are new, which is no change of the configuration.
fn is_renewal(report: &ApplyReport) -> bool {
    let has_others = report.accepted.iter().any(|name| !IDENTITY.contains(&&**name));
    let is_clean = report.removed.is_empty() && report.rejected.is_empty();
    report.resource_type == ResourceType::Secret && is_clean && !has_others
}

fn resource(resource_type: ResourceType, name: &str) -> String {
    format!("{resource_type} {name}")
}

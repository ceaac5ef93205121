//! Leader election: of several replicas, one writes status.
//!
//! A replica holds the Lease while it renews it. Another one takes it over if the Lease has not changed for its whole
//! duration, by the clock of the one that watches, so that clocks need not agree. This is what Kubernetes' own components do
//! (`client-go/tools/leaderelection`).

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use mesh_core::causes::with_causes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{KubernetesOptions, LEASE};

/// How long a Lease that is not renewed is valid.
const DURATION: Duration = Duration::from_secs(15);
/// Time between two looks at the Lease, and between two renewals.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long the holder relies on its Lease after its last renewal; less than [`DURATION`], so that there are never two.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// The decision about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Take it over, or make it.
    Acquire,
    /// It is held here: renew it.
    Renew,
    /// Another one holds it.
    Wait,
}

/// A Lease as it was read.
#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    holder: &'a str,
    resource_version: &'a str,
    duration: Duration,
}

/// The state of a candidate, without I/O.
#[derive(Debug)]
struct Election {
    identity: String,
    /// The version of the Lease, and when it was first seen.
    observed: Option<(String, Instant)>,
    renewed_at: Option<Instant>,
}

impl Election {
    fn new(identity: String) -> Self {
        Self { identity, observed: None, renewed_at: None }
    }

    fn is_leader(&self, now: Instant) -> bool {
        self.renewed_at.is_some_and(|at| now - at < RENEW_DEADLINE)
    }

    fn handle_lease(&mut self, seen: Option<Seen<'_>>, now: Instant) -> Step {
        let Some(Seen { holder, resource_version, duration }) = seen else { return Step::Acquire };
        if holder == self.identity {
            return Step::Renew;
        }
        self.renewed_at = None;
        let since = match &self.observed {
            Some((version, since)) if version == resource_version => *since,
            _ => {
                self.observed = Some((resource_version.to_owned(), now));
                now
            }
        };
        if holder.is_empty() || now - since >= duration { Step::Acquire } else { Step::Wait }
    }

    /// The Lease was written; `at` is the time before it was.
    fn handle_written(&mut self, at: Instant) {
        self.renewed_at = Some(at);
    }
}

/// Begins to try for the Lease; the receiver says whether this process holds it.
pub(super) fn spawn(client: &Client, options: &KubernetesOptions, tasks: &mut JoinSet<()>) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let api: Api<Lease> = Api::namespaced(client.clone(), &options.lease_namespace);
    let mut election = Election::new(options.identity.clone());
    tasks.spawn(async move {
        let mut has_failed = false;
        loop {
            let outcome = step(&api, &mut election).await;
            if let (Err(error), false) = (&outcome, has_failed) {
                tracing::warn!("cannot hold the Lease {LEASE}, status is not written: {}", with_causes(error));
            }
            has_failed = outcome.is_err();
            let is_leader = election.is_leader(Instant::now());
            sender.send_if_modified(|known| std::mem::replace(known, is_leader) != is_leader);
            sleep(INTERVAL).await;
        }
    });
    receiver
}

async fn step(api: &Api<Lease>, election: &mut Election) -> kube::Result<()> {
    let now = Instant::now();
    let mut lease = api.get_opt(LEASE).await?;
    let seen = lease.as_ref().map(|lease| {
        let spec = lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|it| u64::try_from(it).ok());
        Seen {
            holder: spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default(),
            resource_version: lease.metadata.resource_version.as_deref().unwrap_or_default(),
            duration: seconds.map_or(DURATION, Duration::from_secs),
        }
    });
    let step = election.handle_lease(seen, now);
    if step == Step::Wait {
        return Ok(());
    }
    let time = Some(MicroTime(Timestamp::now()));
    let old = lease.as_mut().and_then(|lease| lease.spec.take()).unwrap_or_default();
    let is_taken = step == Step::Acquire;
    let spec = LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if is_taken { time.clone() } else { old.acquire_time },
        renew_time: time,
        lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(is_taken && lease.is_some())),
        ..LeaseSpec::default()
    };
    // With the version that was read, the server refuses the write if another candidate was faster.
    let written = match lease {
        Some(lease) => api.replace(LEASE, &PostParams::default(), &Lease { spec: Some(spec), ..lease }).await,
        None => {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
    };
    match written {
        Ok(_) => election.handle_written(now),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(holder: &'a str, resource_version: &'a str) -> Option<Seen<'a>> {
        Some(Seen { holder, resource_version, duration: DURATION })
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_over_when_nobody_renews_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut election = Election::new("me".to_owned());
        assert_eq!(election.handle_lease(seen("other", "1"), at(0)), Step::Wait);
        assert_eq!(election.handle_lease(seen("other", "2"), at(14)), Step::Wait);
        assert_eq!(election.handle_lease(seen("other", "2"), at(28)), Step::Wait, "it was renewed 14 s ago");
        assert_eq!(election.handle_lease(seen("other", "2"), at(29)), Step::Acquire);
        assert!(!election.is_leader(at(29)), "it is not written yet");
        election.handle_written(at(29));
        assert!(election.is_leader(at(29)));
        assert_eq!(election.handle_lease(seen("me", "3"), at(31)), Step::Renew);
        assert!(election.is_leader(at(38)) && !election.is_leader(at(39)), "it gives up before another takes over");
        election.handle_written(at(39));
        assert_eq!(election.handle_lease(seen("other", "4"), at(40)), Step::Wait);
        assert!(!election.is_leader(at(40)), "another one has it");
        assert_eq!(election.handle_lease(seen("", "5"), at(41)), Step::Acquire, "it was released");
        assert_eq!(election.handle_lease(None, at(42)), Step::Acquire, "it was deleted");
    }
}

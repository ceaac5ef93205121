//! The server's side of one stream.
//!
//! Both forms of the protocol have the same state. In that of the state of the world, a response has all resources of clusters
//! and listeners, and of the other types those that have changed; in the incremental one it has what has changed and the names of
//! what is gone.
//!
//! Envoy waits for the endpoints of a cluster that has changed in any way, and does not ask for them. So a response with
//! clusters is followed by one with their endpoints, even if these are the same. istiod does so, too.

mod client;
mod response;
mod subscription;

pub use response::Response;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::node::Node;
use mesh_core::target::Suggestion;
use mesh_xds::client::Request;
use mesh_xds::node::{self, IdentityError};
use mesh_xds::proto::envoy::config::core::v3 as core;
use mesh_xds::proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use mesh_xds::resource::ResourceType;
use mesh_xds::status::SourceStatus;

use super::caller::Caller;
use super::connections::{Connection, TypeStatus};
use super::snapshot::{Named, Version, World, Worlds, encode_secrets};
use crate::identities::WorkloadCertificate;
use crate::mesh::Mesh;
use crate::translate::{identity, identity_secrets};
use client::Client;
use subscription::Subscription;

/// A stream cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The first request has no node.
    #[error("the first request has no node")]
    Anonymous,
    /// The node cannot be identified.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node is not of an identity that the client has proved.
    #[error("a node of namespace {namespace:?} and service account {account:?} is none of {}", identities.join(", "))]
    OtherIdentity {
        /// What the client has proved.
        identities: Vec<String>,
        /// Where the node says that it is.
        namespace: String,
        /// The service account that the node says it has; empty if it does not say.
        account: String,
    },
}

/// The form of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `StreamAggregatedResources`.
    StateOfTheWorld,
    /// `DeltaAggregatedResources`.
    Incremental,
}

/// The order of responses: a resource is sent before those that refer to it. Secrets are last, as in istiod: who refers to one
/// waits for it.
const ORDER: [ResourceType; ResourceType::ALL.len()] = [
    ResourceType::Cluster,
    ResourceType::ClusterLoadAssignment,
    ResourceType::Listener,
    ResourceType::RouteConfiguration,
    ResourceType::Secret,
];

/// What one client has subscribed to and received.
pub struct StreamState {
    form: Form,
    caller: Caller,
    worlds: Arc<Worlds>,
    world: Arc<World>,
    client: Option<Client>,
    /// The secrets of the client's identity; empty until there is a certificate.
    identity: Named,
    /// Whether the mesh declared the service of the client at the last check; true before the first one.
    is_declared: bool,
    types: [Subscription; ResourceType::ALL.len()],
    nonce: u64,
    responses: VecDeque<Response>,
    status: Arc<SourceStatus>,
}

/// Without resources, which may be private keys.
impl fmt::Debug for StreamState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.client.as_ref().map(|client| &client.view.node);
        f.debug_struct("StreamState").field("node", &node).field("nonce", &self.nonce).finish_non_exhaustive()
    }
}

static NONE: Named = BTreeMap::new();

impl StreamState {
    /// A new stream of a client. Refused responses are counted in `status`.
    pub(super) fn new(
        worlds: Arc<Worlds>,
        mesh: &Arc<Mesh>,
        status: Arc<SourceStatus>,
        form: Form,
        caller: Caller,
    ) -> Self {
        let (types, responses, identity) = Default::default();
        let world = worlds.at(mesh);
        let (client, is_declared, nonce) = (None, true, 0);
        Self { form, caller, worlds, world, client, identity, is_declared, types, nonce, responses, status }
    }

    /// Handles a subscription, or the acknowledgement of a response.
    ///
    /// # Errors
    ///
    /// If the node is missing or unusable; the stream must then be closed.
    pub fn handle_request(&mut self, request: Request) -> Result<(), Refusal> {
        let kind = request.resource_type;
        self.handle_node(request.node.as_deref())?;
        self.handle_error(kind, request.error.as_deref());
        let state = &mut self.types[kind as usize];
        state.handle_answer(&request.response_nonce, request.error.as_deref());
        // An acknowledgement of an older response is about resources that have been replaced.
        if state.is_open && !request.response_nonce.is_empty() && *request.response_nonce != *state.nonce.to_string() {
            return Ok(());
        }
        if state.replace(request.resource_names) {
            self.push(kind, &Push::Subscription(BTreeSet::new()));
        }
        Ok(())
    }

    /// Handles a change of a subscription, or the acknowledgement of a response, of the incremental form.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_request`].
    pub fn handle_delta_request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Refusal> {
        self.handle_node(request.node.as_ref())?;
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else { return Ok(()) };
        self.handle_error(kind, request.error_detail.as_ref().map(|status| status.message.as_str()));
        let state = &mut self.types[kind as usize];
        state.handle_answer(&request.response_nonce, request.error_detail.as_ref().map(|it| it.message.as_str()));
        let is_first = !state.is_open;
        let (added, removed) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        if is_first {
            let initial = request.initial_resource_versions.iter();
            state.sent = initial.map(|(name, version)| (Arc::from(name.as_str()), Version::parse(version))).collect();
        }
        if is_first || !added.is_empty() || !removed.is_empty() {
            let mut awaited = state.amend(added, removed);
            // A client that comes back has said what it has.
            awaited.retain(|name| !(is_first && state.sent.contains_key(name)));
            self.push(kind, &Push::Subscription(awaited));
        }
        Ok(())
    }

    /// Handles a new version of the mesh.
    pub fn handle_mesh(&mut self, mesh: &Arc<Mesh>) {
        self.world = self.worlds.at(mesh);
        let Some(client) = &mut self.client else { return };
        client.handle_world(&self.world);
        self.check_service();
        self.push_changes();
    }

    /// The identity of the client, if it needs a certificate of the mesh and may have it.
    #[must_use]
    pub fn identity(&self) -> Option<String> {
        let client = self.client.as_ref().filter(|_| self.caller.is_known())?;
        self.world.mesh.has_certificates.then(|| identity(&self.world.mesh, &client.view.node))
    }

    /// The secrets of the client's identity: its certificate and the roots.
    #[cfg(all(test, feature = "ca"))]
    pub(super) fn secrets(&self) -> Vec<mesh_xds::proto::envoy::extensions::transport_sockets::tls::v3::Secret> {
        let named = ["default", "ROOTCA"].into_iter().filter_map(|name| self.identity.get(name));
        named.filter_map(|secret| prost::Message::decode(secret.any.value.as_slice()).ok()).collect()
    }

    /// Handles a certificate of the client's identity.
    pub fn handle_certificate(&mut self, certificate: &WorkloadCertificate) {
        self.identity = encode_secrets(&identity_secrets(certificate));
        self.push_changes();
    }

    /// What operators see of the stream, once it is identified.
    pub(super) fn connection(&self, since: SystemTime) -> Option<Connection> {
        let client = self.client.as_ref()?;
        let status = |subscription: &Subscription| TypeStatus {
            sent: subscription.nonce,
            acked: subscription.acked,
            rejected: subscription.rejected.clone(),
        };
        Some(Connection {
            node_id: client.id.clone(),
            identities: self.caller.identities().to_vec(),
            since,
            form: self.form,
            types: self.types.each_ref().map(status),
            view: client.view.clone(),
        })
    }

    /// The next message for the client.
    pub fn poll_response(&mut self) -> Option<Response> {
        self.responses.pop_front()
    }

    fn handle_node(&mut self, node: Option<&core::Node>) -> Result<(), Refusal> {
        if self.client.is_some() {
            return Ok(());
        }
        let xds = node.ok_or(Refusal::Anonymous)?;
        let node = self.caller.check(node::from_xds(xds)?, &self.world.mesh)?;
        self.client = Some(Client::new(xds, node, &self.world));
        self.check_service();
        Ok(())
    }

    fn handle_error(&mut self, kind: ResourceType, error: Option<&str>) {
        let Some(error) = error else { return };
        let id = self.client.as_ref().map_or("", |client| &client.id);
        self.status.count_reject(kind);
        tracing::warn!(resource_type = %kind, node = id, "the client has rejected a configuration: {error}");
    }

    /// Warns if the mesh does not declare the service of the client. Warns again only after the service has been declared.
    fn check_service(&mut self) {
        let Some(client) = &self.client else { return };
        let undeclared = undeclared(&self.world.mesh, &client.view.node);
        let was_declared = std::mem::replace(&mut self.is_declared, undeclared.is_none());
        if let (true, Some(warning)) = (was_declared, undeclared) {
            tracing::warn!("{warning}");
        }
    }

    fn push_changes(&mut self) {
        let mut clusters = BTreeSet::new();
        for kind in ORDER {
            match kind {
                ResourceType::Cluster => clusters = self.push(kind, &Push::Change(BTreeSet::new())),
                // The endpoints of a cluster have its name.
                ResourceType::ClusterLoadAssignment => {
                    self.push(kind, &Push::Change(std::mem::take(&mut clusters)));
                }
                ResourceType::Secret | ResourceType::Listener | ResourceType::RouteConfiguration => {
                    self.push(kind, &Push::Change(BTreeSet::new()));
                }
            }
        }
    }

    /// Sends what the client does not have of a type; returns the names of what is sent because it has changed.
    fn push(&mut self, kind: ResourceType, push: &Push) -> BTreeSet<Arc<str>> {
        let state = &mut self.types[kind as usize];
        let Some(client) = self.client.as_ref().filter(|_| state.is_open) else { return BTreeSet::new() };
        let is_secret = kind == ResourceType::Secret;
        let is_hidden = is_secret && !self.caller.is_known();
        let snapshot = self.world.snapshot(&client.view, &client.slot);
        let own = if is_hidden { &NONE } else { snapshot.of_type(kind) };
        let of_identity = if is_secret { &self.identity } else { &NONE };
        let wanted: Vec<_> = state.wanted(own).chain(state.wanted(of_identity)).collect();
        let exists = |name: &Arc<str>| own.contains_key(name) || of_identity.contains_key(name);
        let (Push::Subscription(awaited) | Push::Change(awaited)) = push;
        let changed: Vec<_> = wanted
            .iter()
            .copied()
            .filter(|(name, resource)| awaited.contains(*name) || !state.has(name, resource.version))
            .collect();
        let mut removed: BTreeSet<_> = state.sent.keys().filter(|name| !exists(name)).cloned().collect();
        let is_incremental = self.form == Form::Incremental;
        if is_incremental && matches!(push, Push::Subscription(_)) {
            removed.extend(awaited.iter().filter(|name| !exists(name)).cloned());
        }
        let is_whole = kind.is_whole() && !is_incremental;
        // A subscription to all resources of a type gets a response even if there are none, so that the client need not
        // wait.
        let is_awaited = matches!(push, Push::Subscription(_)) && (is_whole || (is_incremental && state.nonce == 0));
        let has_fewer = (is_whole || is_incremental) && !removed.is_empty();
        if changed.is_empty() && !has_fewer && !is_awaited {
            return BTreeSet::new();
        }
        let sent = if is_whole { &wanted } else { &changed };
        let sent = sent.iter().map(|(name, resource)| (Arc::clone(name), Arc::clone(resource))).collect();
        let names = changed.iter().map(|(name, _)| Arc::clone(name)).collect();
        let version = Version::of_all(wanted.iter().copied());
        state.sent = wanted.iter().map(|(name, resource)| (Arc::clone(name), Some(resource.version))).collect();
        self.nonce += 1;
        state.nonce = self.nonce;
        let removed = if is_incremental { removed.into_iter().collect() } else { Vec::new() };
        let nonce = self.nonce;
        self.responses.push_back(Response { resource_type: kind, version, nonce, resources: sent, removed });
        names
    }
}

/// The warning about a node whose service is not declared. The usual cause is a misspelt name.
fn undeclared(mesh: &Mesh, node: &Node) -> Option<String> {
    let host = node.service.as_ref()?;
    if mesh.registry.find(host, &node.namespace).is_some() {
        return None;
    }
    let services = mesh.registry.visible_to(&node.namespace).map(|service| service.host.as_str());
    let suggestion = Suggestion::new(host.as_str(), services, &node.namespace);
    Some(format!(
        "no ServiceEntry or Service declares the service {host} of this program, so other programs cannot call it; {suggestion}"
    ))
}

/// Why a response is sent, and the resources that are sent even if the client has them.
#[derive(Debug)]
enum Push {
    /// The client has subscribed.
    Subscription(BTreeSet<Arc<str>>),
    /// The mesh has changed.
    Change(BTreeSet<Arc<str>>),
}

#[cfg(test)]
mod tests;

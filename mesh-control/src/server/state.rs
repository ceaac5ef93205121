//! The server's side of one stream.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use mesh_core::node::Node;
use mesh_core::target::Suggestion;
use mesh_xds::client::{Interest, Request};
use mesh_xds::node::{self, IdentityError};
use mesh_xds::proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use mesh_xds::proto::envoy::service::discovery::v3::DiscoveryResponse;
use mesh_xds::resource::ResourceType;
use mesh_xds::status::SourceStatus;
use prost_types::Any;

use super::snapshot::Snapshot;
use crate::identities::WorkloadCertificate;
use crate::mesh::Mesh;
use crate::translate::{identity, identity_secrets};

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
}

/// What one client has subscribed to and received.
pub struct StreamState {
    mesh: Arc<Mesh>,
    client: Option<(Node, Snapshot)>,
    /// The secrets of the client's identity; empty until there is a certificate.
    secrets: Vec<Secret>,
    /// Whether the mesh declared the service of the client at the last check; true before the first one.
    is_declared: bool,
    types: [TypeState; ResourceType::ALL.len()],
    nonce: u64,
    responses: VecDeque<DiscoveryResponse>,
    status: Arc<SourceStatus>,
}

/// Without resources, which may be private keys.
impl fmt::Debug for StreamState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.client.as_ref().map(|(node, _)| node);
        f.debug_struct("StreamState").field("node", &node).field("nonce", &self.nonce).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct TypeState {
    interest: Interest,
    /// Nonce of the last response.
    nonce: String,
    /// The resources that the client has, by name.
    sent: BTreeMap<Arc<str>, Any>,
}

impl StreamState {
    /// A new stream, with the mesh in force. Refused responses are counted in `status`.
    pub fn new(mesh: Arc<Mesh>, status: Arc<SourceStatus>) -> Self {
        let (types, responses, secrets) = Default::default();
        Self { mesh, client: None, secrets, is_declared: true, types, nonce: 0, responses, status }
    }

    /// Handles a subscription, or the acknowledgement of a response.
    ///
    /// # Errors
    ///
    /// If the node is missing or unusable; the stream must then be closed.
    pub fn handle_request(&mut self, request: Request) -> Result<(), Refusal> {
        if self.client.is_none() {
            let node = node::from_xds(request.node.as_ref().ok_or(Refusal::Anonymous)?)?;
            let snapshot = Snapshot::of(&self.mesh, &node, &self.secrets);
            self.client = Some((node, snapshot));
            self.check_service();
        }
        let state = &mut self.types[request.resource_type as usize];
        // An acknowledgement of an older response is about resources that have been replaced.
        if !request.response_nonce.is_empty() && *request.response_nonce != *state.nonce {
            return Ok(());
        }
        if let Some(error) = &request.error {
            self.status.count_reject(request.resource_type);
            tracing::warn!(resource_type = %request.resource_type, "the client has rejected a configuration: {error}");
        }
        let interest = match &state.interest {
            Interest::Nothing | Interest::Everything if request.resource_names.is_empty() => Interest::Everything,
            _ => Interest::Names(request.resource_names),
        };
        if state.interest != interest {
            state.interest = interest;
            state.sent.retain(|name, _| state.interest.includes(name));
            self.push(request.resource_type, Push::Subscription);
        }
        Ok(())
    }

    /// Handles a new version of the mesh.
    pub fn handle_mesh(&mut self, mesh: Arc<Mesh>) {
        self.mesh = mesh;
        let Some((node, snapshot)) = &mut self.client else { return };
        *snapshot = Snapshot::of(&self.mesh, node, &self.secrets);
        self.check_service();
        // A resource is sent before the resources that refer to it.
        for kind in ResourceType::ALL {
            self.push(kind, Push::Change);
        }
    }

    /// The identity of the client, if it needs a certificate of the mesh.
    #[must_use]
    pub fn identity(&self) -> Option<String> {
        let (node, _) = self.client.as_ref()?;
        self.mesh.has_certificates.then(|| identity(&self.mesh, node))
    }

    /// The secrets of the client's identity.
    #[cfg(all(test, feature = "ca"))]
    pub(super) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// Handles a certificate of the client's identity.
    pub fn handle_certificate(&mut self, certificate: &WorkloadCertificate) {
        self.secrets = identity_secrets(certificate);
        let Some((_, snapshot)) = &mut self.client else { return };
        snapshot.put_identity(&self.secrets);
        for kind in ResourceType::ALL {
            self.push(kind, Push::Change);
        }
    }

    /// Warns if the mesh does not declare the service of the client. Warns again only after the service has been declared.
    fn check_service(&mut self) {
        let Some((node, _)) = &self.client else { return };
        let undeclared = undeclared(&self.mesh, node);
        let was_declared = std::mem::replace(&mut self.is_declared, undeclared.is_none());
        if let (true, Some(warning)) = (was_declared, undeclared) {
            tracing::warn!("{warning}");
        }
    }

    /// The next message for the client.
    pub fn poll_response(&mut self) -> Option<DiscoveryResponse> {
        self.responses.pop_front()
    }

    fn push(&mut self, kind: ResourceType, push: Push) {
        let (Some((_, snapshot)), state) = (&self.client, &mut self.types[kind as usize]) else { return };
        let wanted = || snapshot.of_type(kind).iter().filter(|(name, _)| state.interest.includes(name));
        let changed: Vec<_> = wanted().filter(|(name, any)| state.sent.get(*name) != Some(any)).collect();
        let is_whole = kind.is_whole();
        let has_fewer = is_whole && is_missing(state, snapshot, kind);
        // A subscription to all resources of a type gets a response even if there are none, so that the client need not
        // wait.
        let is_due = !changed.is_empty() || has_fewer || (push == Push::Subscription && is_whole);
        if state.interest == Interest::Nothing || !is_due {
            return;
        }
        let resources = if is_whole {
            wanted().map(|(_, any)| any.clone()).collect()
        } else {
            changed.iter().map(|(_, any)| Any::clone(any)).collect()
        };
        let sent = wanted().map(|(name, any)| (Arc::clone(name), any.clone())).collect();
        state.sent = sent;
        self.nonce += 1;
        state.nonce = self.nonce.to_string();
        self.responses.push_back(DiscoveryResponse {
            version_info: self.mesh.version.to_string(),
            type_url: kind.type_url(),
            nonce: state.nonce.clone(),
            resources,
            ..DiscoveryResponse::default()
        });
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

/// Why a response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// The client has subscribed.
    Subscription,
    /// The mesh has changed.
    Change,
}

/// Whether the client has a resource that no longer exists.
fn is_missing(state: &TypeState, snapshot: &Snapshot, kind: ResourceType) -> bool {
    state.sent.keys().any(|name| !snapshot.of_type(kind).contains_key(name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;
    use crate::config::Strictness;
    use crate::diagnostic::Source;
    use crate::load::Loaded;
    use crate::translate::Role;

    const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b}
spec:
  hosts: [b.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.2}]
";

    fn mesh(text: &str, version: u64) -> Arc<Mesh> {
        let source = Arc::new(Source::new("a.yaml", text));
        let loaded = Loaded::from_sources(vec![source], Strictness::Strict);
        assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
        Arc::new(loaded.mesh.with_version(version))
    }

    fn request(resource_type: ResourceType, names: &[&str]) -> Request {
        Request {
            resource_type,
            resource_names: Arc::new(names.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<_>>()),
            version_info: Arc::default(),
            response_nonce: Arc::default(),
            node: Some(Arc::new(node::to_xds(&Node::client(Role::Library, "default")))),
            error: None,
        }
    }

    /// `TYPE: names` of every response that waits; each is acknowledged.
    fn responses(state: &mut StreamState) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(response) = state.poll_response() {
            let kind = ResourceType::from_type_url(&response.type_url).unwrap();
            let names: Vec<_> = response.resources.iter().map(|any| name_of(kind, any)).collect();
            all.push(format!("{kind:?}: {}", names.join(" ")));
            let interest = match &state.types[kind as usize].interest {
                Interest::Names(names) => Arc::clone(names),
                Interest::Nothing | Interest::Everything => Arc::default(),
            };
            let nonce = Arc::from(response.nonce);
            let ack = Request { resource_names: interest, response_nonce: nonce, node: None, ..request(kind, &[]) };
            state.handle_request(ack).unwrap();
        }
        all
    }

    fn name_of(kind: ResourceType, any: &Any) -> String {
        use mesh_xds::proto::envoy::config::{cluster, endpoint, listener, route};
        let bytes = any.value.as_slice();
        match kind {
            ResourceType::Secret => Secret::decode(bytes).unwrap().name,
            ResourceType::Cluster => cluster::v3::Cluster::decode(bytes).unwrap().name,
            ResourceType::ClusterLoadAssignment => {
                endpoint::v3::ClusterLoadAssignment::decode(bytes).unwrap().cluster_name
            }
            ResourceType::Listener => listener::v3::Listener::decode(bytes).unwrap().name,
            ResourceType::RouteConfiguration => route::v3::RouteConfiguration::decode(bytes).unwrap().name,
        }
    }

    #[test]
    fn an_undeclared_service_is_reported_with_similar_names() {
        let mesh = mesh(&SERVICES.replace("a.example", "shop.default.svc.cluster.local"), 1);
        let node = |service| Node::new(Role::Library, service, None, Default::default()).unwrap();
        assert_eq!(undeclared(&mesh, &node(Some("shop"))), None);
        assert_eq!(undeclared(&mesh, &node(None)), None);
        assert_eq!(
            undeclared(&mesh, &node(Some("shopp"))).unwrap(),
            "no ServiceEntry or Service declares the service shopp.default.svc.cluster.local of this program, \
             so other programs cannot call it; did you mean shop?"
        );
        let mut state = StreamState::new(Arc::clone(&mesh), Arc::default());
        let mut first = request(ResourceType::Listener, &[]);
        first.node = Some(Arc::new(node::to_xds(&node(Some("shopp")))));
        state.handle_request(first).unwrap();
        assert!(!state.is_declared);
    }

    #[test]
    fn a_subscription_gets_what_it_names_and_a_wildcard_everything() {
        let mut state = StreamState::new(mesh(SERVICES, 1), Arc::default());
        state.handle_request(request(ResourceType::Listener, &["a.example:80", "absent:80"])).unwrap();
        assert_eq!(responses(&mut state), ["Listener: a.example:80"]);
        state.handle_request(request(ResourceType::Listener, &["a.example:80", "b.example:80"])).unwrap();
        assert_eq!(responses(&mut state), ["Listener: a.example:80 b.example:80"]);
        state.handle_request(request(ResourceType::Cluster, &[])).unwrap();
        assert_eq!(responses(&mut state), ["Cluster: outbound|80||a.example outbound|80||b.example"]);
        state.handle_request(request(ResourceType::RouteConfiguration, &["outbound|80||a.example"])).unwrap();
        assert_eq!(responses(&mut state), ["RouteConfiguration: outbound|80||a.example"]);
        state.handle_request(request(ResourceType::ClusterLoadAssignment, &["outbound|80||absent"])).unwrap();
        assert_eq!(responses(&mut state), Vec::<String>::new());
    }

    #[test]
    fn a_change_brings_only_what_changed() {
        let mut state = StreamState::new(mesh(SERVICES, 1), Arc::default());
        let both = ["outbound|80||a.example", "outbound|80||b.example"];
        for kind in ResourceType::ALL {
            let names = if kind == ResourceType::ClusterLoadAssignment { &both[..] } else { &[] };
            state.handle_request(request(kind, names)).unwrap();
        }
        assert_eq!(responses(&mut state).len(), 4);
        state.handle_mesh(mesh(SERVICES, 2));
        assert_eq!(responses(&mut state), Vec::<String>::new());
        state.handle_mesh(mesh(&SERVICES.replace("127.0.0.2", "127.0.0.3"), 3));
        assert_eq!(responses(&mut state), ["ClusterLoadAssignment: outbound|80||b.example"]);
        let only_a = SERVICES.split("---").next().unwrap();
        state.handle_mesh(mesh(only_a, 4));
        assert_eq!(responses(&mut state), ["Cluster: outbound|80||a.example", "Listener: a.example:80"]);
    }

    #[test]
    fn stale_acknowledgements_and_nacks_change_nothing() {
        let mut state = StreamState::new(mesh(SERVICES, 1), Arc::default());
        state.handle_request(request(ResourceType::Cluster, &[])).unwrap();
        let nonce = Arc::from(state.poll_response().unwrap().nonce);
        let nack = Request { error: Some("no".into()), response_nonce: nonce, ..request(ResourceType::Cluster, &[]) };
        state.handle_request(nack).unwrap();
        let stale = Request { response_nonce: "other".into(), ..request(ResourceType::Cluster, &["a"]) };
        state.handle_request(stale).unwrap();
        assert!(state.poll_response().is_none());
        assert_eq!(state.types[ResourceType::Cluster as usize].interest, Interest::Everything);
    }

    #[test]
    fn a_client_must_identify_its_node() {
        let mut state = StreamState::new(mesh(SERVICES, 1), Arc::default());
        let anonymous = Request { node: None, ..request(ResourceType::Cluster, &[]) };
        assert_eq!(state.handle_request(anonymous).unwrap_err(), Refusal::Anonymous);
    }
}

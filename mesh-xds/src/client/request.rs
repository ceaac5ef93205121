//! A discovery request before it is encoded as protobuf.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::proto::google::rpc::Status;
use crate::resource::ResourceType;

/// gRPC's code INVALID_ARGUMENT, used in every NACK.
const INVALID_ARGUMENT: i32 = 3;

/// A subscription, or the acknowledgement of a response, or both.
///
/// The names are shared: an acknowledgement repeats all of them, and over an in-process transport that costs nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The type of the resources.
    pub resource_type: ResourceType,
    /// The requested names; empty on a first request = everything.
    pub resource_names: Arc<BTreeSet<Arc<str>>>,
    /// Version of the last response that was accepted completely; empty before the first.
    pub version_info: Arc<str>,
    /// Nonce of the response that is acknowledged; empty if none is.
    pub response_nonce: Arc<str>,
    /// The node of the client; in the first request of a stream only.
    pub node: Option<Arc<Node>>,
    /// Why resources of the response are refused: the request is a NACK.
    pub error: Option<String>,
    /// What the request changes in the subscription, in the incremental variant of the protocol; `None` = state of the world.
    pub changes: Option<Box<Changes>>,
}

/// What a request of the incremental variant changes in the subscription of its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names that are requested from now on; none in the first request = everything.
    pub subscribe: BTreeSet<Arc<str>>,
    /// Names that are no longer requested.
    pub unsubscribe: BTreeSet<Arc<str>>,
    /// Versions of the resources that the client has, in the first request of a stream.
    pub initial_resource_versions: BTreeMap<Arc<str>, Arc<str>>,
}

impl Changes {
    /// A subscription to these names.
    #[must_use]
    pub fn subscribing(names: BTreeSet<Arc<str>>) -> Self {
        Self { subscribe: names, ..Self::default() }
    }
}

impl Request {
    /// The first request for resources of a type, in the state-of-the-world variant; no names = everything.
    #[must_use]
    pub fn new(resource_type: ResourceType, resource_names: Arc<BTreeSet<Arc<str>>>) -> Self {
        Self {
            resource_type,
            resource_names,
            version_info: Arc::default(),
            response_nonce: Arc::default(),
            node: None,
            error: None,
            changes: None,
        }
    }
}

impl From<Request> for DeltaDiscoveryRequest {
    fn from(request: Request) -> Self {
        let changes = request.changes.map(|changes| *changes).unwrap_or_default();
        let names = |names: BTreeSet<Arc<str>>| names.iter().map(ToString::to_string).collect();
        let versions = changes.initial_resource_versions.iter();
        Self {
            node: request.node.map(|node| Node::clone(&node)),
            type_url: request.resource_type.type_url(),
            resource_names_subscribe: names(changes.subscribe),
            resource_names_unsubscribe: names(changes.unsubscribe),
            resource_locators_subscribe: Vec::new(),
            resource_locators_unsubscribe: Vec::new(),
            initial_resource_versions: versions
                .map(|(name, version)| (name.to_string(), version.to_string()))
                .collect(),
            response_nonce: request.response_nonce.to_string(),
            error_detail: request.error.map(|message| Status { code: INVALID_ARGUMENT, message, details: Vec::new() }),
        }
    }
}

impl From<Request> for DiscoveryRequest {
    fn from(request: Request) -> Self {
        Self {
            version_info: request.version_info.to_string(),
            node: request.node.map(|node| Node::clone(&node)),
            resource_names: request.resource_names.iter().map(ToString::to_string).collect(),
            resource_locators: Vec::new(),
            type_url: request.resource_type.type_url(),
            response_nonce: request.response_nonce.to_string(),
            error_detail: request.error.map(|message| Status { code: INVALID_ARGUMENT, message, details: Vec::new() }),
        }
    }
}

//! A discovery request before it is encoded as protobuf.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::DiscoveryRequest;
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

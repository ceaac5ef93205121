//! A discovery request before it is protobuf.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::DiscoveryRequest;
use crate::proto::google::rpc::Status;
use crate::resource::ResourceType;

/// gRPC's code of a request that makes no sense, used in every NACK.
const INVALID_ARGUMENT: i32 = 3;

/// A subscription or an answer to a response, or both.
///
/// The names are shared: an acknowledgement repeats all of them, and over an in-process transport that costs nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is asked for.
    pub resource_type: ResourceType,
    /// The names asked for; empty on a first request = everything.
    pub resource_names: Arc<BTreeSet<Arc<str>>>,
    /// Version of the last response that was taken whole; empty before the first.
    pub version_info: Arc<str>,
    /// Nonce of the response that is answered; empty if none is.
    pub response_nonce: Arc<str>,
    /// Who asks; in the first request of a stream only.
    pub node: Option<Arc<Node>>,
    /// Why the response is not taken, or not whole: this makes the answer a NACK.
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

//! A discovery response, of either variant of the protocol.

use crate::proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

/// A response of a control plane.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// State of the world: the resources as they are.
    Whole(DiscoveryResponse),
    /// Incremental: the resources that have changed.
    Incremental(DeltaDiscoveryResponse),
}

impl From<DiscoveryResponse> for Response {
    fn from(response: DiscoveryResponse) -> Self {
        Self::Whole(response)
    }
}

impl From<DeltaDiscoveryResponse> for Response {
    fn from(response: DeltaDiscoveryResponse) -> Self {
        Self::Incremental(response)
    }
}

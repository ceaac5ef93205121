//! The services of each gRPC port.

use std::sync::Arc;

use mesh_xds::proto::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use tonic::service::Routes;

use super::ads::Ads;
use super::authenticate::Authenticator;
use crate::ca::Authority;
use crate::server::ControlPlane;

/// What services are made of.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) control_plane: ControlPlane,
    pub(super) authority: Arc<Authority>,
    pub(super) authenticator: Arc<Authenticator>,
}

/// The services of the port without TLS.
pub(super) fn plain(context: &Context) -> Routes {
    Routes::new(AggregatedDiscoveryServiceServer::new(Ads::new(context)))
}

/// The services of the port with TLS, one in a line.
pub(super) fn secure(context: &Context) -> Routes {
    Routes::new(AggregatedDiscoveryServiceServer::new(Ads::new(context)))
}

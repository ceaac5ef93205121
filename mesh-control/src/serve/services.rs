//! The services of each gRPC port.

use std::sync::Arc;

use mesh_xds::proto::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use mesh_xds::proto::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingServiceServer;
use mesh_xds::proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use tonic::service::Routes;

use super::ads::Ads;
use super::authenticate::Authenticator;
use super::load_reports::{Loads, Lrs};
use crate::ca::service::{CertificateService, MAX_REQUEST_BYTES};
use crate::ca::{Authority, Lifetimes};
use crate::server::ControlPlane;

/// What services are made of.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) control_plane: ControlPlane,
    pub(super) authority: Arc<Authority>,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) lifetimes: Lifetimes,
    pub(super) loads: Arc<Loads>,
}

impl Context {
    fn lrs(&self) -> LoadReportingServiceServer<Lrs> {
        let (loads, authenticator) = (Arc::clone(&self.loads), Arc::clone(&self.authenticator));
        LoadReportingServiceServer::new(Lrs { loads, authenticator })
    }
}

/// The services of the port without TLS.
pub(super) fn plain(context: &Context) -> Routes {
    Routes::new(AggregatedDiscoveryServiceServer::new(Ads::new(context))).add_service(context.lrs())
}

/// The services of the port with TLS, one in a line.
pub(super) fn secure(context: &Context) -> Routes {
    Routes::new(AggregatedDiscoveryServiceServer::new(Ads::new(context)))
        .add_service(certificates(context))
        .add_service(context.lrs())
}

fn certificates(context: &Context) -> IstioCertificateServiceServer<CertificateService> {
    let authority = Arc::clone(&context.authority);
    let service = CertificateService::new(authority, Arc::clone(&context.authenticator) as _, context.lifetimes);
    IstioCertificateServiceServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES)
}

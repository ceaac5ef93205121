//! Asks the service.

use std::{error::Error, sync::Arc};

use mesh_core::{
    filter::ext_authz::{
        Authorization, CheckFormat, CheckRequest, ExtAuthz, GrpcService, HttpService, MAX_RESPONSE_BYTES, Service,
    },
    model::ClusterName,
};

use super::{super::FilterFactory, AnyAuthorizer};
use crate::cluster_client::{ClientOptions, ClusterClient, Fetched};

/// What decides about requests, and the connections to it.
#[derive(Debug)]
pub(super) enum Ask {
    Http(HttpService, Arc<dyn ClusterClient>),
    Grpc(GrpcService, CheckFormat, Arc<dyn ClusterClient>),
    /// `None` = nothing decides, so no request is allowed.
    InProcess(Option<Arc<dyn AnyAuthorizer>>),
}

impl Ask {
    pub(super) fn new(config: &ExtAuthz, factory: &FilterFactory<'_>) -> Self {
        let client = |cluster: &ClusterName, timeout, send_xff| {
            factory.client(cluster, &ClientOptions { timeout, send_xff, ..ClientOptions::default() })
        };
        match &config.service {
            Service::Http(http) => Self::Http(http.clone(), client(&http.cluster, http.timeout, false)),
            Service::Grpc(grpc) => {
                let format = CheckFormat { pack_as_bytes: false, encode_raw_headers: config.encode_raw_headers };
                Self::Grpc(grpc.clone(), format, client(&grpc.cluster, grpc.timeout, true))
            }
            Service::InProcess => Self::InProcess(factory.authorizer.cloned()),
        }
    }

    /// Asks about a request. A failure of any kind is [`Authorization::Failed`].
    pub(super) async fn authorize(&self, check: &CheckRequest, pack_as_bytes: bool) -> Authorization {
        match self {
            Self::Http(service, client) => {
                let Some(request) = service.request(check) else { return Authorization::Failed(None) };
                let decide = |fetched: Fetched| service.authorization(&fetched.head, fetched.body);
                fetch(client, request).await.map_or(Authorization::Failed(None), decide)
            }
            Self::Grpc(service, format, client) => {
                ask_grpc(service, client, check, CheckFormat { pack_as_bytes, ..*format }).await
            }
            Self::InProcess(Some(authorizer)) => authorizer.authorize(check).await,
            Self::InProcess(None) => Authorization::Failed(None),
        }
    }
}

/// Asks a service over gRPC. A failure of any kind is [`Authorization::Failed`].
pub(crate) async fn ask_grpc(
    service: &GrpcService,
    client: &Arc<dyn ClusterClient>,
    check: &CheckRequest,
    format: CheckFormat,
) -> Authorization {
    let decide = |fetched: Fetched| service.authorization(&fetched.head, &fetched.body, fetched.trailers.as_ref());
    fetch(client, service.request(check, format)).await.map_or(Authorization::Failed(None), decide)
}

async fn fetch(client: &Arc<dyn ClusterClient>, request: http::Request<bytes::Bytes>) -> Option<Fetched> {
    let fetched = client.fetch(request, MAX_RESPONSE_BYTES).await;
    fetched.inspect_err(|error| tracing::debug!(error = error as &dyn Error, "an authorization check failed")).ok()
}

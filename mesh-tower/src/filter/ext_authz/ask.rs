//! Asks the service.

use std::sync::Arc;

use mesh_core::filter::ext_authz::{Authorization, CheckFormat, CheckRequest, ExtAuthz, MAX_RESPONSE_BYTES, Service};

use super::super::FilterFactory;
use crate::cluster_client::{ClientOptions, ClusterClient};

/// A service that decides about requests, and the connections to it.
#[derive(Debug)]
pub(super) struct Ask {
    config: Arc<ExtAuthz>,
    client: Arc<dyn ClusterClient>,
}

impl Ask {
    pub(super) fn new(config: &Arc<ExtAuthz>, factory: &FilterFactory<'_>) -> Self {
        let (cluster, timeout, send_xff) = match &config.service {
            Service::Http(http) => (&http.cluster, http.timeout, false),
            Service::Grpc(grpc) => (&grpc.cluster, grpc.timeout, true),
        };
        let options = ClientOptions { timeout, send_xff, ..ClientOptions::default() };
        Self { client: factory.client(cluster, &options), config: Arc::clone(config) }
    }

    /// Asks about a request. A failure of any kind is [`Authorization::Failed`].
    pub(super) async fn authorize(&self, check: &CheckRequest, pack_as_bytes: bool) -> Authorization {
        let request = match &self.config.service {
            Service::Http(http) => http.request(check),
            Service::Grpc(grpc) => {
                let format = CheckFormat { pack_as_bytes, encode_raw_headers: self.config.encode_raw_headers };
                Some(grpc.request(check, format))
            }
        };
        let Some(request) = request else { return Authorization::Failed(None) };
        let fetched = match self.client.fetch(request, MAX_RESPONSE_BYTES).await {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "an authorization check failed");
                return Authorization::Failed(None);
            }
        };
        match &self.config.service {
            Service::Http(http) => http.authorization(&fetched.head, fetched.body),
            Service::Grpc(grpc) => grpc.authorization(&fetched.head, &fetched.body, fetched.trailers.as_ref()),
        }
    }
}

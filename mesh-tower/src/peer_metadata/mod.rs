//! The exchange of workload metadata between client and server, in headers. Istio's HTTP filter
//! `io.istio.http.peer_metadata`.
//!
//! ```text
//! client ── x-envoy-peer-metadata-id, x-envoy-peer-metadata ──► server: removes them from the request
//!        ◄── those of the server, if the request had them ───           source_* of its metrics
//! destination_* of its metrics
//! ```
//!
//! Outbound requests never pass on headers of the client: both headers are replaced or removed. The values of a workload
//! are encoded once; a request costs two insertions.

mod cache;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use mesh_core::{
    model::{MetadataExchange, PeerMetadata, Workload},
    telemetry::peer_metadata::{X_ENVOY_PEER_METADATA, X_ENVOY_PEER_METADATA_ID, encode},
};

/// The metadata that a workload sends about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    id: HeaderValue,
    metadata: HeaderValue,
}

impl LocalPeer {
    /// The metadata of `workload`, whose node id in xDS is `id`. `None` if the id is not a valid header value.
    #[must_use]
    pub fn new(id: &str, workload: &Workload) -> Option<Self> {
        // The metadata is base64, so only the id can be invalid.
        Some(Self { id: HeaderValue::try_from(id).ok()?, metadata: HeaderValue::try_from(encode(workload)).ok()? })
    }
}

/// The exchange of a listener. By default it neither sends nor reads metadata. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub struct PeerExchange {
    config: PeerMetadata,
    local: Option<Arc<LocalPeer>>,
}

/// The metadata that a request had.
#[derive(Debug, Default)]
pub(crate) struct ClientMetadata {
    has_id: bool,
    has_metadata: bool,
    pub(crate) client: Option<Arc<Workload>>,
}

impl PeerExchange {
    /// The exchange that a listener configures; `local` is sent.
    #[must_use]
    pub fn new(config: PeerMetadata, local: Option<Arc<LocalPeer>>) -> Self {
        Self { config, local }
    }

    /// Removes the client's metadata from its request.
    pub(crate) fn receive_request(&self, headers: &mut HeaderMap) -> ClientMetadata {
        if !self.config.downstream_discovery {
            return ClientMetadata::default();
        }
        let (id, metadata) = take(headers);
        ClientMetadata {
            has_id: id.is_some(),
            has_metadata: metadata.is_some(),
            client: metadata.as_ref().and_then(cache::peer),
        }
    }

    /// Adds the metadata of this workload to a response, if the request had the client's.
    pub(crate) fn send_response(&self, headers: &mut HeaderMap, request: &ClientMetadata) {
        if !self.config.downstream_propagation {
            return;
        }
        let Some(local) = &self.local else { return };
        if request.has_id {
            headers.insert(X_ENVOY_PEER_METADATA_ID, local.id.clone());
        }
        if request.has_metadata {
            headers.insert(X_ENVOY_PEER_METADATA, local.metadata.clone());
        }
    }

    /// Adds the metadata of this workload to a request, or removes the client's, depending on the cluster.
    pub(crate) fn send_request(&self, headers: &mut HeaderMap, cluster: MetadataExchange) {
        let Some(propagation) = self.config.upstream_propagation else { return };
        match &self.local {
            Some(local) if propagation.reaches(cluster) => {
                headers.insert(X_ENVOY_PEER_METADATA_ID, local.id.clone());
                headers.insert(X_ENVOY_PEER_METADATA, local.metadata.clone());
            }
            Some(_) | None => drop(take(headers)),
        }
    }

    /// Removes the server's metadata from its response.
    pub(crate) fn receive_response(&self, headers: &mut HeaderMap) -> Option<Arc<Workload>> {
        if !self.config.upstream_discovery {
            return None;
        }
        let (_, metadata) = take(headers);
        cache::peer(&metadata?)
    }
}

#[inline(never)]
fn take(headers: &mut HeaderMap) -> (Option<HeaderValue>, Option<HeaderValue>) {
    (headers.remove(X_ENVOY_PEER_METADATA_ID), headers.remove(X_ENVOY_PEER_METADATA))
}

#[cfg(test)]
mod tests;

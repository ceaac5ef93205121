//! The two ends of a request tell each other who they are, in headers (`features.md` M14). Istio's HTTP filter
//! `io.istio.http.peer_metadata`.
//!
//! ```text
//! client ── x-envoy-peer-metadata-id, x-envoy-peer-metadata ──► server: takes them out before the program sees them
//!        ◄── the same of the server, if the request had them ──         source_* of its metrics
//! destination_* of its metrics
//! ```
//!
//! On the way out both headers are replaced or taken out, never passed on: what a stranger says of himself ends at the
//! edge. What a workload says is made once; a request pays two insertions.

mod known;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use mesh_core::{
    model::{MetadataExchange, PeerMetadata, Workload},
    telemetry::peer_metadata::{X_ENVOY_PEER_METADATA, X_ENVOY_PEER_METADATA_ID, encode},
};

/// What a workload tells about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    id: HeaderValue,
    metadata: HeaderValue,
}

impl LocalPeer {
    /// Of `workload`, which control planes know as the node `id`. `None` if the id cannot stand in a header.
    #[must_use]
    pub fn new(id: &str, workload: &Workload) -> Option<Self> {
        // What is encoded is base64, so only the id can fail.
        Some(Self { id: HeaderValue::try_from(id).ok()?, metadata: HeaderValue::try_from(encode(workload)).ok()? })
    }
}

/// What a listener tells and believes. Default nothing. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub struct PeerExchange {
    config: PeerMetadata,
    local: Option<Arc<LocalPeer>>,
}

/// What a request told of its client.
#[derive(Debug, Default)]
pub(crate) struct Introduction {
    told_id: bool,
    told_metadata: bool,
    pub(crate) client: Option<Arc<Workload>>,
}

impl PeerExchange {
    /// The exchange that a listener configures, with what `local` says about this workload.
    #[must_use]
    pub fn new(config: PeerMetadata, local: Option<Arc<LocalPeer>>) -> Self {
        Self { config, local }
    }

    /// Takes what a client tells out of its request.
    pub(crate) fn receive_request(&self, headers: &mut HeaderMap) -> Introduction {
        if !self.config.downstream_discovery {
            return Introduction::default();
        }
        let (id, metadata) = take(headers);
        Introduction {
            told_id: id.is_some(),
            told_metadata: metadata.is_some(),
            client: metadata.as_ref().and_then(known::client),
        }
    }

    /// Answers a client that has introduced itself.
    pub(crate) fn send_response(&self, headers: &mut HeaderMap, request: &Introduction) {
        if !self.config.downstream_propagation {
            return;
        }
        let Some(local) = &self.local else { return };
        if request.told_id {
            headers.insert(X_ENVOY_PEER_METADATA_ID, local.id.clone());
        }
        if request.told_metadata {
            headers.insert(X_ENVOY_PEER_METADATA, local.metadata.clone());
        }
    }

    /// Tells a server who calls it, if servers of such clusters are told.
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

    /// Takes what a server tells out of its response.
    pub(crate) fn receive_response(&self, headers: &mut HeaderMap) -> Option<Arc<Workload>> {
        if !self.config.upstream_discovery {
            return None;
        }
        let (_, metadata) = take(headers);
        known::server(&metadata?)
    }
}

#[inline(never)]
fn take(headers: &mut HeaderMap) -> (Option<HeaderValue>, Option<HeaderValue>) {
    (headers.remove(X_ENVOY_PEER_METADATA_ID), headers.remove(X_ENVOY_PEER_METADATA))
}

#[cfg(test)]
mod tests;

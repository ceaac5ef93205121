//! What the two ends of a request tell each other about themselves. Istio `io.istio.http.peer_metadata.Config`, of which
//! the headers `x-envoy-peer-metadata-id` and `x-envoy-peer-metadata` are obeyed (`features.md` M14).

/// Whose metadata a listener reads, and to whom it tells its own. Default nobody's and nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerMetadata {
    /// Read what the client tells in its request, and take it out. `downstream_discovery: istio_headers`.
    pub downstream_discovery: bool,
    /// Read what the server tells in its response, and take it out. `upstream_discovery: istio_headers`.
    pub upstream_discovery: bool,
    /// Tell a client that has told. `downstream_propagation: istio_headers`.
    pub downstream_propagation: bool,
    /// Tell the server; `None` = do not. `upstream_propagation: istio_headers`.
    pub upstream_propagation: Option<UpstreamPropagation>,
}

/// Which servers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamPropagation {
    /// Not those outside of the mesh. Default false. Istio `skip_external_clusters`.
    pub skip_external_clusters: bool,
}

/// What a cluster's metadata say about telling its endpoints: `filter_metadata.istio.external` and `disable_mx`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataExchange {
    /// They are told.
    #[default]
    Enabled,
    /// They are outside of the mesh.
    External,
    /// They must not be told. Istio `disable_mx`.
    Disabled,
}

impl UpstreamPropagation {
    /// Whether the endpoints of a cluster are told.
    #[must_use]
    pub fn reaches(self, cluster: MetadataExchange) -> bool {
        match cluster {
            MetadataExchange::Enabled => true,
            MetadataExchange::External => !self.skip_external_clusters,
            MetadataExchange::Disabled => false,
        }
    }
}

//! Exchange of workload metadata between the two ends of a request. Istio `io.istio.http.peer_metadata.Config`, of which
//! discovery and propagation by `istio_headers` are supported: `x-envoy-peer-metadata-id` and `x-envoy-peer-metadata`.

/// Which metadata headers a listener reads and sends. Default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerMetadata {
    /// Read the client's metadata from the request headers and remove them. `downstream_discovery: istio_headers`.
    pub downstream_discovery: bool,
    /// Read the server's metadata from the response headers and remove them. `upstream_discovery: istio_headers`.
    pub upstream_discovery: bool,
    /// Send metadata to clients that have sent theirs. `downstream_propagation: istio_headers`.
    pub downstream_propagation: bool,
    /// Send metadata to servers; `None` = do not. `upstream_propagation: istio_headers`.
    pub upstream_propagation: Option<UpstreamPropagation>,
}

/// Which servers metadata is sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamPropagation {
    /// Send none to servers outside of the mesh. Default false. Istio `skip_external_clusters`.
    pub skip_external_clusters: bool,
}

/// Whether a cluster's endpoints take part in the exchange, from the cluster's `filter_metadata.istio`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataExchange {
    /// They take part.
    #[default]
    Enabled,
    /// They are outside of the mesh. Istio `external`.
    External,
    /// They do not take part. Istio `disable_mx`.
    Disabled,
}

impl UpstreamPropagation {
    /// Whether metadata is sent to the endpoints of a cluster.
    #[must_use]
    pub fn reaches(self, cluster: MetadataExchange) -> bool {
        match cluster {
            MetadataExchange::Enabled => true,
            MetadataExchange::External => !self.skip_external_clusters,
            MetadataExchange::Disabled => false,
        }
    }
}

//! External authorization of connections.

use std::sync::Arc;

use super::{CheckRequest, GrpcService, NamedCluster, RequestFacts, check};
use crate::value::{Metadata, MetadataMatcher};

/// Asks a service whether a connection is allowed. Envoy `filters.network.ext_authz.v3.ExtAuthz`.
///
/// The service is asked once, when the connection is established. Envoy asks when the first bytes of the client arrive;
/// until then a client that is denied has a connection to the endpoint.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkExtAuthz {
    /// The service that is asked.
    pub service: GrpcService,
    /// Allow connections if the service fails. Default false.
    pub failure_mode_allow: bool,
    /// Send the certificate of the client. Default false.
    pub include_peer_certificate: bool,
    /// Send the server name of TLS. Default false.
    pub include_tls_session: bool,
    /// Only connections whose dynamic metadata, of earlier filters, matches are checked; `None` = all, the default.
    pub filter_enabled_metadata: Option<MetadataMatcher>,
    /// Namespaces of dynamic metadata that the service gets. Default none.
    pub metadata_context_namespaces: Vec<Box<str>>,
    /// Part of the names of statistics: `ext_authz.<stat_prefix>.ok`.
    pub stat_prefix: Arc<str>,
}

impl NetworkExtAuthz {
    /// The namespace of the dynamic metadata that the service sends.
    pub const METADATA: &str = "envoy.filters.network.ext_authz";

    /// A filter that asks `service`, with Envoy's defaults.
    #[must_use]
    pub fn new(service: GrpcService, stat_prefix: &str) -> Self {
        Self {
            service,
            failure_mode_allow: false,
            include_peer_certificate: false,
            include_tls_session: false,
            filter_enabled_metadata: None,
            metadata_context_namespaces: Vec::new(),
            stat_prefix: stat_prefix.into(),
        }
    }

    /// Whether a connection with this dynamic metadata is checked.
    #[must_use]
    pub fn applies(&self, metadata: Option<&Metadata>) -> bool {
        self.filter_enabled_metadata.as_ref().is_none_or(|matcher| matcher.matches(metadata))
    }

    /// What the service is asked about a connection.
    #[must_use]
    pub fn check_request(&self, facts: &RequestFacts<'_>) -> CheckRequest {
        let sni = facts.requested_server_name.filter(|_| facts.tls.is_some()).cloned();
        CheckRequest {
            source: check::source(facts, "", self.include_peer_certificate),
            destination: check::destination(facts),
            time: facts.start_time,
            id: "".into(),
            method: "".into(),
            path: "".into(),
            host: "".into(),
            scheme: "".into(),
            protocol: "",
            size: 0,
            headers: Vec::new(),
            body: None,
            context_extensions: std::collections::BTreeMap::new(),
            metadata_context: check::namespaces(facts.dynamic_metadata, &self.metadata_context_namespaces),
            route_metadata_context: Metadata::default(),
            sni: self.include_tls_session.then(|| sni.unwrap_or_default()),
        }
    }

    /// The clusters that it refers to.
    #[must_use]
    pub fn clusters(&self) -> Vec<NamedCluster<'_>> {
        vec![NamedCluster::new("grpc_service.envoy_grpc.cluster_name", &self.service.cluster)]
    }
}

impl CheckRequest {
    /// Whether it is about a connection, and not about a request.
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        self.method.is_empty()
    }
}

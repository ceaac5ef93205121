//! External authorization: asks a service whether a request is allowed.
//!
//! ```text
//! request ──► applies? ──► CheckRequest ──► http or grpc ──► the service ──► Authorization
//!                                                                              ├─ Allowed: changes of the request, and of the response
//!                                                                              ├─ Denied: the response
//!                                                                              └─ Failed: 403, or the request is allowed (failure_mode_allow)
//! ```
//!
//! The service is asked over HTTP ([`http`]) or gRPC ([`grpc`]). Only what the configuration allows passes: of the client's headers to the
//! service, and of the service's headers upstream and to the client. A header that the service may set replaces the
//! client's own.
//!
//! Differences from Envoy: what the service sends that is no valid header or path is refused in any case, and not only with
//! `validate_mutations`. The identity of a peer is used only if it is verified.
//!
//! A service over gRPC may also be asked about connections that are not HTTP: [`NetworkExtAuthz`].
//!
//! Envoy `filters.http.ext_authz.v3` and "External Authorization".

mod apply;
mod authorization;
mod check;
pub mod grpc;
pub mod http;
mod mutation_rules;
mod network;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use ::http::StatusCode;
use bytes::Bytes;

pub use self::{
    apply::{InvalidChange, apply_to_request, apply_to_response, headers_of_response},
    authorization::{Allowed, Authorization, ChangeAction, Denied, HeaderChange},
    check::{CheckBody, CheckRequest, Peer, RequestFacts},
    grpc::GrpcService,
    http::HttpService,
    mutation_rules::MutationRules,
    network::NetworkExtAuthz,
};
use super::{NamedCluster, ResolvedOverride};
use crate::value::{FractionalPercent, Metadata, MetadataMatcher, StringMatcher};

/// The filter in a chain. Envoy `filters.http.ext_authz.v3.ExtAuthz`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "these are independent settings, under Envoy's names")]
pub struct ExtAuthz {
    /// The service that is asked.
    pub service: Service,
    /// Allow requests if the service fails. Default false.
    pub failure_mode_allow: bool,
    /// Add `x-envoy-auth-failure-mode-allowed: true` to such requests. Default false.
    pub failure_mode_allow_header_add: bool,
    /// Send the body of the request; `None` = do not, the default.
    pub with_request_body: Option<BufferSettings>,
    /// Route the request again if the service has changed it. Default false.
    pub clear_route_cache: bool,
    /// Status of the response if the service fails. Default 403.
    pub status_on_error: StatusCode,
    /// Namespaces of dynamic metadata that the service gets. Default none.
    pub metadata_context_namespaces: Vec<Box<str>>,
    /// Namespaces of the route's metadata that the service gets. Default none.
    pub route_metadata_context_namespaces: Vec<Box<str>>,
    /// Share of requests that are checked. Default always.
    pub filter_enabled: FractionalPercent,
    /// Only requests whose dynamic metadata, of earlier filters, matches are checked; `None` = all, the default.
    pub filter_enabled_metadata: Option<MetadataMatcher>,
    /// Deny the requests that are not checked because of [`Self::filter_enabled`] or [`Self::filter_enabled_metadata`]. Default
    /// false.
    pub deny_at_disable: bool,
    /// Send the certificate of the client. Default false.
    pub include_peer_certificate: bool,
    /// Send the server name of TLS. Default false.
    pub include_tls_session: bool,
    /// Part of the names of statistics: `ext_authz.<stat_prefix>.ok`; empty = none.
    pub stat_prefix: Arc<str>,
    /// The headers of the request that the service gets; `None` = all over gRPC, and only the necessary ones over HTTP.
    pub allowed_headers: Option<Vec<StringMatcher>>,
    /// The headers that the service does not get. They take precedence.
    pub disallowed_headers: Vec<StringMatcher>,
    /// Send headers in the form of `header_map` over gRPC: all lines, as bytes. Default false.
    pub encode_raw_headers: bool,
    /// Count the responses to denied requests in the statistics of the route's cluster. Default true.
    pub charge_cluster_response_stats: bool,
    /// Keep the dynamic metadata of the service's responses. Default true.
    pub enable_dynamic_metadata_ingestion: bool,
    /// Which headers of the request the service may change; `None` = all, the default.
    pub decoder_header_mutation_rules: Option<MutationRules>,
}

/// How a service is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Service {
    /// Over HTTP.
    Http(HttpService),
    /// Over gRPC.
    Grpc(GrpcService),
    /// Code of the program, in a layer. Anywhere else, every request is denied.
    InProcess,
}

/// How much of the body is sent. Envoy `BufferSettings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferSettings {
    /// In bytes, at least 1.
    pub max_request_bytes: usize,
    /// Send the beginning of a larger body, instead of refusing the request with 413. Default false.
    pub allow_partial_message: bool,
    /// Send it as bytes over gRPC. Otherwise, invalid UTF-8 in it becomes `!`. Default false.
    pub pack_as_bytes: bool,
}

impl BufferSettings {
    /// Sends bodies of up to `max_request_bytes`.
    #[must_use]
    pub fn new(max_request_bytes: usize) -> Self {
        Self { max_request_bytes, allow_partial_message: false, pack_as_bytes: false }
    }
}

/// The filter for a part of the routes. Envoy `ExtAuthzPerRoute`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtAuthzPerRoute {
    /// Do not ask the service. Default false.
    pub disabled: bool,
    /// Values for the service, in addition to those of less specific parts.
    pub context_extensions: BTreeMap<Box<str>, Box<str>>,
    /// Do not send the body. Default false.
    pub disable_request_body_buffering: bool,
    /// Send the body like this; `None` = as the chain says.
    pub with_request_body: Option<BufferSettings>,
}

impl ExtAuthz {
    /// A filter that asks `service`, with Envoy's defaults.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self {
            service,
            failure_mode_allow: false,
            failure_mode_allow_header_add: false,
            with_request_body: None,
            clear_route_cache: false,
            status_on_error: StatusCode::FORBIDDEN,
            metadata_context_namespaces: Vec::new(),
            route_metadata_context_namespaces: Vec::new(),
            filter_enabled: FractionalPercent::ALWAYS,
            filter_enabled_metadata: None,
            deny_at_disable: false,
            include_peer_certificate: false,
            include_tls_session: false,
            stat_prefix: "".into(),
            allowed_headers: None,
            disallowed_headers: Vec::new(),
            encode_raw_headers: false,
            charge_cluster_response_stats: true,
            enable_dynamic_metadata_ingestion: true,
            decoder_header_mutation_rules: None,
        }
    }

    /// The cluster of the service.
    #[must_use]
    pub fn clusters(&self) -> Vec<NamedCluster<'_>> {
        match &self.service {
            Service::Http(http) => vec![NamedCluster::new("http_service.server_uri.cluster", &http.cluster)],
            Service::Grpc(grpc) => vec![NamedCluster::new("grpc_service.envoy_grpc.cluster_name", &grpc.cluster)],
            Service::InProcess => Vec::new(),
        }
    }

    /// Whether the service gets the header `name`, in lower case, or a pseudo-header such as `:path`.
    fn sends_header(&self, name: &str) -> bool {
        let is_any = |matchers: &[StringMatcher]| matchers.iter().any(|matcher| matcher.matches(name));
        if is_any(&self.disallowed_headers) {
            return false;
        }
        match (&self.service, &self.allowed_headers) {
            (Service::Grpc(_) | Service::InProcess, None) => true,
            (Service::Grpc(_) | Service::InProcess, Some(allowed)) => is_any(allowed),
            (Service::Http(_), allowed) => http::NECESSARY.contains(&name) || allowed.as_deref().is_some_and(is_any),
        }
    }

    /// Whether and how a request with this dynamic metadata is checked, where the route has these overrides. `draw` is a random
    /// number.
    #[must_use]
    pub fn applies(&self, resolved: Option<&ResolvedOverride>, metadata: Option<&Metadata>, draw: u64) -> Applies {
        let most_specific = resolved.and_then(ResolvedOverride::most_specific::<Self>);
        if most_specific.is_some_and(|route| route.disabled) {
            return Applies::Skip;
        }
        let is_selected = |matcher: &MetadataMatcher| matcher.matches(metadata);
        if !self.filter_enabled.hits(draw) || !self.filter_enabled_metadata.as_ref().is_none_or(is_selected) {
            return if self.deny_at_disable { Applies::Deny } else { Applies::Disabled };
        }
        let body = most_specific.and_then(|route| route.with_request_body).or(self.with_request_body);
        let body = body.filter(|_| !most_specific.is_some_and(|route| route.disable_request_body_buffering));
        let mut context_extensions = BTreeMap::new();
        for route in resolved.into_iter().flat_map(|resolved| resolved.configs::<Self>().rev()) {
            context_extensions.extend(route.context_extensions.clone());
        }
        Applies::Check(CheckSettings { with_request_body: body, context_extensions })
    }
}

/// Whether a request is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applies {
    /// The route turns the filter off.
    Skip,
    /// It is not among the requests that are checked.
    Disabled,
    /// As [`Self::Disabled`], and therefore denied.
    Deny,
    /// It is checked.
    Check(CheckSettings),
}

/// How a request is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckSettings {
    /// How much of the body is sent; `None` = nothing.
    pub with_request_body: Option<BufferSettings>,
    /// Values for the service.
    pub context_extensions: BTreeMap<Box<str>, Box<str>>,
}

/// Encodes the messages of Envoy's `envoy.service.auth.v3`, which this crate has no code for.
pub trait CheckCodec: fmt::Debug + Send + Sync {
    /// The `CheckRequest`, without the prefix of gRPC.
    fn encode(&self, check: &CheckRequest, format: CheckFormat) -> Bytes;

    /// What a `CheckResponse` says; `None` if it is malformed.
    fn decode(&self, message: &[u8]) -> Option<Authorization>;
}

/// The form of a `CheckRequest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckFormat {
    /// The body is in `raw_body`.
    pub pack_as_bytes: bool,
    /// Headers are in `header_map`.
    pub encode_raw_headers: bool,
}

/// How long a check over gRPC may take, if nothing else is configured.
pub const DEFAULT_GRPC_TIMEOUT: Duration = Duration::from_millis(200);

/// Maximum size of a response of the service, in bytes: 1 MiB. Larger ones are failures of the service.
pub const MAX_RESPONSE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;

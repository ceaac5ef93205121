//! End-user authentication: verifies JSON Web Tokens, as [`mesh_core::filter::jwt_authn`] decides. Envoy
//! `envoy.filters.http.jwt_authn`.
//!
//! Signatures are verified by aws-lc-rs, with the feature `tls` only. Without it, listeners with the filter are refused.

mod attempt;
mod provider_keys;
mod remote;
#[cfg(not(feature = "tls"))]
#[path = "no_signature.rs"]
mod signature;
#[cfg(feature = "tls")]
mod signature;

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use mesh_core::{
    filter::jwt_authn::{JwtAuthn, JwtStatus, METADATA_NAMESPACE, Outcome, UnknownRequirement, is_cors_preflight},
    local_reply::LocalReply,
    model::MetadataValue,
    request::RequestHead,
    telemetry::{Counter, ResponseFlags, details},
};

use self::{
    attempt::{Attempt, Progress},
    provider_keys::ProviderKeys,
    signature::VerificationKeys,
};
use super::{FilterFactory, FilterReply, FilterRequest, FilterStatus, HttpFilter};
use crate::telemetry::HttpStats;

/// Whether signatures can be verified.
pub(crate) const IS_SUPPORTED: bool = cfg!(feature = "tls");

/// The longest path and query in `www-authenticate`, in bytes. As in Envoy.
const MAX_REALM_PATH: usize = 256;

/// Verifies tokens.
#[derive(Debug)]
pub(crate) struct JwtAuthnFilter {
    config: Arc<JwtAuthn>,
    /// In the order of the providers.
    keys: Box<[ProviderKeys]>,
    stats: Arc<JwtStats>,
}

/// Envoy `http.<stat_prefix>.jwt_authn.`.
#[derive(Debug)]
struct JwtStats {
    allowed: Arc<Counter>,
    cors_preflight_bypassed: Arc<Counter>,
    denied: Arc<Counter>,
    jwks_fetch_success: Arc<Counter>,
    jwks_fetch_failed: Arc<Counter>,
    jwt_cache_hit: Arc<Counter>,
    jwt_cache_miss: Arc<Counter>,
}

impl JwtStats {
    fn new(prefix: &str, stats: &HttpStats) -> Self {
        let counter = |name: &'static str| match prefix {
            "" => stats.counter(Cow::Owned(format!("jwt_authn.{name}"))),
            prefix => stats.counter(Cow::Owned(format!("jwt_authn.{prefix}.{name}"))),
        };
        Self {
            allowed: counter("allowed"),
            cors_preflight_bypassed: counter("cors_preflight_bypassed"),
            denied: counter("denied"),
            jwks_fetch_success: counter("jwks_fetch_success"),
            jwks_fetch_failed: counter("jwks_fetch_failed"),
            jwt_cache_hit: counter("jwt_cache_hit"),
            jwt_cache_miss: counter("jwt_cache_miss"),
        }
    }
}

impl HttpFilter for JwtAuthnFilter {
    type Config = JwtAuthn;
    type State = ();

    fn new(config: &Arc<JwtAuthn>, factory: &FilterFactory<'_>) -> Self {
        let stats = Arc::new(JwtStats::new(&config.stat_prefix, factory.stats));
        let keys = config.providers().iter().map(|provider| ProviderKeys::new(provider, factory, &stats)).collect();
        Self { config: Arc::clone(config), keys, stats }
    }

    fn on_request<'a>(&'a self, (): &'a mut (), mut request: FilterRequest<'a>) -> FilterStatus<'a> {
        let per_route =
            request.resolved().and_then(|resolved| resolved.most_specific::<JwtAuthn>()).map(|config| &**config);
        if !matches!(per_route, Some(mesh_core::filter::jwt_authn::PerRoute::Disabled)) {
            self.config.remove_output_headers(&mut request.head_mut().headers);
        }
        let head = RequestHead::from_parts(request.head());
        if self.config.bypass_cors_preflight && is_cors_preflight(&head) {
            self.stats.cors_preflight_bypassed.inc();
            self.stats.allowed.inc();
            return FilterStatus::Continue;
        }
        let requirement = match self.config.requirement(&head, per_route) {
            Ok(Some(requirement)) => requirement,
            Ok(None) => {
                self.stats.allowed.inc();
                return FilterStatus::Continue;
            }
            Err(unknown) => return FilterStatus::Reply(self.unknown_requirement(&unknown)),
        };
        let mut attempt = Attempt::new(self, requirement);
        match attempt.advance(request.head_mut()) {
            Progress::Done(outcome) => match self.finish(outcome, attempt, &mut request) {
                Some(reply) => FilterStatus::Reply(reply),
                None => FilterStatus::Continue,
            },
            Progress::Wait(provider) => FilterStatus::Wait(Box::pin(async move {
                let mut provider = provider;
                loop {
                    if let Some(remote) = self.keys[provider].remote() {
                        remote.wait().await;
                    }
                    attempt.has_waited_for(provider);
                    match attempt.advance(request.head_mut()) {
                        Progress::Done(outcome) => return self.finish(outcome, attempt, &mut request),
                        Progress::Wait(next) => provider = next,
                    }
                }
            })),
        }
    }
}

impl JwtAuthnFilter {
    /// Counts the outcome and sets metadata. The reply, if the request is refused.
    fn finish(
        &self,
        outcome: Outcome,
        mut attempt: Attempt<'_>,
        request: &mut FilterRequest<'_>,
    ) -> Option<FilterReply> {
        let metadata = attempt.take_metadata();
        if !metadata.is_empty() {
            request.info().state().set_dynamic_metadata(METADATA_NAMESPACE, MetadataValue::Object(metadata));
        }
        match outcome {
            Ok(()) => {
                if attempt.clears_route_cache() {
                    request.clear_route_cache();
                }
                self.stats.allowed.inc();
                None
            }
            Err(status) => Some(self.refuse(status, &RequestHead::from_parts(request.head()))),
        }
    }

    fn refuse(&self, status: JwtStatus, request: &RequestHead<'_>) -> FilterReply {
        self.stats.denied.inc();
        let mut reply = LocalReply::new(status.http_status(), status.as_str(), ResponseFlags::NONE, "");
        reply.details = details::jwt_authn_access_denied(status.as_str()).into();
        let mut headers = HeaderMap::new();
        if self.config.strip_failure_response {
            reply.body = "".into();
        } else if let Some(challenge) = challenge(status, request) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        FilterReply { reply, headers }
    }

    fn unknown_requirement(&self, unknown: &UnknownRequirement) -> FilterReply {
        self.stats.denied.inc();
        let mut reply = LocalReply::new(StatusCode::FORBIDDEN, "", ResponseFlags::NONE, "");
        let text = unknown.to_string();
        reply.details = details::jwt_authn_access_denied(&text).into();
        if !self.config.strip_failure_response {
            reply.body = format!("Failed JWT authentication: {text}").into();
        }
        reply.into()
    }
}

/// Says how to authenticate. RFC 6750 section 3.
fn challenge(status: JwtStatus, request: &RequestHead<'_>) -> Option<HeaderValue> {
    let path = request.path_and_query;
    let path = path.get(..MAX_REALM_PATH).unwrap_or(path);
    let error = if status == JwtStatus::Missed { "" } else { ", error=\"invalid_token\"" };
    let value = format!("Bearer realm=\"{}://{}{path}\"{error}", request.scheme(), request.authority);
    HeaderValue::try_from(value).ok()
}

#[cfg(test)]
mod tests;

//! End-user authentication: verifies JSON Web Tokens in requests, and passes their claims on.
//!
//! ```text
//! request ─► rule (or the route's requirement) ─► Evaluation ─► Check ─► tokens ─► Jwt::parse ─► issuer of the location
//!            ─► claims ─► keys ─► signature ─► headers and metadata ─► Evaluation ─► … ─► passed on, or 401, or 403
//! ```
//!
//! Here are all decisions, without cryptography: the caller verifies signatures with the keys that
//! [`Jwks::candidates`] finds, waits for keys as [`RemoteKeys`] says, and carries out the rest.
//!
//! A token that is present is valid, or the request is refused, even where tokens are optional. Without keys, no token is
//! valid. The headers that providers set are removed from every request first.
//!
//! Envoy `filters.http.jwt_authn.v3`. It is stricter than Envoy where a request or token is ambiguous: a request has at most
//! one token for a provider, a token without `kid` exactly one key, a token no key of its own. `ES256K` is accepted besides
//! Envoy's algorithms. `filter_state_rules` and `extract_only_without_validation` are not supported.

mod algorithm;
mod cache;
mod claims;
mod extract;
mod jwks;
mod provider;
mod remote;
mod requirement;
mod rule;
mod status;
mod token;

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName, Method, header::ORIGIN};
use thiserror::Error;

pub use algorithm::Algorithm;
pub use cache::JwtCache;
pub use claims::{claim, header_value};
pub use extract::{Found, Location};
pub use jwks::{Jwk, JwkError, Jwks, JwksError, KeyMaterial, MAX_JWKS_BYTES, MAX_JWKS_KEYS};
pub use provider::{AsyncFetch, Audiences, ClaimToHeader, JwksSource, JwtCacheConfig, Locations, Provider, RemoteJwks};
pub use remote::{KeysDecision, RemoteKeys};
pub use requirement::{Allow, Check, Evaluation, Outcome, Requirement, Step};
pub use rule::{Rule, RuleMatch};
pub use status::JwtStatus;
pub use token::{Jwt, MAX_TOKEN_BYTES, Sections};

use self::extract::Extractor;
use super::NamedCluster;
use crate::request::RequestHead;

/// The namespace of the filter's dynamic metadata.
pub const METADATA_NAMESPACE: &str = "envoy.filters.http.jwt_authn";

/// The filter in a chain. Envoy `jwt_authn.v3.JwtAuthentication`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JwtAuthn {
    providers: Vec<Provider>,
    /// Where the tokens of each provider are, and last those of all providers.
    extractors: Vec<Extractor>,
    output_headers: Vec<HeaderName>,
    /// The requirement of a request is that of the first rule that matches; none matches = it has none.
    pub rules: Vec<Rule>,
    /// Requirements that routes refer to.
    pub requirement_map: BTreeMap<Box<str>, Requirement>,
    /// Pass on CORS preflight requests, which have no credentials. Default false.
    pub bypass_cors_preflight: bool,
    /// Respond without a body and `www-authenticate`. Default false.
    pub strip_failure_response: bool,
    /// Prefix of the filter's statistics, after `jwt_authn.`; empty = none.
    pub stat_prefix: Arc<str>,
}

/// What a route configures. Envoy `jwt_authn.v3.PerRouteConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PerRoute {
    /// Nothing is required.
    Disabled,
    /// The requirement of this name replaces that of the rules. Without such a requirement, all requests are refused.
    RequirementName(Box<str>),
}

/// A requirement that the filter does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Wrong requirement_name: {name}. It should be one of [{known}]")]
pub struct UnknownRequirement {
    /// The name.
    pub name: Box<str>,
    /// The names that the filter has.
    pub known: String,
}

impl JwtAuthn {
    /// A filter without requirements. Requirements refer to providers by their positions in `providers`.
    #[must_use]
    pub fn new(providers: Vec<Provider>) -> Self {
        let mut extractors: Vec<_> = providers.iter().map(|provider| Extractor::of([provider])).collect();
        extractors.push(Extractor::of(&providers));
        let mut output_headers: Vec<_> = providers.iter().flat_map(Provider::output_headers).cloned().collect();
        output_headers.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        output_headers.dedup();
        Self {
            providers,
            extractors,
            output_headers,
            rules: Vec::new(),
            requirement_map: BTreeMap::new(),
            bypass_cors_preflight: false,
            strip_failure_response: false,
            stat_prefix: "".into(),
        }
    }

    /// The providers.
    #[must_use]
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// The provider of tokens of `issuer`: the first one with that issuer, or else the first one for any.
    #[must_use]
    pub fn provider_of(&self, issuer: &str) -> Option<usize> {
        let position = |issuer: &str| self.providers.iter().position(|provider| *provider.issuer == *issuer);
        position(issuer).or_else(|| position(""))
    }

    /// The clusters that keys are fetched from.
    #[must_use]
    pub fn clusters(&self) -> Vec<NamedCluster<'_>> {
        let remote = self.providers.iter().filter_map(|provider| match &provider.jwks {
            JwksSource::Remote(remote) => Some((&provider.name, &remote.cluster)),
            JwksSource::Local(_) => None,
        });
        let path = |name: &str| format!("providers[{name:?}].remote_jwks.http_uri.cluster");
        remote.map(|(name, cluster)| NamedCluster::new(path(name), cluster)).collect()
    }

    /// What `request` must have, given what its route configures; `None` if it has no requirement.
    ///
    /// # Errors
    /// If the route refers to a requirement that the filter does not have.
    pub fn requirement(
        &self,
        request: &RequestHead<'_>,
        per_route: Option<&PerRoute>,
    ) -> Result<Option<&Requirement>, UnknownRequirement> {
        match per_route {
            None => Ok(self.rules.iter().find(|rule| rule.matches.matches(request)).map(|rule| &rule.requirement)),
            Some(PerRoute::Disabled) => Ok(None),
            Some(PerRoute::RequirementName(name)) => {
                self.requirement_map.get(name).map(Some).ok_or_else(|| UnknownRequirement {
                    name: name.clone(),
                    known: self.requirement_map.keys().map(|name| &**name).collect::<Vec<_>>().join(","),
                })
            }
        }
    }

    /// The tokens in `request` that a check is about.
    #[must_use]
    pub fn tokens<'r>(&self, check: Check<'_>, request: &RequestHead<'r>) -> Vec<Found<'_, 'r>> {
        let extractor = match check {
            Check::Provider { provider, .. } => self.extractors.get(provider),
            Check::AnyProvider(_) => self.extractors.last(),
        };
        extractor.map(|extractor| extractor.tokens(request)).unwrap_or_default()
    }

    /// Removes the headers that providers set, which a client must not set itself.
    pub fn remove_output_headers(&self, headers: &mut HeaderMap) {
        for name in &self.output_headers {
            headers.remove(name);
        }
    }
}

/// Whether this is the request with which a browser asks whether another one is allowed.
#[must_use]
pub fn is_cors_preflight(request: &RequestHead<'_>) -> bool {
    let has = |name| request.headers.get(name).is_some_and(|value| !value.is_empty());
    *request.method == Method::OPTIONS && has(ORIGIN) && has(http::header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests;

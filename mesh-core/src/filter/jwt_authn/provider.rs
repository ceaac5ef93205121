//! Providers: which tokens are accepted, where they are looked for, and what is made of them.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::HeaderName;

use super::jwks::Jwks;
use crate::value::{ClusterName, StringMatcher};

/// An issuer of tokens. Envoy `jwt_authn.v3.JwtProvider`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "the fields are Envoy's")]
pub struct Provider {
    /// The name by which requirements refer to it.
    pub name: Box<str>,
    /// `iss` of its tokens, compared exactly; empty = any.
    pub issuer: Box<str>,
    /// `aud` must have one of these; empty = any.
    pub audiences: Audiences,
    /// `sub` must match; `None` = any.
    pub subjects: Option<StringMatcher>,
    /// Refuse tokens without `exp`. Default false.
    pub require_expiration: bool,
    /// Refuse tokens that are valid for longer than this from now on, or have no `exp`; `None` = any.
    pub max_lifetime: Option<Duration>,
    /// Tolerance in the comparison of `exp` and `nbf` with the clock. Default [`Provider::CLOCK_SKEW`].
    pub clock_skew: Duration,
    /// The keys.
    pub jwks: JwksSource,
    /// Where tokens are looked for. Default: [`Locations::default`].
    pub locations: Locations,
    /// Pass the token on. Default false: it is removed from the request.
    pub forward: bool,
    /// Header in which the payload is passed on, in base64url; `None` = it is not. The client's own is removed.
    pub forward_payload_header: Option<HeaderName>,
    /// Pad the payload in that header with `=`. Default false.
    pub pad_forward_payload_header: bool,
    /// Headers in which claims are passed on. The client's own are removed.
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Key of the payload in the dynamic metadata `envoy.filters.http.jwt_authn`; `None` = it is not set.
    pub payload_in_metadata: Option<Box<str>>,
    /// Claims whose text is divided at spaces into a list, in that metadata.
    pub space_delimited_claims: Vec<Box<str>>,
    /// Key of the header in that metadata; `None` = it is not set.
    pub header_in_metadata: Option<Box<str>>,
    /// Key of the reason of a refusal in that metadata; `None` = it is not set.
    pub failed_status_in_metadata: Option<Box<str>>,
    /// Route the request again if claims are in its headers or metadata. Default false.
    pub clear_route_cache: bool,
    /// Remember tokens that were verified; `None` = every token is verified each time.
    pub jwt_cache: Option<JwtCacheConfig>,
}

impl Provider {
    /// Default of [`Provider::clock_skew`], as in Envoy.
    pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

    /// A provider without a name, with Envoy's defaults.
    #[must_use]
    pub fn new(issuer: impl Into<Box<str>>, jwks: JwksSource) -> Self {
        Self {
            name: "".into(),
            issuer: issuer.into(),
            audiences: Audiences::default(),
            subjects: None,
            require_expiration: false,
            max_lifetime: None,
            clock_skew: Self::CLOCK_SKEW,
            jwks,
            locations: Locations::default(),
            forward: false,
            forward_payload_header: None,
            pad_forward_payload_header: false,
            claim_to_headers: Vec::new(),
            payload_in_metadata: None,
            space_delimited_claims: Vec::new(),
            header_in_metadata: None,
            failed_status_in_metadata: None,
            clear_route_cache: false,
            jwt_cache: None,
        }
    }

    /// The names of the headers that it sets, so that a client must not.
    pub fn output_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.forward_payload_header.iter().chain(self.claim_to_headers.iter().map(|claim| &claim.header_name))
    }
}

/// A claim in a header. Envoy `JwtClaimToHeader`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimToHeader {
    /// The header.
    pub header_name: HeaderName,
    /// The keys that lead to the claim: one, or several for a nested one.
    pub path: Vec<Box<str>>,
}

/// Where tokens are looked for. Envoy `from_headers`, `from_params`, `from_cookies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locations {
    /// Headers, with the text before the token.
    pub headers: Vec<(HeaderName, Box<str>)>,
    /// Parameters of the query.
    pub params: Vec<Box<str>>,
    /// Cookies.
    pub cookies: Vec<Box<str>>,
}

impl Default for Locations {
    /// `Authorization: Bearer TOKEN`, and the parameter `access_token` of the query.
    fn default() -> Self {
        Self {
            headers: vec![(http::header::AUTHORIZATION, "Bearer ".into())],
            params: vec!["access_token".into()],
            cookies: Vec::new(),
        }
    }
}

/// A cache of tokens that were verified. Envoy `JwtCacheConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwtCacheConfig {
    /// Maximum number of tokens. Default [`JwtCacheConfig::SIZE`].
    pub jwt_cache_size: NonZeroU32,
    /// Tokens longer than this are not remembered, in bytes. Default [`JwtCacheConfig::MAX_TOKEN_SIZE`].
    pub jwt_max_token_size: u32,
}

impl JwtCacheConfig {
    /// Default of [`JwtCacheConfig::jwt_cache_size`], as in Envoy.
    pub const SIZE: NonZeroU32 = NonZeroU32::new(100).unwrap();
    /// Default of [`JwtCacheConfig::jwt_max_token_size`], as in Envoy.
    pub const MAX_TOKEN_SIZE: u32 = 4096;
}

/// The source of a provider's keys.
#[derive(Clone, Debug, PartialEq)]
pub enum JwksSource {
    /// Keys in the configuration. If the set is empty, every token is refused. Envoy `local_jwks`.
    Local(Jwks),
    /// Keys that are fetched. Envoy `remote_jwks`.
    Remote(Arc<RemoteJwks>),
}

/// Keys that are fetched. Envoy `jwt_authn.v3.RemoteJwks`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RemoteJwks {
    /// The authority of the request.
    pub authority: Box<str>,
    /// Path and query of the request.
    pub path: Box<str>,
    /// The cluster that it is sent to.
    pub cluster: ClusterName,
    /// Maximum time for a response.
    pub timeout: Duration,
    /// Time after which keys are fetched again. Default [`RemoteJwks::CACHE_DURATION`].
    pub cache_duration: Duration,
    /// Fetch keys before a request needs them; `None` = with the first request.
    pub async_fetch: Option<AsyncFetch>,
    /// How often a fetch is tried again at once. Default 0. Envoy `retry_policy.num_retries`.
    pub num_retries: u32,
    /// Upper bound of the time before the first of these tries, and before the last. Default 1 s and 10 s. Envoy
    /// `retry_policy.retry_back_off`.
    pub retry_back_off: [Duration; 2],
}

impl RemoteJwks {
    /// Default of [`RemoteJwks::cache_duration`], as in Envoy.
    pub const CACHE_DURATION: Duration = Duration::from_secs(600);

    /// Keys at `path` of `authority`, which `cluster` leads to.
    #[must_use]
    pub fn new(
        authority: impl Into<Box<str>>,
        path: impl Into<Box<str>>,
        cluster: impl Into<ClusterName>,
        timeout: Duration,
    ) -> Self {
        Self {
            authority: authority.into(),
            path: path.into(),
            cluster: cluster.into(),
            timeout,
            cache_duration: Self::CACHE_DURATION,
            async_fetch: None,
            num_retries: 0,
            retry_back_off: [Duration::from_secs(1), Duration::from_secs(10)],
        }
    }
}

/// Fetching of keys in advance. Envoy `JwksAsyncFetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncFetch {
    /// Time after which a fetch that failed is repeated. Default [`AsyncFetch::FAILED_REFETCH_DURATION`].
    pub failed_refetch_duration: Duration,
}

impl AsyncFetch {
    /// Default of [`AsyncFetch::failed_refetch_duration`], as in Envoy.
    pub const FAILED_REFETCH_DURATION: Duration = Duration::from_secs(1);
}

/// Audiences that are allowed, or any. Like Envoy, it compares without `http://`, `https://` and one `/` at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audiences(Box<[Box<str>]>);

impl Audiences {
    /// One of `audiences`; any, if there are none.
    #[must_use]
    pub fn new<'a>(audiences: impl IntoIterator<Item = &'a str>) -> Self {
        Self(audiences.into_iter().map(|audience| bare(audience).into()).collect())
    }

    /// Whether a token for `audiences` is allowed.
    #[must_use]
    pub fn allow(&self, audiences: &[Box<str>]) -> bool {
        self.0.is_empty() || audiences.iter().any(|audience| self.0.iter().any(|allowed| **allowed == *bare(audience)))
    }

    /// Whether all audiences are allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn bare(audience: &str) -> &str {
    let bare = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://")).unwrap_or(audience);
    bare.strip_suffix('/').unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_compared_without_scheme_and_final_slash_and_otherwise_exactly() {
        let allowed = Audiences::new(["https://api.test/", "svc"]);
        let check = |audience: &str| allowed.allow(&[audience.into()]);
        assert!(check("svc") && check("api.test") && check("http://api.test") && check("https://svc/"));
        assert!(!check("sv") && !check("svc2") && !check("SVC") && !check("") && !check("api.test//"));
        assert!(!allowed.allow(&[]));
        assert!(allowed.allow(&["other".into(), "svc".into()]));
        assert!(Audiences::default().allow(&[]) && Audiences::default().allow(&["x".into()]));
    }
}

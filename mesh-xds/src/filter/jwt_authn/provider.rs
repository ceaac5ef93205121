//! `JwtProvider`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Uri};
use mesh_core::filter::jwt_authn::{
    AsyncFetch, Audiences, ClaimToHeader, Jwks, JwksSource, JwtCacheConfig, Locations, MAX_JWKS_BYTES, Provider,
    RemoteJwks,
};

use crate::decode::data_source;
use crate::decode::field::{At, Result, fields};
use crate::decode::value::{duration, header_name, list, optional, positive_duration, required, string_matcher};
use crate::proto::envoy::config::core::v3::{
    BackoffStrategy, DataSource, HttpUri, RetryPolicy, http_uri::HttpUpstreamType,
};
use crate::proto::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use crate::proto::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::{
    JwksSourceSpecifier, NormalizePayload,
};

/// Decodes a provider, without its name.
pub(super) fn decode(at: &At<'_>, value: &proto::JwtProvider) -> Result<Provider> {
    let proto::JwtProvider {
        issuer,
        audiences,
        subjects,
        require_expiration,
        max_lifetime,
        forward,
        from_headers,
        from_params,
        from_cookies,
        forward_payload_header,
        pad_forward_payload_header,
        payload_in_metadata,
        normalize_payload_in_metadata,
        header_in_metadata,
        failed_status_in_metadata,
        clock_skew_seconds,
        jwt_cache_config,
        claim_to_headers,
        clear_route_cache,
        jwks_source_specifier,
    } = value;
    let mut model = Provider::new(issuer.as_str(), jwks(at, jwks_source_specifier.as_ref())?);
    model.audiences = Audiences::new(audiences.iter().map(String::as_str));
    model.subjects = optional(&at.field("subjects"), subjects.as_ref(), string_matcher)?;
    model.require_expiration = *require_expiration;
    model.max_lifetime = optional(&at.field("max_lifetime"), max_lifetime.as_ref(), duration)?;
    if *clock_skew_seconds > 0 {
        model.clock_skew = Duration::from_secs(u64::from(*clock_skew_seconds));
    }
    model.forward = *forward;
    if !from_headers.is_empty() || !from_params.is_empty() || !from_cookies.is_empty() {
        model.locations = Locations {
            headers: list(at, "from_headers", from_headers, location)?,
            params: texts(from_params),
            cookies: texts(from_cookies),
        };
    }
    model.forward_payload_header = header(&at.field("forward_payload_header"), forward_payload_header)?;
    model.pad_forward_payload_header = *pad_forward_payload_header;
    model.claim_to_headers = list(at, "claim_to_headers", claim_to_headers, claim_to_header)?;
    model.payload_in_metadata = text(payload_in_metadata);
    if let Some(NormalizePayload { space_delimited_claims }) = normalize_payload_in_metadata {
        model.space_delimited_claims = texts(space_delimited_claims);
    }
    model.header_in_metadata = text(header_in_metadata);
    model.failed_status_in_metadata = text(failed_status_in_metadata);
    model.jwt_cache = jwt_cache_config.map(jwt_cache);
    model.clear_route_cache = *clear_route_cache;
    Ok(model)
}

fn text(value: &str) -> Option<Box<str>> {
    (!value.is_empty()).then(|| value.into())
}

fn texts(values: &[String]) -> Vec<Box<str>> {
    values.iter().map(|value| value.as_str().into()).collect()
}

fn header(at: &At<'_>, name: &str) -> Result<Option<HeaderName>> {
    (!name.is_empty()).then(|| header_name(at, name)).transpose()
}

fn location(at: &At<'_>, value: &proto::JwtHeader) -> Result<(HeaderName, Box<str>)> {
    let proto::JwtHeader { name, value_prefix } = value;
    Ok((header_name(&at.field("name"), name)?, value_prefix.as_str().into()))
}

fn claim_to_header(at: &At<'_>, value: &proto::JwtClaimToHeader) -> Result<ClaimToHeader> {
    let proto::JwtClaimToHeader { header_name: name, claim_name, claim_path } = value;
    let path: Vec<Box<str>> = match (claim_name.is_empty(), claim_path.is_empty()) {
        (false, true) => claim_name.split('.').map(Box::from).collect(),
        (true, false) => claim_path.iter().map(|segment| segment.key.as_str().into()).collect(),
        (true, true) => return Err(at.refuse("neither claim_name nor claim_path is given")),
        (false, false) => return Err(at.refuse("claim_name and claim_path are both given")),
    };
    Ok(ClaimToHeader { header_name: header_name(&at.field("header_name"), name)?, path })
}

fn jwt_cache(value: proto::JwtCacheConfig) -> JwtCacheConfig {
    let proto::JwtCacheConfig { jwt_cache_size, jwt_max_token_size } = value;
    JwtCacheConfig {
        jwt_cache_size: NonZeroU32::new(jwt_cache_size).unwrap_or(JwtCacheConfig::SIZE),
        jwt_max_token_size: match jwt_max_token_size {
            0 => JwtCacheConfig::MAX_TOKEN_SIZE,
            size => size,
        },
    }
}

fn jwks(at: &At<'_>, value: Option<&JwksSourceSpecifier>) -> Result<JwksSource> {
    match value {
        Some(JwksSourceSpecifier::LocalJwks(source)) => local_jwks(&at.field("local_jwks"), source),
        Some(JwksSourceSpecifier::RemoteJwks(remote)) => {
            remote_jwks(&at.field("remote_jwks"), remote).map(|remote| JwksSource::Remote(Arc::new(remote)))
        }
        None => Err(at.refuse("neither local_jwks nor remote_jwks is given")),
    }
}

/// Without a valid key, every token is refused, as in Envoy.
fn local_jwks(at: &At<'_>, source: &DataSource) -> Result<JwksSource> {
    let text = data_source::read(at, source, u32::try_from(MAX_JWKS_BYTES).unwrap_or(u32::MAX))?;
    let jwks = Jwks::parse(&text).unwrap_or_else(|error| {
        at.ignore(format_args!("{error}; every token of the provider will be refused"));
        Jwks::default()
    });
    Ok(JwksSource::Local(jwks))
}

fn remote_jwks(at: &At<'_>, value: &proto::RemoteJwks) -> Result<RemoteJwks> {
    let proto::RemoteJwks { http_uri, cache_duration, async_fetch, retry_policy } = value;
    let uri_at = at.field("http_uri");
    let HttpUri { uri, timeout, http_upstream_type } = required(&uri_at, http_uri.as_ref())?;
    let (authority, path) = authority_and_path(&uri_at.field("uri"), uri)?;
    let Some(HttpUpstreamType::Cluster(cluster)) = http_upstream_type else {
        return Err(uri_at.field("cluster").refuse("is missing"));
    };
    let timeout_at = uri_at.field("timeout");
    let timeout = positive_duration(&timeout_at, required(&timeout_at, timeout.as_ref())?)?;
    let mut model = RemoteJwks::new(authority, path, cluster.as_str(), timeout);
    let cache_duration = optional(&at.field("cache_duration"), cache_duration.as_ref(), positive_duration)?;
    model.cache_duration = cache_duration.unwrap_or(RemoteJwks::CACHE_DURATION);
    model.async_fetch = optional(&at.field("async_fetch"), async_fetch.as_ref(), decode_async_fetch)?;
    if let Some(policy) = retry_policy {
        retry(&at.field("retry_policy"), policy, &mut model)?;
    }
    Ok(model)
}

/// Divides a URI as Envoy does. Its scheme has no effect: the cluster decides about TLS.
fn authority_and_path(at: &At<'_>, text: &str) -> Result<(String, String)> {
    let uri: Uri = text.parse().map_err(|error| at.refuse(format_args!("{text:?}: {error}")))?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    match (uri.scheme_str(), authority) {
        (Some("http" | "https"), Some(authority)) => {
            Ok((authority.as_str().to_owned(), uri.path_and_query().map_or("/", |path| path.as_str()).to_owned()))
        }
        _ => Err(at.refuse(format_args!("{text:?} is not a URI of the form https://HOST/PATH"))),
    }
}

fn decode_async_fetch(at: &At<'_>, value: &proto::JwksAsyncFetch) -> Result<AsyncFetch> {
    fields! {
        proto::JwksAsyncFetch = value, at;
        use { failed_refetch_duration }
        ignore { fast_listener: "listeners never wait for keys; requests do" }
        refuse {}
    }
    let at = at.field("failed_refetch_duration");
    let pause = optional(&at, failed_refetch_duration.as_ref(), positive_duration)?;
    Ok(AsyncFetch { failed_refetch_duration: pause.unwrap_or(AsyncFetch::FAILED_REFETCH_DURATION) })
}

fn retry(at: &At<'_>, value: &RetryPolicy, model: &mut RemoteJwks) -> Result<()> {
    fields! {
        RetryPolicy = value, at;
        use { retry_back_off, num_retries }
        ignore { retry_on: "keys are fetched again after 5xx, gateway-error, connect-failure and reset" }
        refuse { retry_priority, retry_host_predicate, host_selection_retry_max_attempts }
    }
    model.num_retries = num_retries.unwrap_or(1);
    if let Some(BackoffStrategy { base_interval, max_interval }) = retry_back_off {
        let at = at.field("retry_back_off");
        let base_at = at.field("base_interval");
        let base = positive_duration(&base_at, required(&base_at, base_interval.as_ref())?)?;
        let max_at = at.field("max_interval");
        let max = optional(&max_at, max_interval.as_ref(), positive_duration)?;
        let max = max.unwrap_or_else(|| base.saturating_mul(10));
        if max < base {
            return Err(max_at.refuse("is less than base_interval"));
        }
        model.retry_back_off = [base, max];
    }
    Ok(())
}

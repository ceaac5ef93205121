//! A survey of a request's headers.
//!
//! Several stages first look for certain headers and mostly find none. Each would scan all headers; the survey scans them
//! once for all stages.

use http::HeaderMap;

use super::hop_by_hop::HopByHop;
use crate::{grpc, request::X_ENVOY_PREFIX};

/// Which headers a request has. It is valid until headers are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per header, independent of each other")]
pub struct HeaderSurvey {
    /// Size of all headers in HTTP/1.1: names, values, and four bytes each for `: ` and the end of the line.
    pub bytes: u64,
    /// The request is gRPC, see [`grpc::is_grpc_request`].
    pub is_grpc: bool,
    /// There is a `host` header.
    pub has_host: bool,
    /// There is an `x-forwarded-client-cert` header.
    pub has_client_certificate: bool,
    /// There is an `x-request-id` header.
    pub has_request_id: bool,
    /// There is an `expect` header.
    pub has_expect: bool,
    /// There are `x-envoy-*` headers, such as those that
    /// [`Overrides::take_from`](crate::resilience::overrides::Overrides::take_from) reads.
    pub has_envoy_headers: bool,
    /// The hop-by-hop headers.
    pub hop_by_hop: HopByHop,
}

impl HeaderSurvey {
    /// Surveys `headers`.
    #[must_use]
    #[inline(never)]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut survey = Self::default();
        let mut is_grpc = None;
        for (name, value) in headers {
            let name = name.as_str();
            survey.bytes += field_bytes(name, value.len());
            match name {
                "host" => survey.has_host = true,
                "content-type" => is_grpc = is_grpc.or_else(|| Some(grpc::is_grpc_content_type(value.as_bytes()))),
                "x-request-id" => survey.has_request_id = true,
                "x-forwarded-client-cert" => survey.has_client_certificate = true,
                "expect" => survey.has_expect = true,
                _ if name.starts_with(X_ENVOY_PREFIX) => survey.has_envoy_headers = true,
                _ => survey.hop_by_hop.insert(name),
            }
        }
        survey.is_grpc = is_grpc.unwrap_or_default();
        survey
    }
}

/// Size of all headers, as in [`HeaderSurvey::bytes`].
#[must_use]
pub fn header_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| field_bytes(name.as_str(), value.len())).sum()
}

fn field_bytes(name: &str, value: usize) -> u64 {
    (name.len() + value + 4) as u64
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::{
        policy::hop_by_hop::{Upgrade, remove_hop_by_hop},
        resilience::overrides::Overrides,
    };

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn each_header_sets_its_field_only() {
        let none = HeaderSurvey::default();
        for (name, value, expected) in [
            ("accept", "*/*", none),
            ("host", "a.test", HeaderSurvey { has_host: true, ..none }),
            ("content-type", "application/grpc+proto", HeaderSurvey { is_grpc: true, ..none }),
            ("content-type", "application/grpc-web", none),
            ("x-request-id", "1", HeaderSurvey { has_request_id: true, ..none }),
            ("x-forwarded-client-cert", "Hash=1", HeaderSurvey { has_client_certificate: true, ..none }),
            ("x-envoy-max-retries", "1", HeaderSurvey { has_envoy_headers: true, ..none }),
            ("expect", "100-continue", HeaderSurvey { has_expect: true, ..none }),
            ("te", "trailers", HeaderSurvey { hop_by_hop: HopByHop::TE, ..none }),
        ] {
            let bytes = (name.len() + value.len() + 4) as u64;
            assert_eq!(
                HeaderSurvey::of(&headers(&[(name, value)])),
                HeaderSurvey { bytes, ..expected },
                "{name}: {value}"
            );
        }
        assert_eq!(HeaderSurvey::of(&HeaderMap::new()), none);
    }

    #[test]
    fn the_first_content_type_counts() {
        let lines = [("content-type", "application/grpc"), ("content-type", "text/plain"), ("connection", "close")];
        let survey = HeaderSurvey::of(&headers(&lines));
        assert_eq!((survey.is_grpc, survey.hop_by_hop), (true, HopByHop::CONNECTION));
        assert_eq!(survey.bytes, header_bytes(&headers(&lines)));
        assert!(!HeaderSurvey::of(&headers(&[lines[1], lines[0]])).is_grpc);
    }

    #[test]
    fn a_stage_that_the_survey_rules_out_changes_nothing() {
        let names = "accept connection keep-alive proxy-connection te transfer-encoding upgrade trailer host \
            x-envoy-retry-on x-envoy-retry-grpc-on x-envoy-max-retries x-envoy-retriable-status-codes \
            x-envoy-retriable-header-names x-envoy-upstream-rq-timeout-ms x-envoy-upstream-rq-per-try-timeout-ms \
            x-envoy-internal x-envoy-hedge-on-per-try-timeout x-forwarded-for";
        for name in names.split(' ') {
            let before = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("true"))]);
            let survey = HeaderSurvey::of(&before);
            let mut after = before.clone();
            if survey.hop_by_hop.is_empty() {
                remove_hop_by_hop(&mut after, HopByHop::of(&before), Upgrade::Remove);
            }
            if !survey.has_envoy_headers {
                assert_eq!(Overrides::take_from(&mut after), Overrides::default(), "{name}");
            }
            assert_eq!(after, before, "{name}");
        }
    }
}

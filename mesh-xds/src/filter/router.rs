//! `envoy.extensions.filters.http.router.v3.Router`, which ends each chain.

use crate::decode::field::{At, Result, fields};
use crate::proto::envoy::extensions::filters::http::router::v3::Router;

/// Whether `x-envoy-*` headers are suppressed.
pub(super) fn decode(at: &At<'_>, router: &Router) -> Result<bool> {
    fields! {
        Router = router, at;
        use { suppress_envoy_headers }
        ignore {
            dynamic_stats: "it chooses statistics",
            start_child_span: "no spans are exported",
            upstream_log_options: "it matters only with upstream_log, which is refused",
            suppress_grpc_request_failure_code_stats: "it chooses statistics",
            reject_connect_request_early_data: "CONNECT requests carry no early data here",
        }
        refuse { upstream_log, strict_check_headers, respect_expected_rq_timeout, upstream_http_filters }
    }
    Ok(*suppress_envoy_headers)
}

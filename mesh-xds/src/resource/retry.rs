//! `envoy.config.route.v3.RetryPolicy`.

use std::time::Duration;

use http::StatusCode;
use mesh_core::model::{BackOff, RetryOn, RetryPolicy};

use super::field::{At, Result, fields};
use super::header;
use super::value::{duration, in_range, limit, list, optional, required};
use crate::descriptor::{describe, type_name};
use crate::proto::envoy::config::route::v3::{
    RetryPolicy as ProtoRetryPolicy,
    retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate::ConfigType},
};

/// The message of the predicate that is supported.
pub(super) const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

/// Decodes a retry policy.
pub(super) fn decode(at: &At<'_>, policy: &ProtoRetryPolicy) -> Result<RetryPolicy> {
    fields! {
        ProtoRetryPolicy = policy, at;
        use {
            retry_on, num_retries, per_try_timeout, per_try_idle_timeout, retry_host_predicate,
            host_selection_retry_max_attempts, retriable_status_codes, retry_back_off, retriable_headers,
            retriable_request_headers,
        }
        ignore {}
        refuse { retry_priority, retry_options_predicates, rate_limited_retry_back_off, refresh_cluster_on_retry }
    }
    let predicates = list(at, "retry_host_predicate", retry_host_predicate, is_previous_hosts)?;
    let attempts_at = at.field("host_selection_retry_max_attempts");
    let attempts = in_range(&attempts_at, *host_selection_retry_max_attempts, 0, i64::from(u32::MAX))?;
    let retry_on = RetryOn::parse(retry_on).map_err(|error| at.field("retry_on").refuse(error))?;
    let mut model = RetryPolicy::new(retry_on);
    model.num_retries = num_retries.unwrap_or(model.num_retries);
    model.per_try_timeout = limit(&at.field("per_try_timeout"), per_try_timeout.as_ref(), None)?;
    model.per_try_idle_timeout = limit(&at.field("per_try_idle_timeout"), per_try_idle_timeout.as_ref(), None)?;
    model.previous_hosts = predicates.contains(&true);
    if let Some(attempts) = u32::try_from(attempts).ok().filter(|attempts| *attempts > 0) {
        model.host_selection_retry_max_attempts = attempts;
    }
    model.retriable_status_codes = list(at, "retriable_status_codes", retriable_status_codes, |at, code| {
        let code = in_range(at, *code, 100, 999)?;
        let code = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
        code.ok_or_else(|| at.refuse("not an HTTP status"))
    })?;
    model.retriable_headers = list(at, "retriable_headers", retriable_headers, header::matcher)?;
    model.retriable_request_headers =
        list(at, "retriable_request_headers", retriable_request_headers, header::matcher)?;
    model.back_off = optional(&at.field("retry_back_off"), retry_back_off.as_ref(), back_off)?.unwrap_or_default();
    Ok(model)
}

fn back_off(at: &At<'_>, value: &RetryBackOff) -> Result<BackOff> {
    let RetryBackOff { base_interval, max_interval } = value;
    let base_at = at.field("base_interval");
    let base = duration(&base_at, required(&base_at, base_interval.as_ref())?)?;
    if base.is_zero() {
        return Err(base_at.refuse("0 s is not greater than 0"));
    }
    // Envoy also rounds anything below a millisecond up to one.
    let base = base.max(Duration::from_millis(1));
    let max_at = at.field("max_interval");
    let max = optional(&max_at, max_interval.as_ref(), duration)?;
    if let Some(max) = max.filter(|max| *max < base) {
        return Err(max_at.refuse(format_args!("{max:?} is below base_interval, {base:?}")));
    }
    let default = BackOff::from_base(base);
    Ok(BackOff { max_interval: max.unwrap_or(default.max_interval), ..default })
}

/// Whether a predicate is `previous_hosts`. The others use metadata of endpoints, which is not kept.
fn is_previous_hosts(at: &At<'_>, predicate: &RetryHostPredicate) -> Result<bool> {
    let RetryHostPredicate { name, config_type } = predicate;
    let by_type = config_type.as_ref().map(|ConfigType::TypedConfig(config)| type_name(&config.type_url));
    match by_type.unwrap_or(name) {
        PREVIOUS_HOSTS | "envoy.retry_host_predicates.previous_hosts" => Ok(true),
        other => Err(at.refuse(format_args!("retry host predicate {}: not supported", describe(name, other)))),
    }
}

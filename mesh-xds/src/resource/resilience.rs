//! `envoy.config.cluster.v3.CircuitBreakers` and `OutlierDetection`.

use std::time::Duration;

use mesh_core::model::{CircuitBreakers, OutlierDetection, Percent, RetryBudget, Thresholds};

use super::field::{At, Result, fields};
use super::value::{duration, enumeration, optional, percent, positive_duration, share};
use crate::proto::envoy::config::cluster::v3::{
    CircuitBreakers as ProtoCircuitBreakers, OutlierDetection as ProtoOutlierDetection,
    circuit_breakers::{Thresholds as ProtoThresholds, thresholds::RetryBudget as ProtoRetryBudget},
};
use crate::proto::envoy::config::core::v3::RoutingPriority;

/// Decodes thresholds by priority. Of several entries for one priority the first is used, as in Envoy.
pub(super) fn circuit_breakers(at: &At<'_>, breakers: &ProtoCircuitBreakers) -> Result<CircuitBreakers> {
    fields! {
        ProtoCircuitBreakers = breakers, at;
        use { thresholds }
        ignore {}
        refuse { per_host_thresholds }
    }
    let (mut default, mut high) = (None, None);
    for (index, entry) in thresholds.iter().enumerate() {
        let at = at.item("thresholds", index);
        let limits = decode_thresholds(&at, entry)?;
        match enumeration(&at.field("priority"), entry.priority)? {
            RoutingPriority::Default => default.get_or_insert(limits),
            RoutingPriority::High => high.get_or_insert(limits),
        };
    }
    Ok(CircuitBreakers::new(default.unwrap_or_default(), high.unwrap_or_default()))
}

fn decode_thresholds(at: &At<'_>, thresholds: &ProtoThresholds) -> Result<Thresholds> {
    fields! {
        ProtoThresholds = thresholds, at;
        use {
            priority, max_connections, max_pending_requests, max_requests, max_retries, retry_budget, track_remaining,
        }
        ignore { max_connection_pools: "a cluster has one pool per endpoint" }
        refuse {}
    }
    let _ = priority;
    let mut model = Thresholds::default();
    model.max_connections = max_connections.unwrap_or(model.max_connections);
    model.max_pending_requests = max_pending_requests.unwrap_or(model.max_pending_requests);
    model.max_requests = max_requests.unwrap_or(model.max_requests);
    model.max_retries = max_retries.unwrap_or(model.max_retries);
    model.retry_budget = optional(&at.field("retry_budget"), retry_budget.as_ref(), decode_retry_budget)?;
    model.track_remaining = *track_remaining;
    Ok(model)
}

fn decode_retry_budget(at: &At<'_>, budget: &ProtoRetryBudget) -> Result<RetryBudget> {
    fields! {
        ProtoRetryBudget = budget, at;
        use { budget_percent, min_retry_concurrency }
        ignore {}
        refuse { budget_interval }
    }
    let budget_percent = optional(&at.field("budget_percent"), budget_percent.as_ref(), share)?;
    let defaults = RetryBudget::default();
    Ok(RetryBudget::new(
        budget_percent.unwrap_or(defaults.budget_percent),
        min_retry_concurrency.unwrap_or(defaults.min_retry_concurrency),
    ))
}

/// Decodes outlier detection.
pub(super) fn outlier_detection(at: &At<'_>, outlier: &ProtoOutlierDetection) -> Result<OutlierDetection> {
    fields! {
        ProtoOutlierDetection = outlier, at;
        use {
            consecutive_5xx, interval, base_ejection_time, max_ejection_percent, enforcing_consecutive_5xx,
            enforcing_success_rate, consecutive_gateway_failure, enforcing_consecutive_gateway_failure,
            split_external_local_origin_errors, consecutive_local_origin_failure,
            enforcing_consecutive_local_origin_failure, enforcing_local_origin_success_rate,
            enforcing_failure_percentage, enforcing_failure_percentage_local_origin, max_ejection_time,
            max_ejection_time_jitter, always_eject_one_host, success_rate_minimum_hosts, success_rate_request_volume,
            success_rate_stdev_factor, failure_percentage_threshold, failure_percentage_minimum_hosts,
            failure_percentage_request_volume,
        }
        ignore {
            successful_active_health_check_uneject_host: "there is no active health checking",
        }
        refuse { monitors, detect_degraded_hosts }
    }
    refuse_enforced(at, "enforcing_failure_percentage_local_origin", *enforcing_failure_percentage_local_origin)?;
    if *split_external_local_origin_errors {
        refuse_enforced(at, "enforcing_local_origin_success_rate", *enforcing_local_origin_success_rate)?;
    }
    let mut model = OutlierDetection::default();
    let share = |name, value: &Option<u32>, default: Percent| {
        optional(&at.field(name), value.as_ref(), percent).map(|share| share.unwrap_or(default))
    };
    let time = |name, value: &Option<_>, default: Duration| {
        optional(&at.field(name), value.as_ref(), positive_duration).map(|time| time.unwrap_or(default))
    };
    let base_ejection_time = time("base_ejection_time", base_ejection_time, model.base_ejection_time)?;
    let jitter_at = at.field("max_ejection_time_jitter");
    model.consecutive_5xx = consecutive_5xx.unwrap_or(model.consecutive_5xx);
    model.enforcing_consecutive_5xx =
        share("enforcing_consecutive_5xx", enforcing_consecutive_5xx, model.enforcing_consecutive_5xx)?;
    model.consecutive_gateway_failure = consecutive_gateway_failure.unwrap_or(model.consecutive_gateway_failure);
    model.enforcing_consecutive_gateway_failure = share(
        "enforcing_consecutive_gateway_failure",
        enforcing_consecutive_gateway_failure,
        model.enforcing_consecutive_gateway_failure,
    )?;
    model.split_external_local_origin_errors = *split_external_local_origin_errors;
    model.consecutive_local_origin_failure =
        consecutive_local_origin_failure.unwrap_or(model.consecutive_local_origin_failure);
    model.enforcing_consecutive_local_origin_failure = share(
        "enforcing_consecutive_local_origin_failure",
        enforcing_consecutive_local_origin_failure,
        model.enforcing_consecutive_local_origin_failure,
    )?;
    model.interval = time("interval", interval, model.interval)?;
    model.base_ejection_time = base_ejection_time;
    model.max_ejection_time = max_ejection(at, max_ejection_time.as_ref(), base_ejection_time)?;
    model.max_ejection_time_jitter =
        optional(&jitter_at, max_ejection_time_jitter.as_ref(), duration)?.unwrap_or(model.max_ejection_time_jitter);
    model.max_ejection_percent = share("max_ejection_percent", max_ejection_percent, model.max_ejection_percent)?;
    model.always_eject_one_host = always_eject_one_host.unwrap_or(model.always_eject_one_host);
    let rate = &mut model.success_rate;
    rate.enforcing = share("enforcing_success_rate", enforcing_success_rate, Percent::HUNDRED)?;
    rate.minimum_hosts = success_rate_minimum_hosts.unwrap_or(rate.minimum_hosts);
    rate.request_volume = success_rate_request_volume.unwrap_or(rate.request_volume);
    rate.stdev_factor = success_rate_stdev_factor.unwrap_or(rate.stdev_factor);
    let failures = &mut model.failure_percentage;
    failures.enforcing = share("enforcing_failure_percentage", enforcing_failure_percentage, failures.enforcing)?;
    failures.threshold = share("failure_percentage_threshold", failure_percentage_threshold, failures.threshold)?;
    failures.minimum_hosts = failure_percentage_minimum_hosts.unwrap_or(failures.minimum_hosts);
    failures.request_volume = failure_percentage_request_volume.unwrap_or(failures.request_volume);
    Ok(model)
}

fn refuse_enforced(at: &At<'_>, name: &str, enforcing: Option<u32>) -> Result<()> {
    match enforcing {
        None | Some(0) => Ok(()),
        Some(percent) => Err(at.field(name).refuse(format_args!("{percent}: not supported, only 0 is"))),
    }
}

fn max_ejection(at: &At<'_>, value: Option<&prost_types::Duration>, base: Duration) -> Result<Duration> {
    let at = at.field("max_ejection_time");
    match optional(&at, value, positive_duration)? {
        None => Ok(OutlierDetection::default().max_ejection_time.max(base)),
        Some(max) if max < base => Err(at.refuse(format_args!("{max:?} is below base_ejection_time, {base:?}"))),
        Some(max) => Ok(max),
    }
}

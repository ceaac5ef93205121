//! Retries.

use crate::config::RetryPolicy;
use crate::translate::proto::{any, duration, previous_hosts, route as envoy};

/// Retries of a route without a policy. Istio `MeshConfig.defaultHttpRetryPolicy`.
const DEFAULT_ATTEMPTS: u32 = 2;
/// Conditions of a policy without `retryOn`, as istiod writes them.
const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// Draws of another endpoint until one that was tried is taken again.
const HOST_SELECTION_RETRY_MAX_ATTEMPTS: i64 = 5;
/// Condition under which status codes are looked at.
const RETRIABLE_STATUS_CODES: &str = "retriable-status-codes";

/// The policy of a route; none if retries are disabled.
pub(super) fn retry_policy(policy: Option<&RetryPolicy>) -> Option<envoy::RetryPolicy> {
    let Some(policy) = policy else {
        return Some(envoy::RetryPolicy {
            retry_on: DEFAULT_RETRY_ON.to_owned(),
            num_retries: Some(DEFAULT_ATTEMPTS),
            retry_host_predicate: vec![avoid_previous_hosts()],
            host_selection_retry_max_attempts: HOST_SELECTION_RETRY_MAX_ATTEMPTS,
            ..envoy::RetryPolicy::default()
        });
    };
    if policy.attempts == 0 {
        return None;
    }
    let (retry_on, retriable_status_codes) = conditions(&policy.retry_on);
    let avoids = policy.retry_ignore_previous_hosts;
    Some(envoy::RetryPolicy {
        retry_on,
        num_retries: Some(policy.attempts),
        per_try_timeout: policy.per_try_timeout.map(duration),
        retriable_status_codes,
        retry_back_off: policy
            .backoff
            .map(|base| envoy::retry_policy::RetryBackOff { base_interval: Some(duration(base)), max_interval: None }),
        retry_host_predicate: avoids.then(avoid_previous_hosts).into_iter().collect(),
        host_selection_retry_max_attempts: HOST_SELECTION_RETRY_MAX_ATTEMPTS,
        ..envoy::RetryPolicy::default()
    })
}

/// The conditions in Envoy's form, and the status codes that were listed among them.
fn conditions(retry_on: &[String]) -> (String, Vec<u32>) {
    if retry_on.is_empty() {
        return (DEFAULT_RETRY_ON.to_owned(), Vec::new());
    }
    let mut names: Vec<&str> = Vec::new();
    let mut codes = Vec::new();
    for condition in retry_on {
        match condition.parse() {
            Ok(code) => codes.push(code),
            // Some names begin with a digit and are no codes: `5xx`.
            Err(_) => names.push(condition),
        }
    }
    if !codes.is_empty() && !names.contains(&RETRIABLE_STATUS_CODES) {
        names.push(RETRIABLE_STATUS_CODES);
    }
    (names.join(","), codes)
}

fn avoid_previous_hosts() -> envoy::retry_policy::RetryHostPredicate {
    let config = any(&previous_hosts::PreviousHostsPredicate::default());
    envoy::retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(envoy::retry_policy::retry_host_predicate::ConfigType::TypedConfig(config)),
    }
}

/// Retries between a sidecar and its workload: only requests that the workload cannot have received.
pub(super) fn inbound_retry_policy() -> envoy::RetryPolicy {
    envoy::RetryPolicy {
        retry_on: "reset-before-request".to_owned(),
        num_retries: Some(2),
        ..envoy::RetryPolicy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_among_the_conditions_become_retriable_status_codes() {
        let check = |text: &str, names: &str, codes: &[u32]| {
            let list: Vec<_> = text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect();
            assert_eq!(conditions(&list), (names.to_owned(), codes.to_vec()), "{text:?}");
        };
        check("", DEFAULT_RETRY_ON, &[]);
        check("5xx", "5xx", &[]);
        check("gateway-error,503", "gateway-error,retriable-status-codes", &[503]);
        check("429,retriable-status-codes,503", "retriable-status-codes", &[429, 503]);
    }
}

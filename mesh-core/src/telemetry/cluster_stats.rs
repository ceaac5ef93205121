//! Statistics of a cluster under Envoy's names (`cluster.<name>.*`). Envoy "Cluster manager statistics".
//!
//! A request increments fields by relaxed atomic additions and looks up no names. `*_active` gauges are the counts of
//! circuit breakers, and `membership_*` gauges are properties of the endpoint set; both are read when statistics are
//! collected ([`ClusterState::for_each_stat`]).
//!
//! [`ClusterState::for_each_stat`]: crate::cluster::ClusterState::for_each_stat

use std::{
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use http::StatusCode;

use super::{Counter, Gauge, TlsStats};

/// The kind of a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatKind {
    /// Increases only.
    Counter,
    /// Increases and decreases.
    Gauge,
}

/// The origin of a request, which selects `external.upstream_rq_*` or `internal.upstream_rq_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestOrigin {
    /// The request is external: `x-envoy-internal` is not `true`.
    #[default]
    External,
    /// The request is internal.
    Internal,
}

macro_rules! cluster_counters {
    ($($(#[$doc:meta])* $field:ident => $name:literal,)*) => {
        /// Statistics of a cluster, which outlive configuration updates.
        #[derive(Debug, Default)]
        pub struct ClusterStats {
            $($(#[$doc])* pub $field: Counter,)*
            /// Ejected endpoints: `outlier_detection.ejections_active`.
            pub ejections_active: Gauge,
            /// Requests that `drop_overloads` has dropped, by category.
            dropped: Mutex<Vec<(Arc<str>, u64)>>,
            ext_authz: Mutex<Vec<(Arc<str>, Arc<ExtAuthzStats>)>>,
            external: ResponseCodes,
            internal: ResponseCodes,
            retried: ResponseCodes,
            tls: OnceLock<Box<TlsStats>>,
        }

        impl ClusterStats {
            /// Sets every counter to 0.
            pub fn reset_counters(&self) {
                $(self.$field.reset();)*
                self.external.reset();
                self.internal.reset();
                self.tls.get().into_iter().flat_map(|tls| tls.counters()).for_each(|(_, counter)| counter.reset());
                self.lock_ext_authz().iter().for_each(|(_, stats)| stats.reset());
            }

            fn for_each_counter(&self, visit: &mut dyn FnMut(&str, StatKind, u64)) {
                $(visit($name, StatKind::Counter, self.$field.get());)*
            }
        }
    };
}

cluster_counters! {
    /// Attempts to connect.
    upstream_cx_total => "upstream_cx_total",
    /// HTTP/1 connections.
    upstream_cx_http1_total => "upstream_cx_http1_total",
    /// HTTP/2 connections.
    upstream_cx_http2_total => "upstream_cx_http2_total",
    /// Failed attempts to connect, including timeouts.
    upstream_cx_connect_fail => "upstream_cx_connect_fail",
    /// Attempts to connect that exceeded `connect_timeout`.
    upstream_cx_connect_timeout => "upstream_cx_connect_timeout",
    /// TCP proxying: connect attempts used up.
    upstream_cx_connect_attempts_exceeded => "upstream_cx_connect_attempts_exceeded",
    /// Times that a connection was needed while `max_connections` were open.
    upstream_cx_overflow => "upstream_cx_overflow",
    /// Connections closed by `idle_timeout`.
    upstream_cx_idle_timeout => "upstream_cx_idle_timeout",
    /// Connections closed by `max_connection_duration`.
    upstream_cx_max_duration_reached => "upstream_cx_max_duration_reached",
    /// Connections closed by `max_requests_per_connection`.
    upstream_cx_max_requests => "upstream_cx_max_requests",
    /// Tries without an available endpoint.
    upstream_cx_none_healthy => "upstream_cx_none_healthy",
    /// Closed connections.
    upstream_cx_destroy => "upstream_cx_destroy",
    /// Connections closed locally.
    upstream_cx_destroy_local => "upstream_cx_destroy_local",
    /// Connections closed by the endpoint.
    upstream_cx_destroy_remote => "upstream_cx_destroy_remote",
    /// Connections closed with active requests.
    upstream_cx_destroy_with_active_rq => "upstream_cx_destroy_with_active_rq",
    /// Connections closed locally with active requests.
    upstream_cx_destroy_local_with_active_rq => "upstream_cx_destroy_local_with_active_rq",
    /// Connections closed by the endpoint with active requests.
    upstream_cx_destroy_remote_with_active_rq => "upstream_cx_destroy_remote_with_active_rq",
    /// Connections closed by `connection: close` or GOAWAY.
    upstream_cx_close_notify => "upstream_cx_close_notify",
    /// Connections closed because the endpoint violated the protocol.
    upstream_cx_protocol_error => "upstream_cx_protocol_error",
    /// HTTP/2 connections closed because no PONG arrived within the keepalive timeout.
    http2_keepalive_timeout => "http2.keepalive_timeout",
    /// Bytes received.
    upstream_cx_rx_bytes_total => "upstream_cx_rx_bytes_total",
    /// Bytes sent.
    upstream_cx_tx_bytes_total => "upstream_cx_tx_bytes_total",
    /// Tries sent on a connection.
    upstream_rq_total => "upstream_rq_total",
    /// Tries that had to wait for a connection.
    upstream_rq_pending_total => "upstream_rq_pending_total",
    /// Tries refused because `max_pending_requests` were waiting, or because of `max_connections`.
    upstream_rq_pending_overflow => "upstream_rq_pending_overflow",
    /// Tries that failed while waiting because the connection failed.
    upstream_rq_pending_failure_eject => "upstream_rq_pending_failure_eject",
    /// Tries refused because `max_requests` were active.
    upstream_rq_active_overflow => "upstream_rq_active_overflow",
    /// Tries canceled while they waited for a connection.
    upstream_rq_cancelled => "upstream_rq_cancelled",
    /// Requests answered with 503 in maintenance mode.
    upstream_rq_maintenance_mode => "upstream_rq_maintenance_mode",
    /// Requests that exceeded the route timeout.
    upstream_rq_timeout => "upstream_rq_timeout",
    /// Requests that exceeded `max_stream_duration`.
    upstream_rq_max_duration_reached => "upstream_rq_max_duration_reached",
    /// Tries that exceeded `per_try_timeout`.
    upstream_rq_per_try_timeout => "upstream_rq_per_try_timeout",
    /// Tries that exceeded `per_try_idle_timeout`.
    upstream_rq_per_try_idle_timeout => "upstream_rq_per_try_idle_timeout",
    /// Tries reset by the endpoint.
    upstream_rq_rx_reset => "upstream_rq_rx_reset",
    /// Tries reset locally.
    upstream_rq_tx_reset => "upstream_rq_tx_reset",
    /// Retries.
    upstream_rq_retry => "upstream_rq_retry",
    /// Retries with exponential back-off.
    upstream_rq_retry_backoff_exponential => "upstream_rq_retry_backoff_exponential",
    /// Retries with a back-off from a rate-limited response.
    upstream_rq_retry_backoff_ratelimited => "upstream_rq_retry_backoff_ratelimited",
    /// Requests that were not retried because no retries were left.
    upstream_rq_retry_limit_exceeded => "upstream_rq_retry_limit_exceeded",
    /// Requests that were not retried because of `max_retries` or the retry budget.
    upstream_rq_retry_overflow => "upstream_rq_retry_overflow",
    /// Requests that succeeded after a retry.
    upstream_rq_retry_success => "upstream_rq_retry_success",
    /// Requests that could not be retried because their body exceeded the buffer.
    retry_or_shadow_abandoned => "retry_or_shadow_abandoned",
    /// Picks in panic.
    lb_healthy_panic => "lb_healthy_panic",
    /// Changes of the endpoint set.
    membership_change => "membership_change",
    /// Started endpoint updates.
    update_attempt => "update_attempt",
    /// Successful endpoint updates.
    update_success => "update_success",
    /// Failed endpoint updates.
    update_failure => "update_failure",
    /// Endpoint updates without endpoints.
    update_empty => "update_empty",
    /// Endpoint updates without a change.
    update_no_rebuild => "update_no_rebuild",
    /// Ejections.
    ejections_enforced_total => "outlier_detection.ejections_enforced_total",
    /// Ejections that `max_ejection_percent` has prevented.
    ejections_overflow => "outlier_detection.ejections_overflow",
    /// `consecutive_5xx` reached.
    ejections_detected_consecutive_5xx => "outlier_detection.ejections_detected_consecutive_5xx",
    /// Ejections by `consecutive_5xx`.
    ejections_enforced_consecutive_5xx => "outlier_detection.ejections_enforced_consecutive_5xx",
    /// `consecutive_gateway_failure` reached.
    ejections_detected_consecutive_gateway_failure =>
        "outlier_detection.ejections_detected_consecutive_gateway_failure",
    /// Ejections by `consecutive_gateway_failure`.
    ejections_enforced_consecutive_gateway_failure =>
        "outlier_detection.ejections_enforced_consecutive_gateway_failure",
    /// `consecutive_local_origin_failure` reached.
    ejections_detected_consecutive_local_origin_failure =>
        "outlier_detection.ejections_detected_consecutive_local_origin_failure",
    /// Ejections by `consecutive_local_origin_failure`.
    ejections_enforced_consecutive_local_origin_failure =>
        "outlier_detection.ejections_enforced_consecutive_local_origin_failure",
    /// Success rates that are too low.
    ejections_detected_success_rate => "outlier_detection.ejections_detected_success_rate",
    /// Ejections by success rate.
    ejections_enforced_success_rate => "outlier_detection.ejections_enforced_success_rate",
    /// Shares of failures that are too high.
    ejections_detected_failure_percentage => "outlier_detection.ejections_detected_failure_percentage",
    /// Ejections by the share of failures.
    ejections_enforced_failure_percentage => "outlier_detection.ejections_enforced_failure_percentage",
}

impl ClusterStats {
    /// Counts a response: `upstream_rq_completed`, `upstream_rq_2xx`, `upstream_rq_200` and the same under `external.`
    /// or `internal.`. Local replies for a failed upstream are counted too, as in Envoy.
    pub fn count_response(&self, status: StatusCode, origin: RequestOrigin) {
        match origin {
            RequestOrigin::External => self.external.count(status),
            RequestOrigin::Internal => self.internal.count(status),
        }
    }

    /// Counts a request that `drop_overloads` has dropped.
    #[cold]
    pub(crate) fn count_dropped_request(&self, category: &Arc<str>) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        match dropped.iter_mut().find(|(name, _)| name == category) {
            Some((_, count)) => *count += 1,
            None => dropped.push((Arc::clone(category), 1)),
        }
    }

    /// The requests that `drop_overloads` has dropped, by category. They are a part of load reports, and not of Envoy's
    /// statistics.
    #[must_use]
    pub fn dropped_requests(&self) -> Vec<(Arc<str>, u64)> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a response that is discarded because of a retry, under `retry.` only, as in Envoy.
    pub(crate) fn count_retried_response(&self, status: StatusCode) {
        self.retried.count(status);
    }

    /// Statistics of TLS handshakes, which exist from the first call.
    #[must_use]
    pub fn tls(&self) -> &TlsStats {
        self.tls.get_or_init(Box::default)
    }

    /// Calls `visit` with each statistic. Response codes that have not occurred are left out.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&str, StatKind, u64)) {
        self.for_each_counter(visit);
        for (name, counter) in self.tls.get().into_iter().flat_map(|tls| tls.counters()) {
            visit(name, StatKind::Counter, counter.get());
        }
        visit("outlier_detection.ejections_active", StatKind::Gauge, self.ejections_active.get());
        let mut name = String::new();
        for (prefix, origins) in [
            ("", &[&self.external, &self.internal][..]),
            ("external.", &[&self.external]),
            ("internal.", &[&self.internal]),
            ("retry.", &[&self.retried]),
        ] {
            for_each_response_code(&mut name, prefix, origins, visit);
        }
        self.for_each_ext_authz(visit);
    }
}

fn for_each_response_code(
    name: &mut String,
    prefix: &str,
    origins: &[&ResponseCodes],
    visit: &mut dyn FnMut(&str, StatKind, u64),
) {
    let mut emit = |name: &mut String, what: std::fmt::Arguments<'_>, count: u64| {
        if count > 0 {
            name.clear();
            // Writing to a String cannot fail.
            let _ = write!(name, "{prefix}upstream_rq_{what}");
            visit(name, StatKind::Counter, count);
        }
    };
    let mut completed = 0;
    for class in 0..ResponseCodes::CLASSES {
        let mut in_class = 0;
        for code in 0..ResponseCodes::PER_CLASS {
            let count = origins.iter().map(|codes| codes.get(class, code)).sum();
            emit(name, format_args!("{}{code:02}", class + 1), count);
            in_class += count;
        }
        emit(name, format_args!("{}xx", class + 1), in_class);
        // As in Envoy, a switch of protocols does not complete the request.
        if class > 0 {
            completed += in_class;
        }
    }
    emit(name, format_args!("completed"), completed);
}

/// Authorization checks of requests to a cluster. Envoy `cluster.<name>.ext_authz.`.
#[derive(Debug, Default)]
pub struct ExtAuthzStats {
    /// Requests that were allowed: `ok`.
    pub ok: Counter,
    /// Requests that were denied: `denied`.
    pub denied: Counter,
    /// Failures of the authorization service: `error`.
    pub error: Counter,
    /// Requests that were allowed in spite of a failure: `failure_mode_allowed`.
    pub failure_mode_allowed: Counter,
    /// Decisions that are not valid: `invalid`.
    pub invalid: Counter,
}

impl ExtAuthzStats {
    fn counters(&self) -> [(&'static str, &Counter); 5] {
        [
            ("ok", &self.ok),
            ("denied", &self.denied),
            ("error", &self.error),
            ("failure_mode_allowed", &self.failure_mode_allowed),
            ("invalid", &self.invalid),
        ]
    }

    fn reset(&self) {
        self.counters().iter().for_each(|(_, counter)| counter.reset());
    }
}

impl ClusterStats {
    /// The authorization checks by filters with this `stat_prefix`. They are kept from the first call on.
    pub fn ext_authz(&self, stat_prefix: &Arc<str>) -> Arc<ExtAuthzStats> {
        let mut kept = self.lock_ext_authz();
        if let Some((_, stats)) = kept.iter().find(|(prefix, _)| prefix == stat_prefix) {
            return Arc::clone(stats);
        }
        let stats = Arc::<ExtAuthzStats>::default();
        kept.push((Arc::clone(stat_prefix), Arc::clone(&stats)));
        stats
    }

    fn for_each_ext_authz(&self, visit: &mut dyn FnMut(&str, StatKind, u64)) {
        for (prefix, stats) in &*self.lock_ext_authz() {
            let dot = if prefix.is_empty() { "" } else { "." };
            for (name, counter) in stats.counters().into_iter().filter(|(_, counter)| counter.get() > 0) {
                visit(&format!("ext_authz.{prefix}{dot}{name}"), StatKind::Counter, counter.get());
            }
        }
    }

    fn lock_ext_authz(&self) -> MutexGuard<'_, Vec<(Arc<str>, Arc<ExtAuthzStats>)>> {
        self.ext_authz.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Responses by status code. The counters of a class are allocated with its first response, because a process may have
/// 10,000 clusters, most of which have responses of at most one class.
#[derive(Debug, Default)]
pub(crate) struct ResponseCodes {
    classes: [OnceLock<Box<[Counter; Self::PER_CLASS]>>; Self::CLASSES],
}

impl ResponseCodes {
    const CLASSES: usize = 5;
    const PER_CLASS: usize = 100;

    /// Counts a response. Codes of 600 and above are not counted.
    pub(crate) fn count(&self, status: StatusCode) {
        let code = usize::from(status.as_u16()) - Self::PER_CLASS;
        if let Some(class) = self.classes.get(code / Self::PER_CLASS) {
            class.get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default())))[code % Self::PER_CLASS].inc();
        }
    }

    pub(crate) fn reset(&self) {
        self.classes.iter().filter_map(OnceLock::get).flat_map(|codes| codes.iter()).for_each(Counter::reset);
    }

    /// Calls `visit` with the codes that have occurred: `upstream_rq_200`, `upstream_rq_2xx` and `upstream_rq_completed`.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&str, StatKind, u64)) {
        for_each_response_code(&mut String::new(), "", &[self], visit);
    }

    fn get(&self, class: usize, code: usize) -> u64 {
        self.classes[class].get().map_or(0, |codes| codes[code].get())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn responses_appear_by_code_class_and_origin() {
        let stats = ClusterStats::default();
        for (status, origin, times) in
            [(200, RequestOrigin::External, 2), (204, RequestOrigin::Internal, 1), (503, RequestOrigin::External, 1)]
        {
            (0..times).for_each(|_| stats.count_response(StatusCode::from_u16(status).unwrap(), origin));
        }
        stats.count_response(StatusCode::from_u16(999).unwrap(), RequestOrigin::External);
        stats.count_response(StatusCode::SWITCHING_PROTOCOLS, RequestOrigin::External);
        stats.count_retried_response(StatusCode::BAD_GATEWAY);

        let mut seen = BTreeMap::new();
        stats.for_each(&mut |name, _, value| {
            if value > 0 {
                seen.insert(name.to_owned(), value);
            }
        });
        let expected = [
            ("external.upstream_rq_101", 1),
            ("external.upstream_rq_1xx", 1),
            ("external.upstream_rq_200", 2),
            ("external.upstream_rq_2xx", 2),
            ("external.upstream_rq_503", 1),
            ("external.upstream_rq_5xx", 1),
            ("external.upstream_rq_completed", 3),
            ("internal.upstream_rq_204", 1),
            ("internal.upstream_rq_2xx", 1),
            ("internal.upstream_rq_completed", 1),
            ("retry.upstream_rq_502", 1),
            ("retry.upstream_rq_5xx", 1),
            ("retry.upstream_rq_completed", 1),
            ("upstream_rq_101", 1),
            ("upstream_rq_1xx", 1),
            ("upstream_rq_200", 2),
            ("upstream_rq_204", 1),
            ("upstream_rq_2xx", 3),
            ("upstream_rq_503", 1),
            ("upstream_rq_5xx", 1),
            ("upstream_rq_completed", 4),
        ];
        assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }
}

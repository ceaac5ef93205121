//! Envoy's statistics of listeners and of HTTP connection managers, under Envoy's names.
//!
//! Only what this implementation can count is listed; a statistic that would always read zero is left out.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use hashbrown::HashMap;
use http::{StatusCode, Version};
use mesh_core::telemetry::{Counter, Gauge, TlsStats};
use parking_lot::Mutex;

use super::{
    connection_stats::{CodecStats, HttpInspectorStats, TcpStats, TlsInspectorStats},
    metric::Histogram,
    stat::{Scope, StatSource, StatValue, StatVisitor},
};

macro_rules! stats {
    (
        $(#[$doc:meta])* $name:ident {
            counters { $($(#[$counter_doc:meta])* $counter:ident = $counter_name:literal,)* }
            gauges { $($(#[$gauge_doc:meta])* $gauge:ident = $gauge_name:literal,)* }
            histograms { $($(#[$histogram_doc:meta])* $histogram:ident = $histogram_name:literal,)* }
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$counter_doc])* pub $counter: Counter,)*
            $($(#[$gauge_doc])* pub $gauge: Gauge,)*
            $($(#[$histogram_doc])* pub $histogram: Histogram,)*
            registered: $crate::telemetry::http_stats::RegisteredStats,
        }

        impl $name {
            pub(super) fn visit(&self, scope: Scope<'_>, visitor: &mut StatVisitor<'_>) {
                $(visitor(scope, $counter_name, StatValue::Counter(self.$counter.get()));)*
                $(visitor(scope, $gauge_name, StatValue::Gauge(self.$gauge.get()));)*
                $(visitor(scope, $histogram_name, StatValue::Histogram(&self.$histogram));)*
                for (name, registered) in &*self.registered.lock() {
                    visitor(scope, name, registered.value());
                }
            }

            /// Sets every counter to 0.
            pub fn reset_counters(&self) {
                $(self.$counter.reset();)*
                self.registered.lock().values().for_each($crate::telemetry::http_stats::Registered::reset);
            }
        }
    };
}

pub(super) use stats;

stats! {
    /// Statistics of the connection managers with one `stat_prefix`. Envoy `http.<stat_prefix>.`.
    HttpStats {
        counters {
            /// Connections accepted.
            downstream_cx_total = "downstream_cx_total",
            /// Connections that spoke HTTP/1.
            downstream_cx_http1_total = "downstream_cx_http1_total",
            /// Connections that spoke HTTP/2.
            downstream_cx_http2_total = "downstream_cx_http2_total",
            /// Connections that ended.
            downstream_cx_destroy = "downstream_cx_destroy",
            /// Connections ended by a protocol error.
            downstream_cx_protocol_error = "downstream_cx_protocol_error",
            /// Connections closed because they were idle.
            downstream_cx_idle_timeout = "downstream_cx_idle_timeout",
            /// Connections drained because they were old.
            downstream_cx_max_duration_reached = "downstream_cx_max_duration_reached",
            /// Connections closed after their last allowed request.
            downstream_cx_max_requests_reached = "downstream_cx_max_requests_reached",
            /// Connections closed by draining.
            downstream_cx_drain_close = "downstream_cx_drain_close",
            /// Connections that became tunnels.
            downstream_cx_upgrades_total = "downstream_cx_upgrades_total",
            /// Bytes received.
            downstream_cx_rx_bytes_total = "downstream_cx_rx_bytes_total",
            /// Bytes sent.
            downstream_cx_tx_bytes_total = "downstream_cx_tx_bytes_total",
            /// Requests.
            downstream_rq_total = "downstream_rq_total",
            /// Requests over HTTP/1.
            downstream_rq_http1_total = "downstream_rq_http1_total",
            /// Requests over HTTP/2.
            downstream_rq_http2_total = "downstream_rq_http2_total",
            /// Requests that were answered.
            downstream_rq_completed = "downstream_rq_completed",
            /// Requests answered with 1xx.
            downstream_rq_1xx = "downstream_rq_1xx",
            /// Requests answered with 2xx.
            downstream_rq_2xx = "downstream_rq_2xx",
            /// Requests answered with 3xx.
            downstream_rq_3xx = "downstream_rq_3xx",
            /// Requests answered with 4xx.
            downstream_rq_4xx = "downstream_rq_4xx",
            /// Requests answered with 5xx.
            downstream_rq_5xx = "downstream_rq_5xx",
            /// Requests reset by the client.
            downstream_rq_rx_reset = "downstream_rq_rx_reset",
            /// Requests whose path could not be normalized.
            downstream_rq_failed_path_normalization = "downstream_rq_failed_path_normalization",
            /// Requests redirected to their normal path, because it had escaped slashes.
            downstream_rq_redirected_with_normalized_path = "downstream_rq_redirected_with_normalized_path",
            /// Requests with too many or too large headers.
            downstream_rq_too_large = "downstream_rq_too_large",
            /// Upgrades that no configuration allows.
            downstream_rq_ws_on_non_ws_route = "downstream_rq_ws_on_non_ws_route",
            /// Streams ended by the stream idle timeout.
            downstream_rq_idle_timeout = "downstream_rq_idle_timeout",
            /// Streams ended because they lasted too long.
            downstream_rq_max_duration_reached = "downstream_rq_max_duration_reached",
            /// Requests whose headers took too long to arrive.
            downstream_rq_header_timeout = "downstream_rq_header_timeout",
            /// Requests that took too long to arrive.
            downstream_rq_timeout = "downstream_rq_timeout",
            /// Requests without a route.
            no_route = "no_route",
            /// Requests to a cluster that does not exist.
            no_cluster = "no_cluster",
            /// Requests answered by the route itself, including redirects.
            rq_direct_response = "rq_direct_response",
            /// Internal redirects followed.
            rq_redirect = "rq_redirect",
            /// Requests handed to an upstream.
            rq_total = "rq_total",
        }
        gauges {
            /// Connections open.
            downstream_cx_active = "downstream_cx_active",
            /// Connections open that speak HTTP/1.
            downstream_cx_http1_active = "downstream_cx_http1_active",
            /// Connections open that speak HTTP/2.
            downstream_cx_http2_active = "downstream_cx_http2_active",
            /// Tunnels open.
            downstream_cx_upgrades_active = "downstream_cx_upgrades_active",
            /// Requests in flight.
            downstream_rq_active = "downstream_rq_active",
        }
        histograms {
            /// Milliseconds from the first byte of a request to the last byte of its response.
            downstream_rq_time = "downstream_rq_time",
        }
    }
}

stats! {
    /// Statistics of one listener. Envoy `listener.<stat_prefix>.`.
    ListenerStats {
        counters {
            /// Connections accepted.
            downstream_cx_total = "downstream_cx_total",
            /// Connections that ended.
            downstream_cx_destroy = "downstream_cx_destroy",
            /// Connections closed by the timeout of listener filters.
            downstream_pre_cx_timeout = "downstream_pre_cx_timeout",
            /// Connections closed by the client while listener filters waited.
            downstream_listener_filter_remote_close = "downstream_listener_filter_remote_close",
            /// Connections closed because no filter chain matches them.
            no_filter_chain_match = "no_filter_chain_match",
        }
        gauges {
            /// Connections open.
            downstream_cx_active = "downstream_cx_active",
            /// Connections in listener filters.
            downstream_pre_cx_active = "downstream_pre_cx_active",
        }
        histograms {}
    }
}

stats! {
    /// Responses of one listener's connection manager. Envoy `listener.<stat_prefix>.http.<stat_prefix>.`.
    ListenerHttpStats {
        counters {
            /// Requests that were answered.
            downstream_rq_completed = "downstream_rq_completed",
            /// Requests answered with 1xx.
            downstream_rq_1xx = "downstream_rq_1xx",
            /// Requests answered with 2xx.
            downstream_rq_2xx = "downstream_rq_2xx",
            /// Requests answered with 3xx.
            downstream_rq_3xx = "downstream_rq_3xx",
            /// Requests answered with 4xx.
            downstream_rq_4xx = "downstream_rq_4xx",
            /// Requests answered with 5xx.
            downstream_rq_5xx = "downstream_rq_5xx",
        }
        gauges {}
        histograms {}
    }
}

/// Statistics that are registered by name, such as those of a filter.
pub(super) type RegisteredStats = Mutex<BTreeMap<Cow<'static, str>, Registered>>;

/// A statistic that is registered by name.
#[derive(Clone, Debug)]
pub(super) enum Registered {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
}

impl Registered {
    pub(super) fn value(&self) -> StatValue<'_> {
        match self {
            Self::Counter(counter) => StatValue::Counter(counter.get()),
            Self::Gauge(gauge) => StatValue::Gauge(gauge.get()),
        }
    }

    pub(super) fn reset(&self) {
        if let Self::Counter(counter) = self {
            counter.reset();
        }
    }
}

impl HttpStats {
    /// The counter `name` of a filter, such as `fault.delays_injected`; filters that use one name share it.
    #[must_use]
    pub fn counter(&self, name: impl Into<Cow<'static, str>>) -> Arc<Counter> {
        match self.registered(name, || Registered::Counter(Arc::default())) {
            Registered::Counter(counter) => counter,
            // The name is taken by a gauge: the counter counts, but is not shown.
            Registered::Gauge(_) => Arc::default(),
        }
    }

    /// The gauge `name` of a filter, such as `fault.active_faults`; filters that use one name share it.
    #[must_use]
    pub fn gauge(&self, name: impl Into<Cow<'static, str>>) -> Arc<Gauge> {
        match self.registered(name, || Registered::Gauge(Arc::default())) {
            Registered::Gauge(gauge) => gauge,
            Registered::Counter(_) => Arc::default(),
        }
    }

    fn registered(&self, name: impl Into<Cow<'static, str>>, new: impl FnOnce() -> Registered) -> Registered {
        self.registered.lock().entry(name.into()).or_insert_with(new).clone()
    }

    /// Counts a request that starts.
    pub fn request_started(&self, version: Version) {
        self.downstream_rq_total.inc();
        self.downstream_rq_active.inc();
        if version == Version::HTTP_2 {
            self.downstream_rq_http2_total.inc();
        } else {
            self.downstream_rq_http1_total.inc();
        }
    }

    /// Counts the response to a request.
    pub fn response(&self, status: StatusCode) {
        self.downstream_rq_completed.inc();
        if let Some(class) = self.response_class(status) {
            class.inc();
        }
    }

    fn response_class(&self, status: StatusCode) -> Option<&Counter> {
        Some(match status.as_u16() / 100 {
            1 => &self.downstream_rq_1xx,
            2 => &self.downstream_rq_2xx,
            3 => &self.downstream_rq_3xx,
            4 => &self.downstream_rq_4xx,
            5 => &self.downstream_rq_5xx,
            _ => return None,
        })
    }
}

/// A connection, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct CountedConnection<'a>(&'a ListenerStats);

impl ListenerStats {
    /// Statistics of TLS handshakes, which are shown from the first call.
    #[must_use]
    pub fn tls(&self) -> TlsStats {
        let mut registered = self.registered.lock();
        TlsStats::from_counters(|name| {
            match registered.entry(name.into()).or_insert_with(|| Registered::Counter(Arc::default())) {
                Registered::Counter(counter) => Arc::clone(counter),
                Registered::Gauge(_) => Arc::default(),
            }
        })
    }

    /// Counts a connection.
    pub(crate) fn connection(&self) -> CountedConnection<'_> {
        self.downstream_cx_total.inc();
        self.downstream_cx_active.inc();
        CountedConnection(self)
    }
}

/// A connection in listener filters, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct WaitingConnection<'a>(&'a ListenerStats);

impl ListenerStats {
    /// Counts a connection in listener filters.
    pub(crate) fn waiting_connection(&self) -> WaitingConnection<'_> {
        self.downstream_pre_cx_active.inc();
        WaitingConnection(self)
    }
}

impl Drop for WaitingConnection<'_> {
    fn drop(&mut self) {
        self.0.downstream_pre_cx_active.dec();
    }
}

impl Drop for CountedConnection<'_> {
    fn drop(&mut self) {
        self.0.downstream_cx_active.dec();
        self.0.downstream_cx_destroy.inc();
    }
}

impl ListenerHttpStats {
    /// Counts the response to a request.
    pub fn response(&self, status: StatusCode) {
        self.downstream_rq_completed.inc();
        match status.as_u16() / 100 {
            1 => self.downstream_rq_1xx.inc(),
            2 => self.downstream_rq_2xx.inc(),
            3 => self.downstream_rq_3xx.inc(),
            4 => self.downstream_rq_4xx.inc(),
            5 => self.downstream_rq_5xx.inc(),
            _ => {}
        }
    }
}

/// `stat_prefix` of a listener and of its connection manager.
type ListenerHttpKey = (Arc<str>, Arc<str>);

/// The statistics of every listener and connection manager, by name. As in Envoy, they live as long as the process: a
/// listener that is removed and added again continues them.
#[derive(Debug, Default)]
pub struct DownstreamStats {
    http: Mutex<HashMap<Arc<str>, Arc<HttpStats>>>,
    listeners: Mutex<HashMap<Arc<str>, Arc<ListenerStats>>>,
    listener_http: Mutex<HashMap<ListenerHttpKey, Arc<ListenerHttpStats>>>,
    tcp: Mutex<HashMap<Arc<str>, Arc<TcpStats>>>,
    /// Those that network filters register.
    network_filters: RegisteredStats,
    /// Set when the first listener has the filter.
    tls_inspector: OnceLock<Arc<TlsInspectorStats>>,
    http_inspector: OnceLock<Arc<HttpInspectorStats>>,
    /// Set with the first listener for HTTP.
    codec: OnceLock<Arc<CodecStats>>,
}

impl DownstreamStats {
    /// The statistics of connection managers with this `stat_prefix`.
    #[must_use]
    pub fn http(&self, stat_prefix: &Arc<str>) -> Arc<HttpStats> {
        Arc::clone(self.http.lock().entry(Arc::clone(stat_prefix)).or_default())
    }

    /// The statistics of the listener with this `stat_prefix`.
    #[must_use]
    pub fn listener(&self, stat_prefix: &Arc<str>) -> Arc<ListenerStats> {
        Arc::clone(self.listeners.lock().entry(Arc::clone(stat_prefix)).or_default())
    }

    /// The statistics of one listener's connection manager.
    #[must_use]
    pub fn listener_http(&self, listener: &Arc<str>, stat_prefix: &Arc<str>) -> Arc<ListenerHttpStats> {
        let key = (Arc::clone(listener), Arc::clone(stat_prefix));
        Arc::clone(self.listener_http.lock().entry(key).or_default())
    }

    /// The statistics of TCP proxies with this `stat_prefix`.
    #[must_use]
    pub fn tcp(&self, stat_prefix: &Arc<str>) -> Arc<TcpStats> {
        Arc::clone(self.tcp.lock().entry(Arc::clone(stat_prefix)).or_default())
    }

    /// The statistics of the listener filter that recognizes TLS.
    #[must_use]
    pub fn tls_inspector(&self) -> Arc<TlsInspectorStats> {
        Arc::clone(self.tls_inspector.get_or_init(Arc::default))
    }

    /// The statistics of the listener filter that recognizes HTTP.
    #[must_use]
    pub fn http_inspector(&self) -> Arc<HttpInspectorStats> {
        Arc::clone(self.http_inspector.get_or_init(Arc::default))
    }

    /// The counter `name` of a network filter, such as `tcp.rbac.allowed`; filters that use one name share it.
    #[must_use]
    pub fn network_filter_counter(&self, name: impl Into<Cow<'static, str>>) -> Arc<Counter> {
        let mut registered = self.network_filters.lock();
        match registered.entry(name.into()).or_insert_with(|| Registered::Counter(Arc::default())) {
            Registered::Counter(counter) => Arc::clone(counter),
            Registered::Gauge(_) => Arc::default(),
        }
    }

    /// The statistics of HTTP codecs.
    #[must_use]
    pub fn codec(&self) -> Arc<CodecStats> {
        Arc::clone(self.codec.get_or_init(Arc::default))
    }
}

impl StatSource for DownstreamStats {
    fn visit(&self, visitor: &mut StatVisitor<'_>) {
        for (stat_prefix, stats) in &*self.http.lock() {
            stats.visit(Scope::Http(stat_prefix), visitor);
        }
        for (stat_prefix, stats) in &*self.listeners.lock() {
            stats.visit(Scope::Listener(stat_prefix), visitor);
        }
        for ((listener, stat_prefix), stats) in &*self.listener_http.lock() {
            stats.visit(Scope::ListenerHttp { listener, stat_prefix }, visitor);
        }
        for (stat_prefix, stats) in &*self.tcp.lock() {
            stats.visit(Scope::Tcp(stat_prefix), visitor);
        }
        for (name, registered) in &*self.network_filters.lock() {
            visitor(Scope::Process, name, registered.value());
        }
        self.tls_inspector.get().iter().for_each(|stats| stats.visit(Scope::Process, visitor));
        self.http_inspector.get().iter().for_each(|stats| stats.visit(Scope::Process, visitor));
        self.codec.get().iter().for_each(|stats| stats.visit(Scope::Process, visitor));
    }

    fn reset_counters(&self) {
        self.http.lock().values().for_each(|stats| stats.reset_counters());
        self.listeners.lock().values().for_each(|stats| stats.reset_counters());
        self.listener_http.lock().values().for_each(|stats| stats.reset_counters());
        self.tcp.lock().values().for_each(|stats| stats.reset_counters());
        self.network_filters.lock().values().for_each(Registered::reset);
        self.tls_inspector.get().iter().for_each(|stats| stats.reset_counters());
        self.http_inspector.get().iter().for_each(|stats| stats.reset_counters());
        self.codec.get().iter().for_each(|stats| stats.reset_counters());
    }
}

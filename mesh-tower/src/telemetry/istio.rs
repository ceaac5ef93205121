//! Istio's standard metrics: `istio_requests_total`, `istio_request_duration_milliseconds`, `istio_request_bytes` and
//! `istio_response_bytes`, with Istio's labels in Istio's order.
//! <https://istio.io/latest/docs/reference/config/metrics/>
//!
//! The 25 labels of a request are not built on the request path. A few handles and small numbers ([`SeriesKey`]) identify a
//! series, and each thread has a cache from those to its counts. Labels are built once per thread and series. Each thread
//! has its own counts in a series, so that cores do not contend for cache lines; they are added up when metrics are scraped.

use std::{
    cell::RefCell,
    fmt::Write as _,
    sync::{
        Arc, Weak,
        atomic::{Ordering, fence},
    },
    time::Duration,
};

use hashbrown::HashMap;
use http::StatusCode;
use mesh_core::{
    grpc,
    model::{DestinationService, Workload},
    telemetry::{
        Counter, ResponseFlags,
        labels::{
            ConnectionSecurityPolicy, ISTIO_REQUEST_BYTES, ISTIO_REQUEST_DURATION_MILLISECONDS, ISTIO_REQUESTS_TOTAL,
            ISTIO_RESPONSE_BYTES, Reporter, RequestLabels, RequestProtocol,
        },
    },
};
use parking_lot::Mutex;

use super::{
    istio_tcp::{TcpRegistry, TcpSeries},
    metric::ThreadHistogram,
    stat::{Escaped, write_histogram},
};

/// Series in the cache of a thread. A full cache is cleared.
const MAX_CACHED: usize = 4096;

/// Series in a process. Requests of further series are counted in [`IstioMetrics::dropped`] only.
const MAX_SERIES: usize = 100_000;

/// Identifies a series. Equal handles mean equal labels; two handles with equal values cost one more look-up.
#[derive(Clone, Copy, Debug)]
pub struct SeriesKey<'a> {
    /// The side that counts the request.
    pub reporter: Reporter,
    /// The workload that sent the request; `None` = unknown.
    pub source: Option<&'a Arc<Workload>>,
    /// The workload that responded; `None` = unknown, or there was no response.
    pub destination: Option<&'a Arc<Workload>>,
    /// The service that the request was for; `None` = unknown.
    pub service: Option<&'a Arc<DestinationService>>,
    /// HTTP or gRPC.
    pub protocol: RequestProtocol,
    /// HTTP status; 0 if there was no response.
    pub response_code: u16,
    /// gRPC status of a gRPC response that has one.
    pub grpc_status: Option<u32>,
    /// Envoy's response flags.
    pub flags: ResponseFlags,
    /// The client's identity by its certificate: the first URI name. `None` = it has none, or it is not verified.
    pub source_principal: Option<&'a Arc<str>>,
    /// The server's identity by its certificate, likewise.
    pub destination_principal: Option<&'a Arc<str>>,
}

/// Sizes and duration of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestSample {
    /// From the first byte of the request to the last byte of the response.
    pub duration: Duration,
    /// Bytes of request headers and body.
    pub request_bytes: u64,
    /// Bytes of response headers and body.
    pub response_bytes: u64,
}

/// Istio's metrics of one process. Clones are handles to the same metrics.
#[derive(Clone, Debug, Default)]
pub struct IstioMetrics {
    registry: Arc<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    by_labels: Mutex<HashMap<String, Series>>,
    dropped: Counter,
    tcp: TcpRegistry,
}

/// The counts of all threads in one series.
type Series = Vec<ThreadCounts>;

/// What one thread has counted in a series.
#[derive(Debug)]
struct ThreadCounts {
    /// Dangles when the thread has ended. Another thread may then continue its counts.
    thread: Weak<()>,
    counts: Arc<Counts>,
}

/// Requests of one series. Every request has a duration, so the count of durations is the count of requests.
#[derive(Debug, Default)]
struct Counts {
    duration_milliseconds: ThreadHistogram,
    request_bytes: ThreadHistogram,
    response_bytes: ThreadHistogram,
}

/// A metric's name and where it is kept.
type HistogramOf = (&'static str, fn(&Counts) -> &ThreadHistogram);

thread_local! {
    static CACHE: RefCell<HashMap<CacheKey, Cached>> = RefCell::default();
    /// Lives as long as the thread.
    static THREAD: Arc<()> = Arc::default();
}

/// A [`SeriesKey`] as numbers: the addresses of its handles, and its small values in one word.
#[derive(PartialEq, Eq, Hash)]
struct CacheKey {
    registry: usize,
    handles: [usize; 5],
    small: u64,
}

/// What the addresses in a [`CacheKey`] are of.
type Handles = (Arc<Registry>, [Option<Arc<Workload>>; 2], Option<Arc<DestinationService>>, [Option<Arc<str>>; 2]);

struct Cached {
    counts: Arc<Counts>,
    /// Keeps the values alive, so that the addresses in the key are not reused while the entry exists.
    _handles: Handles,
}

impl IstioMetrics {
    /// Counts a request that has ended.
    pub fn record(&self, key: SeriesKey<'_>, sample: RequestSample) {
        let cache_key = CacheKey::new(&self.registry, key);
        CACHE.with_borrow_mut(|cache| match cache.get(&cache_key) {
            Some(cached) => cached.counts.record(sample),
            None => self.record_first(cache, cache_key, key, sample),
        });
    }

    /// Counts the first request of a series in this thread.
    #[cold]
    fn record_first(
        &self,
        cache: &mut HashMap<CacheKey, Cached>,
        cache_key: CacheKey,
        key: SeriesKey<'_>,
        sample: RequestSample,
    ) {
        let Some(counts) = THREAD.with(|thread| self.registry.counts(key, thread)) else { return };
        counts.record(sample);
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        let _handles = (
            Arc::clone(&self.registry),
            [key.source.cloned(), key.destination.cloned()],
            key.service.cloned(),
            [key.source_principal.cloned(), key.destination_principal.cloned()],
        );
        cache.insert(cache_key, Cached { counts, _handles });
    }

    /// The series of a TCP connection.
    pub(crate) fn tcp(&self, key: SeriesKey<'_>) -> Arc<TcpSeries> {
        self.registry.tcp.series(labels_text(key))
    }

    /// Requests and connections that were not counted because there are too many series.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.registry.dropped.get() + self.registry.tcp.dropped()
    }

    /// All series in Prometheus' text format.
    #[must_use]
    pub fn prometheus_text(&self) -> String {
        let mut series: Vec<(String, Vec<Arc<Counts>>)> = {
            let by_labels = self.registry.by_labels.lock();
            let counts = |series: &Series| series.iter().map(|thread| Arc::clone(&thread.counts)).collect();
            by_labels.iter().map(|(labels, series)| (labels.clone(), counts(series))).collect()
        };
        series.sort_by(|a, b| a.0.cmp(&b.0));
        let mut text = String::new();
        self.registry.tcp.write(&mut text);
        if series.is_empty() {
            return text;
        }
        let _ = writeln!(text, "# TYPE {ISTIO_REQUESTS_TOTAL} counter");
        let total = |threads: &[Arc<Counts>], histogram: fn(&Counts) -> &ThreadHistogram| {
            ThreadHistogram::total(threads.iter().map(|counts| histogram(counts)))
        };
        for (labels, threads) in &series {
            let requests = total(threads, |counts| &counts.duration_milliseconds).count();
            let _ = writeln!(text, "{ISTIO_REQUESTS_TOTAL}{{{labels}}} {requests}");
        }
        let histograms: [HistogramOf; 3] = [
            (ISTIO_REQUEST_DURATION_MILLISECONDS, |counts| &counts.duration_milliseconds),
            (ISTIO_REQUEST_BYTES, |counts| &counts.request_bytes),
            (ISTIO_RESPONSE_BYTES, |counts| &counts.response_bytes),
        ];
        for (name, histogram) in histograms {
            let _ = writeln!(text, "# TYPE {name} histogram");
            for (labels, threads) in &series {
                write_histogram(&mut text, name, labels, &total(threads, histogram));
            }
        }
        text
    }
}

impl Registry {
    /// The counts of `thread`, the current thread, in the series `key`. `None` if there are too many series.
    fn counts(&self, key: SeriesKey<'_>, thread: &Arc<()>) -> Option<Arc<Counts>> {
        let labels = labels_text(key);
        let mut by_labels = self.by_labels.lock();
        if by_labels.len() >= MAX_SERIES && !by_labels.contains_key(&labels) {
            self.dropped.inc();
            return None;
        }
        let series = by_labels.entry(labels).or_default();
        let this = Arc::downgrade(thread);
        let own = series.iter().position(|counts| counts.thread.ptr_eq(&this));
        let of_ended = || series.iter().position(|counts| counts.thread.strong_count() == 0);
        let position = own.or_else(of_ended).unwrap_or_else(|| {
            series.push(ThreadCounts { thread: Weak::new(), counts: Arc::default() });
            series.len() - 1
        });
        // Makes the writes of an ended thread visible.
        fence(Ordering::Acquire);
        series[position].thread = this;
        Some(Arc::clone(&series[position].counts))
    }
}

impl Counts {
    fn record(&self, sample: RequestSample) {
        let microseconds = u64::try_from(sample.duration.as_micros()).unwrap_or(u64::MAX);
        self.duration_milliseconds.observe_thousandths(microseconds);
        self.request_bytes.observe(sample.request_bytes);
        self.response_bytes.observe(sample.response_bytes);
    }
}

impl CacheKey {
    fn new(registry: &Arc<Registry>, key: SeriesKey<'_>) -> Self {
        fn address<T: ?Sized>(handle: Option<&Arc<T>>) -> usize {
            handle.map_or(0, |handle| Arc::as_ptr(handle).cast::<()>().addr())
        }
        let grpc_status = key.grpc_status.map_or(0xFF, |status| u64::from(status.min(0xFE)));
        let small = u64::from(key.flags.bits()) << 32
            | u64::from(key.response_code) << 16
            | grpc_status << 8
            | u64::from(key.protocol == RequestProtocol::Grpc) << 1
            | u64::from(key.reporter == Reporter::Source);
        let handles = [
            address(key.source),
            address(key.destination),
            address(key.service),
            address(key.source_principal),
            address(key.destination_principal),
        ];
        Self { registry: address(Some(registry)), handles, small }
    }
}

/// The status that a gRPC client sees: that of the response, else the one that the HTTP status maps to. Envoy
/// `Grpc::Common::getGrpcStatus`.
fn grpc_response_status(key: SeriesKey<'_>) -> Option<u32> {
    let of_http = || StatusCode::from_u16(key.response_code).ok().map(grpc::status_of_http);
    match key.protocol {
        RequestProtocol::Grpc => key.grpc_status.or_else(of_http),
        RequestProtocol::Http | RequestProtocol::Tcp => None,
    }
}

/// The labels of a series in Prometheus' text format, without the braces.
fn labels_text(key: SeriesKey<'_>) -> String {
    let labels = RequestLabels {
        reporter: key.reporter,
        source: key.source.map(|source| &**source),
        destination: key.destination.map(|destination| &**destination),
        source_principal: key.source_principal.map(|principal| &**principal),
        destination_principal: key.destination_principal.map(|principal| &**principal),
        destination_service: key.service.map(|service| &**service),
        request_protocol: key.protocol,
        response_code: StatusCode::from_u16(key.response_code).ok(),
        grpc_response_status: grpc_response_status(key),
        response_flags: key.flags,
        // As in Istio, only the server reports it, and TLS is mutual if both sides have an identity.
        connection_security_policy: match (key.reporter, key.source_principal, key.destination_principal) {
            (Reporter::Source, ..) => ConnectionSecurityPolicy::Unknown,
            (Reporter::Destination, Some(_), Some(_)) => ConnectionSecurityPolicy::MutualTls,
            (Reporter::Destination, ..) => ConnectionSecurityPolicy::None,
        },
    };
    let mut text = String::new();
    labels.for_each(&mut |name, value| {
        let separator = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{separator}{name}=\"{}\"", Escaped(value));
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Arc<Workload> {
        let mut workload = Workload::new("productpage-v1", "default");
        workload.canonical_service = "productpage".into();
        workload.canonical_revision = "v1".into();
        workload.app = "productpage".into();
        workload.version = "v1".into();
        workload.cluster = "Kubernetes".into();
        workload.principal = "spiffe://cluster.local/ns/default/sa/productpage".into();
        Arc::new(workload)
    }

    fn reviews() -> Arc<DestinationService> {
        let host = "reviews.default.svc.cluster.local";
        Arc::new(DestinationService { host: host.into(), name: "reviews".into(), namespace: "default".into() })
    }

    fn key(source: &Arc<Workload>) -> SeriesKey<'_> {
        SeriesKey {
            reporter: Reporter::Source,
            source: Some(source),
            destination: None,
            service: None,
            protocol: RequestProtocol::Http,
            response_code: 503,
            grpc_status: None,
            flags: ResponseFlags::NO_HEALTHY_UPSTREAM,
            source_principal: None,
            destination_principal: None,
        }
    }

    #[test]
    fn labels_are_istios_in_istios_order() {
        let expected = "reporter=\"source\",source_workload=\"productpage-v1\",source_canonical_service=\"productpage\",\
            source_canonical_revision=\"v1\",source_workload_namespace=\"default\",\
            source_principal=\"spiffe://cluster.local/ns/default/sa/productpage\",source_app=\"productpage\",\
            source_version=\"v1\",source_cluster=\"Kubernetes\",destination_workload=\"unknown\",\
            destination_workload_namespace=\"unknown\",destination_principal=\"unknown\",destination_app=\"unknown\",\
            destination_version=\"unknown\",destination_service=\"reviews.default.svc.cluster.local\",\
            destination_canonical_service=\"unknown\",destination_canonical_revision=\"latest\",\
            destination_service_name=\"reviews\",destination_service_namespace=\"default\",\
            destination_cluster=\"unknown\",request_protocol=\"http\",response_code=\"503\",\
            grpc_response_status=\"\",response_flags=\"UH\",connection_security_policy=\"unknown\"";
        let (client, service) = (client(), reviews());
        assert_eq!(labels_text(SeriesKey { service: Some(&service), ..key(&client) }), expected);
    }

    #[test]
    fn the_server_reports_how_the_connection_is_secured() {
        let client = client();
        let identity = Arc::from("spiffe://cluster.local/ns/default/sa/a");
        let (known, unknown) = (Some(&identity), None);
        for (reporter, source_principal, destination_principal, expected) in [
            (Reporter::Source, known, known, "unknown"),
            (Reporter::Destination, unknown, unknown, "none"),
            (Reporter::Destination, unknown, known, "none"),
            (Reporter::Destination, known, unknown, "none"),
            (Reporter::Destination, known, known, "mutual_tls"),
        ] {
            let key = SeriesKey { reporter, source_principal, destination_principal, ..key(&client) };
            let labels = labels_text(key);
            assert!(labels.ends_with(&format!("connection_security_policy=\"{expected}\"")), "{labels}");
        }
        let metrics = IstioMetrics::default();
        for principal in [known, unknown] {
            let (source_principal, destination_principal) = (principal, known);
            let reporter = Reporter::Destination;
            let key = SeriesKey { reporter, source_principal, destination_principal, ..key(&client) };
            metrics.record(key, RequestSample::default());
        }
        let text = metrics.prometheus_text();
        assert_eq!(text.lines().filter(|line| line.starts_with("istio_requests_total{")).count(), 2, "{text}");
    }

    #[test]
    fn a_grpc_response_without_a_status_has_that_of_its_http_status() {
        let client = client();
        for (protocol, response_code, grpc_status, expected) in [
            (RequestProtocol::Grpc, 200, Some(5), "5"),
            (RequestProtocol::Grpc, 404, None, "12"),
            (RequestProtocol::Grpc, 503, None, "14"),
            (RequestProtocol::Grpc, 200, None, "2"),
            (RequestProtocol::Grpc, 0, None, ""),
            (RequestProtocol::Http, 404, None, ""),
        ] {
            let labels = labels_text(SeriesKey { protocol, response_code, grpc_status, ..key(&client) });
            let label = format!("grpc_response_status=\"{expected}\"");
            assert!(labels.contains(&label), "{response_code} {grpc_status:?} gave {labels}");
        }
    }

    #[test]
    fn equal_labels_are_one_series_even_from_different_handles() {
        let metrics = IstioMetrics::default();
        let sample = RequestSample { duration: Duration::from_micros(1500), request_bytes: 10, response_bytes: 2000 };
        for _ in 0..3 {
            metrics.record(key(&client()), sample);
        }
        let shared = client();
        metrics.record(key(&shared), sample);
        metrics.record(SeriesKey { response_code: 200, grpc_status: Some(0), ..key(&shared) }, sample);
        let text = metrics.prometheus_text();
        assert_eq!(text.lines().filter(|line| line.starts_with("istio_requests_total{")).count(), 2, "{text}");
        assert!(text.lines().any(|line| line.ends_with("} 4") && line.starts_with("istio_requests_total{")), "{text}");
        let of_duration =
            |line: &&str| line.starts_with("istio_request_duration_milliseconds_bucket{") && line.contains("503");
        let le_5 = text.lines().filter(of_duration).find(|line| line.contains("le=\"5\"")).unwrap();
        assert!(le_5.ends_with(" 4"), "{le_5}");
    }

    #[test]
    fn threads_count_together_and_continue_the_counts_of_ended_threads() {
        let (metrics, client) = (IstioMetrics::default(), client());
        let count = || metrics.record(key(&client), RequestSample::default());
        count();
        for _ in 0..20 {
            std::thread::scope(|scope| scope.spawn(count).join().unwrap());
        }
        let text = metrics.prometheus_text();
        assert!(text.lines().any(|line| line.starts_with("istio_requests_total{") && line.ends_with("} 21")), "{text}");
        let threads: usize = metrics.registry.by_labels.lock().values().map(Vec::len).sum();
        assert_eq!(threads, 2, "one of this thread, one that the others share");
    }

    #[test]
    fn two_registries_do_not_mix() {
        let (first, second) = (IstioMetrics::default(), IstioMetrics::default());
        let shared = client();
        first.record(key(&shared), RequestSample::default());
        second.record(key(&shared), RequestSample::default());
        assert_eq!(first.prometheus_text(), second.prometheus_text());
    }
}

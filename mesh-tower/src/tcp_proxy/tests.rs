use std::{
    io,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mesh_core::{
    listener::ConnectionFacts,
    model::{
        AccessLog, AccessLogFormat, AccessLogSink, Cluster, DestinationService, Discovery, LoadAssignment,
        TcpProxy as Config, TrafficDirection, WeightedTcpCluster, Workload, format::Format,
    },
    rng::SplitMix64,
    store::Store,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    sync::mpsc,
    time::{Instant, advance},
};

use super::{ConnectionTelemetry, TcpProxy};
use crate::{
    Connect, ConnectTo, Connected, Connecting, Downstream, Io, Worker,
    drain::Drain,
    telemetry::{AccessLogs, Stat, StatSnapshot, Telemetry},
    testing,
    timer::now,
};

/// The outcome of an attempt to connect to an endpoint.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Accept,
    Refuse,
    Never,
}

/// In-memory endpoints. Attempts take their outcomes from the end of the list; the first element is used for all
/// others.
#[derive(Debug)]
struct Network {
    answers: Mutex<Vec<Answer>>,
    accepted: mpsc::UnboundedSender<(String, DuplexStream)>,
}

impl Connect for Network {
    fn connect<'a>(&'a self, to: ConnectTo<'a>) -> Connecting<'a> {
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.first().copied() };
        Box::pin(async move {
            match answer.unwrap_or(Answer::Accept) {
                Answer::Accept => {
                    let (ours, theirs) = duplex(64);
                    let _ = self.accepted.send((to.cluster.name.as_str().to_owned(), theirs));
                    Ok(Connected::plain_text(Io::boxed(ours)))
                }
                Answer::Refuse => Err(io::ErrorKind::ConnectionRefused.into()),
                Answer::Never => std::future::pending().await,
            }
        })
    }
}

struct Fixture {
    proxy: Arc<TcpProxy>,
    store: Store,
    telemetry: Telemetry,
    accepted: mpsc::UnboundedReceiver<(String, DuplexStream)>,
    drain: Drain,
    log: Log,
}

/// A file of its own for each test, removed afterwards.
struct Log(PathBuf);

impl Log {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("mesh-tcp-proxy-{}-{number}", std::process::id())))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // One that was never written to is not there.
        let _ = std::fs::remove_file(&self.0);
    }
}

const LOG: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% \
                   %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON% %REQUESTED_SERVER_NAME% \
                   %DURATION% %PROTOCOL% %ACCESS_LOG_TYPE%\n";

impl Fixture {
    /// A proxy to the clusters `a` and `b`, of which only `a` exists.
    fn new(answers: &[Answer], configure: impl FnOnce(&mut Config, &mut Cluster)) -> Self {
        let (sender, accepted) = mpsc::unbounded_channel();
        let network = Network { answers: Mutex::new(answers.to_vec()), accepted: sender };
        let log = Log::new();
        let (store, mut telemetry) = (Store::new(), Telemetry::default());
        telemetry.workload = Some(Arc::new(Workload::new("web", "")));
        let mut config = Config::new("p", "a");
        let format = AccessLogFormat::Text(Format::parse(LOG).unwrap());
        config.access_log.push(AccessLog::new(AccessLogSink::File(log.0.clone()), format));
        let Discovery::Static(endpoints) = testing::cluster("a", 2, |_| {}).config().discovery.clone() else {
            unreachable!("endpoints of tests are static")
        };
        let mut cluster = Cluster::new("a", Discovery::Static(endpoints));
        let service = DestinationService { host: "db.default".into(), name: "db".into(), namespace: "default".into() };
        cluster.service = Some(Arc::new(service));
        configure(&mut config, &mut cluster);
        store.set_cluster(Arc::new(cluster), now(), &mut SplitMix64::new(1));
        let worker = Worker::new(0, NonZeroUsize::MIN, network);
        let logs = AccessLogs::open(&config.access_log, &telemetry.logs).unwrap();
        let recorded =
            ConnectionTelemetry::new(TrafficDirection::Outbound, &telemetry, [Arc::new(logs), Arc::default()]);
        let stats = telemetry.stats.tcp(&config.stat_prefix);
        let proxy = TcpProxy::new(Arc::new(config), &store, worker, stats, recorded);
        Self { proxy: Arc::new(proxy), store, telemetry, accepted, drain: Drain::new(), log }
    }

    fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(64);
        let (proxy, watch) = (Arc::clone(&self.proxy), self.drain.watch());
        let facts = ConnectionFacts { server_name: Some("db.test".into()), ..ConnectionFacts::default() };
        tokio::spawn(async move { proxy.serve_connection(server, &Downstream::new(facts), watch).await });
        client
    }

    /// Both ends of a proxied connection.
    async fn connected(&mut self) -> (DuplexStream, DuplexStream) {
        let client = self.connect();
        (client, self.accepted.recv().await.unwrap().1)
    }

    /// The access log, after all connections have ended.
    async fn recorded(&self) -> String {
        self.drain.emptied().await;
        self.telemetry.logs.flush();
        std::fs::read_to_string(&self.log.0).unwrap()
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = Stat::collect([&*self.telemetry.stats as _]);
        match &stats.iter().find(|stat| stat.name == name).expect("a known statistic").value {
            StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) => *n,
            StatSnapshot::Histogram(_) | StatSnapshot::Text(_) => panic!("not a number"),
        }
    }

    fn cluster_stat(&self, name: &str) -> u64 {
        testing::stat(&self.store.cluster("a").unwrap(), name)
    }

    /// The value of one of Istio's metrics, by flags.
    fn istio(&self, name: &str, flags: &str) -> Option<u64> {
        let text = self.telemetry.istio.prometheus_text();
        let labels = ["reporter=\"source\"", "source_workload=\"web\"", "request_protocol=\"tcp\""].map(str::to_owned);
        let flags = format!("response_flags=\"{flags}\"");
        let is_it = |line: &&str| {
            line.starts_with(&format!("{name}{{")) && line.contains(&flags) && labels.iter().all(|it| line.contains(it))
        };
        text.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
    }
}

async fn closed(mut io: DuplexStream) -> bool {
    let mut rest = Vec::new();
    matches!(io.read_to_end(&mut rest).await, Ok(0))
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted_everywhere() {
    let mut fixture = Fixture::new(&[Answer::Accept], |_, _| {});
    let (mut client, mut server) = fixture.connected().await;
    // The server may speak first.
    server.write_all(b"welcome").await.unwrap();
    client.read_exact(&mut [0; 7]).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    server.read_exact(&mut [0; 4]).await.unwrap();
    assert_eq!((fixture.cluster_stat("upstream_cx_active"), fixture.cluster_stat("upstream_rq_active")), (1, 1));
    assert_eq!(fixture.istio("istio_tcp_connections_opened_total", "-"), Some(1));
    assert_eq!(fixture.istio("istio_tcp_connections_closed_total", "-"), Some(0));
    assert_eq!(fixture.istio("istio_tcp_received_bytes_total", "-"), Some(4), "counted as they come");

    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    server.write_all(b"bye").await.unwrap();
    drop(server);
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye", "a half-closed connection may still receive");

    let lines = fixture.recorded().await;
    assert!(lines.starts_with("0 - 4 10 a 127.0.0.1:"), "{lines}");
    let (_, end) = lines.split_once(" 1 - db.test ").unwrap();
    let duration = end.strip_suffix(" - TcpConnectionEnd\n").unwrap();
    assert!(duration.parse::<u64>().is_ok(), "{lines}");
    for (name, expected) in [
        ("tcp.p.downstream_cx_total", 1),
        ("tcp.p.downstream_cx_rx_bytes_total", 4),
        ("tcp.p.downstream_cx_tx_bytes_total", 10),
        ("tcp.p.idle_timeout", 0),
    ] {
        assert_eq!(fixture.stat(name), expected, "{name}");
    }
    for (name, expected) in [
        ("upstream_cx_total", 1),
        ("upstream_cx_active", 0),
        ("upstream_cx_rx_bytes_total", 10),
        ("upstream_cx_tx_bytes_total", 4),
        ("upstream_cx_destroy", 1),
        ("upstream_rq_total", 1),
        ("upstream_rq_active", 0),
    ] {
        assert_eq!(fixture.cluster_stat(name), expected, "{name}");
    }
    for (name, expected) in [
        ("istio_tcp_connections_opened_total", 1),
        ("istio_tcp_connections_closed_total", 1),
        ("istio_tcp_received_bytes_total", 4),
        ("istio_tcp_sent_bytes_total", 10),
    ] {
        assert_eq!(fixture.istio(name, "-"), Some(expected), "{name}");
    }
    let metrics = fixture.telemetry.istio.prometheus_text();
    assert!(metrics.contains("destination_service=\"db.default\"") && !metrics.contains("response_code"), "{metrics}");
}

#[tokio::test]
async fn endpoints_are_tried_until_one_accepts() {
    let mut fixture = Fixture::new(&[Answer::Accept, Answer::Refuse, Answer::Refuse], |config, _| {
        config.max_connect_attempts = NonZeroU32::new(3).unwrap();
    });
    let (client, server) = fixture.connected().await;
    drop((client, server));
    let lines = fixture.recorded().await;
    assert!(lines.starts_with("0 UF 0 0 a ") && lines.contains(" 3 "), "{lines}");
    assert_eq!(fixture.cluster_stat("upstream_cx_connect_fail"), 2);
    assert_eq!(fixture.cluster_stat("upstream_cx_connect_attempts_exceeded"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_an_endpoint_ends_with_its_response_flag() {
    type Configure = fn(&mut Config, &mut Cluster);
    let two_attempts: Configure = |config, _| config.max_connect_attempts = NonZeroU32::new(2).unwrap();
    let cases: [(&[Answer], Configure, &str, &str); 4] = [
        (&[Answer::Refuse], two_attempts, "URX,UF", "a 127.0.0.1:"),
        (&[Answer::Never], |_, cluster| cluster.connect_timeout = Duration::from_secs(1), "URX,UF", "a 127.0.0.1:"),
        (&[], |config, _| config.clusters[0].name = "b".into(), "NC", "- - 0 "),
        (&[], |_, cluster| cluster.discovery = Discovery::Static(LoadAssignment::default()), "UH", "a - 0 "),
    ];
    for (answers, configure, flags, expected) in cases {
        let fixture = Fixture::new(answers, configure);
        assert!(closed(fixture.connect()).await);
        let lines = fixture.recorded().await;
        assert!(lines.starts_with(&format!("0 {flags} 0 0 {expected}")), "{flags}: {lines}");
        assert_eq!(fixture.istio("istio_tcp_connections_opened_total", flags), Some(1));
        assert_eq!(fixture.istio("istio_tcp_connections_closed_total", flags), Some(1));
        assert_eq!(fixture.stat("tcp.p.downstream_cx_no_route"), u64::from(flags == "NC"));
        assert_eq!(fixture.cluster_stat("upstream_cx_connect_attempts_exceeded"), u64::from(flags == "URX,UF"));
        let timeouts = u64::from(matches!(answers, [Answer::Never]));
        assert_eq!(fixture.cluster_stat("upstream_cx_connect_timeout"), timeouts);
    }
}

#[tokio::test]
async fn max_connections_are_not_exceeded() {
    let mut fixture =
        Fixture::new(&[Answer::Accept], |_, cluster| cluster.circuit_breakers.default.max_connections = 1);
    let first = fixture.connected().await;
    assert!(closed(fixture.connect()).await);
    assert_eq!(fixture.cluster_stat("upstream_cx_overflow"), 1);
    assert_eq!(fixture.istio("istio_tcp_connections_closed_total", "UO"), Some(1));
    drop(first);
    fixture.drain.emptied().await;
    fixture.connected().await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_ejected() {
    let fixture = Fixture::new(&[Answer::Refuse], |config, cluster| {
        config.max_connect_attempts = NonZeroU32::new(10).unwrap();
        let detection = cluster.outlier_detection.insert(mesh_core::model::OutlierDetection::default());
        detection.max_ejection_percent = mesh_core::model::Percent::new(100).unwrap();
    });
    assert!(closed(fixture.connect()).await);
    assert!(fixture.cluster_stat("outlier_detection.ejections_enforced_total") >= 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let mut fixture = Fixture::new(&[Answer::Accept], |config, _| config.idle_timeout = Some(Duration::from_secs(10)));
    let (mut client, mut server) = fixture.connected().await;
    advance(Duration::from_secs(8)).await;
    server.write_all(b"x").await.unwrap();
    client.read_exact(&mut [0; 1]).await.unwrap();
    let since = Instant::now();
    assert!(closed(client).await && closed(server).await);
    assert_eq!(since.elapsed(), Duration::from_secs(10));
    assert_eq!(fixture.stat("tcp.p.idle_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_at_its_maximum_duration() {
    for answer in [Answer::Accept, Answer::Never] {
        let fixture = Fixture::new(&[answer], |config, cluster| {
            config.max_downstream_connection_duration = Some(Duration::from_secs(10));
            cluster.connect_timeout = Duration::from_secs(60);
        });
        let since = Instant::now();
        assert!(closed(fixture.connect()).await);
        assert_eq!(since.elapsed(), Duration::from_secs(10));
        assert_eq!(fixture.stat("tcp.p.max_downstream_connection_duration"), 1);
        assert!(fixture.recorded().await.starts_with("0 DT "), "{answer:?}");
    }
}

#[tokio::test]
async fn draining_closes_connections_that_do_not_end() {
    let mut fixture = Fixture::new(&[Answer::Accept], |_, _| {});
    let (client, _server) = fixture.connected().await;
    fixture.drain.begin();
    fixture.drain.close_idle();
    tokio::task::yield_now().await;
    assert_eq!(fixture.drain.connections(), 1, "an idle connection may still carry bytes");
    fixture.drain.abort();
    assert!(closed(client).await);
    fixture.drain.emptied().await;
}

#[tokio::test]
async fn clusters_are_chosen_by_weight() {
    let weighted =
        |name: &str, weight| WeightedTcpCluster { name: name.into(), weight: NonZeroU32::new(weight).unwrap() };
    let mut fixture = Fixture::new(&[Answer::Accept], |config, _| {
        config.clusters = vec![weighted("a", 1), weighted("c", 3)];
    });
    let endpoints = testing::cluster("c", 1, |_| {}).config().discovery.clone();
    fixture.store.set_cluster(Arc::new(Cluster::new("c", endpoints)), now(), &mut SplitMix64::new(1));
    let mut to_c = 0;
    for _ in 0..400 {
        let client = fixture.connect();
        let (cluster, server) = fixture.accepted.recv().await.unwrap();
        to_c += i32::from(cluster == "c");
        drop((client, server));
    }
    assert!((240..360).contains(&to_c), "{to_c} of 400 instead of 300");
}

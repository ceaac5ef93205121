use mesh_core::balance::PickContext;
use mesh_core::health::outlier::Outcome;
use mesh_core::model::{Cluster, DropOverload, FractionalPercent, LoadAssignment, RoutingPriority};
use mesh_core::rng::SplitMix64;

use super::*;

/// A cluster in a store, whose one endpoint gets requests.
struct Bench {
    store: Store,
    rng: SplitMix64,
    now: Instant,
}

fn asks(clusters: &[&str]) -> LoadStatsResponse {
    LoadStatsResponse {
        clusters: clusters.iter().map(|&name| name.to_owned()).collect(),
        send_all_clusters: clusters.is_empty(),
        load_reporting_interval: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..LoadStatsResponse::default()
    }
}

impl Bench {
    fn new() -> Self {
        let now = tokio::time::Instant::now().into_std();
        Self { store: Store::new(), rng: SplitMix64::new(1), now }
    }

    fn add(&mut self, name: &str, load_reporting: bool) {
        let mut endpoints: LoadAssignment = [([127, 0, 0, 1], 80).into()].into_iter().collect();
        endpoints.localities[0].locality.region = "r".into();
        endpoints.drop_overloads =
            vec![DropOverload { category: "shed".into(), drop_percentage: FractionalPercent::ALWAYS }];
        let mut cluster = Cluster::new(name, Discovery::Static(endpoints));
        cluster.load_reporting = load_reporting;
        self.store.set_cluster(Arc::new(cluster), self.now, &mut self.rng);
    }

    /// Sends a request that ends with this status, or does not end.
    fn send(&mut self, name: &str, status: Option<u16>) {
        let cluster = self.store.cluster(name).unwrap();
        let endpoint = cluster.pick(PickContext::new(&mut self.rng)).unwrap();
        cluster.begin_try(&endpoint, RoutingPriority::Default).unwrap();
        if let Some(status) = status {
            let outcome = Outcome::Status(status.try_into().unwrap());
            cluster.record(&endpoint, outcome, self.now, &mut self.rng);
            cluster.end_try(&endpoint, RoutingPriority::Default);
        }
    }

    fn drop_request(&mut self, name: &str) {
        assert!(self.store.cluster(name).unwrap().drop_request(&mut self.rng).is_some());
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

/// Issued, successful, failed and active requests, those that were dropped, and the interval in seconds.
fn numbers(report: &ClusterStats) -> ([u64; 4], u64, i64) {
    let requests = report.upstream_locality_stats.first().map_or([0; 4], |sum| {
        assert_eq!(sum.locality.as_ref().unwrap().region, "r");
        let (succeeded, failed) = (sum.total_successful_requests, sum.total_error_requests);
        [sum.total_issued_requests, succeeded, failed, sum.total_requests_in_progress]
    });
    (requests, report.total_dropped_requests, report.load_report_interval.unwrap().seconds)
}

#[test]
fn a_report_counts_what_happened_since_the_one_before() {
    let mut bench = Bench::new();
    bench.add("a", false);
    bench.send("a", Some(200));
    bench.drop_request("a");
    let mut reports = LoadReports::new(Reported::All, bench.now);
    assert!(reports.report(&bench.store, bench.now).is_empty(), "nobody has asked");
    assert_eq!(reports.handle_response(&asks(&["a"]), &bench.store, bench.now), Duration::from_secs(5));

    bench.pass(5);
    for status in [Some(200), Some(200), Some(503), None] {
        bench.send("a", status);
    }
    bench.drop_request("a");
    let report = reports.report(&bench.store, bench.now).remove(0);
    assert_eq!((report.cluster_name.as_str(), numbers(&report)), ("a", ([4, 2, 1, 1], 1, 5)));
    let drop = &report.dropped_requests[0];
    assert_eq!((drop.category.as_str(), drop.dropped_count), ("shed", 1));

    bench.pass(7);
    let report = reports.report(&bench.store, bench.now).remove(0);
    assert_eq!((numbers(&report), report.dropped_requests.len()), (([0, 0, 0, 1], 0, 7), 0));
}

#[test]
fn a_cluster_that_is_asked_for_again_is_counted_on_and_a_new_one_from_its_start() {
    let mut bench = Bench::new();
    bench.add("a", false);
    let mut reports = LoadReports::new(Reported::All, bench.now);
    reports.handle_response(&asks(&["a"]), &bench.store, bench.now);
    bench.send("a", Some(200));
    bench.pass(1);
    reports.handle_response(&asks(&[]), &bench.store, bench.now);
    bench.add("b", false);
    bench.send("b", Some(200));
    bench.pass(1);
    let mut all = reports.report(&bench.store, bench.now);
    all.sort_by(|one, other| one.cluster_name.cmp(&other.cluster_name));
    assert_eq!(all.iter().map(numbers).collect::<Vec<_>>(), [([1, 1, 0, 0], 0, 2), ([1, 1, 0, 0], 0, 1)]);
}

#[test]
fn grpc_reports_clusters_with_lrs_server_only() {
    let mut bench = Bench::new();
    bench.add("a", false);
    bench.add("b", true);
    let mut reports = LoadReports::new(Reported::WithLrsServer, bench.now);
    reports.handle_response(&asks(&[]), &bench.store, bench.now);
    let names: Vec<_> = reports.report(&bench.store, bench.now).into_iter().map(|report| report.cluster_name).collect();
    assert_eq!(names, ["b"]);
}

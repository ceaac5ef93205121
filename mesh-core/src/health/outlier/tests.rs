//! Outlier detection from failures to ejections. The expected numbers are Envoy's.

use std::time::Duration;

use super::{Detection, LocalOriginFailure, Outcome};
use crate::{
    cluster::testing::{Bench, assignment, healthy},
    model::{OutlierDetection, Percent},
    rng::{Rng, SplitMix64},
};

const SECOND: Duration = Duration::from_secs(1);

fn bench(hosts: u16, configure: impl FnOnce(&mut OutlierDetection)) -> Bench {
    let mut config = OutlierDetection::default();
    configure(&mut config);
    Bench::new(assignment(healthy(0..hosts)), |cluster| cluster.outlier_detection = Some(config))
}

fn all(config: &mut OutlierDetection) {
    config.max_ejection_percent = Percent::HUNDRED;
}

fn outlier_stat(bench: &Bench, name: &str) -> u64 {
    bench.stat(&format!("outlier_detection.{name}"))
}

/// Records locally originated failures of endpoint 0.
fn fail_locally(bench: &mut Bench, failure: LocalOriginFailure, times: u32) {
    let endpoint = bench.find(0);
    for _ in 0..times {
        bench.cluster.record(&endpoint, Outcome::LocalOrigin(failure), bench.now, &mut bench.rng);
    }
}

#[test]
fn no_more_than_max_ejection_percent_are_ejected() {
    // Measured with Envoy, with all hosts failing and the default of 10 %.
    let check = |hosts, expected, configure: fn(&mut OutlierDetection)| {
        let mut bench = bench(hosts, configure);
        (0..hosts).for_each(|host| bench.record(host, 500, 5));
        let ejected = outlier_stat(&bench, "ejections_active");
        assert_eq!(ejected, expected, "{hosts} hosts");
        assert_eq!(outlier_stat(&bench, "ejections_overflow"), u64::from(hosts) - expected, "{hosts} hosts");
        assert_eq!(bench.stat("membership_healthy"), u64::from(hosts) - expected, "{hosts} hosts");
    };
    for (hosts, expected) in [(1, 0), (3, 0), (9, 0), (10, 1), (15, 1), (20, 2), (25, 2)] {
        check(hosts, expected, |_| {});
    }
    for (hosts, expected) in [(1, 1), (9, 1), (10, 1), (20, 2)] {
        check(hosts, expected, |config| config.always_eject_one_host = true);
    }
    for (hosts, expected) in [(1, 1), (7, 7)] {
        check(hosts, expected, all);
    }
}

#[test]
fn repeated_ejections_are_longer_and_the_multiplier_decreases_with_each_sweep() {
    // 30 s multiplied by the number of ejections; sweeps every 10 s.
    let mut bench = bench(2, all);
    let ejected_for = |bench: &mut Bench| {
        bench.record(0, 500, 5);
        let begin = bench.now;
        while bench.find(0).is_ejected() {
            bench.advance(SECOND);
        }
        bench.now.duration_since(begin).as_secs()
    };
    assert_eq!(ejected_for(&mut bench), 30);
    assert_eq!(ejected_for(&mut bench), 60);
    assert_eq!(ejected_for(&mut bench), 90);
    bench.advance(SECOND * 20);
    assert_eq!(ejected_for(&mut bench), 60, "two healthy intervals take two off, the ejection adds one");
    for _ in 0..20 {
        assert!(ejected_for(&mut bench) <= 300, "max_ejection_time");
    }
    assert_eq!(ejected_for(&mut bench), 300);
    bench.advance(SECOND * 1000);
    assert_eq!(bench.cluster.poll_timeout(), None, "everything is forgotten, nothing is left to sweep");
    assert_eq!(ejected_for(&mut bench), 30);
}

#[test]
fn an_ejection_ends_at_a_sweep() {
    let mut bench = bench(1, |config| {
        all(config);
        config.base_ejection_time = SECOND * 12;
    });
    bench.advance(SECOND * 3);
    bench.record(0, 500, 5);
    bench.advance(SECOND * 16);
    assert!(bench.find(0).is_ejected(), "over since second 15, but the sweep comes at 20");
    bench.advance(SECOND);
    assert!(!bench.find(0).is_ejected());
}

#[test]
fn a_base_time_above_the_maximum_is_used() {
    let mut bench = bench(1, |config| {
        all(config);
        config.base_ejection_time = SECOND * 400;
    });
    for _ in 0..2 {
        bench.record(0, 500, 5);
        bench.advance(SECOND * 399);
        assert!(bench.find(0).is_ejected());
        bench.advance(SECOND * 10);
        assert!(!bench.find(0).is_ejected());
    }
}

#[test]
fn jitter_extends_ejections_up_to_its_maximum() {
    let mut bench = bench(400, |config| {
        all(config);
        config.max_ejection_time_jitter = SECOND * 30;
    });
    (0..400).for_each(|host| bench.record(host, 500, 5));
    let active = |bench: &mut Bench| {
        bench.advance(SECOND * 10);
        outlier_stat(bench, "ejections_active")
    };
    assert_eq!([active(&mut bench), active(&mut bench)], [400, 400]);
    let after: Vec<u64> = (0..4).map(|_| active(&mut bench)).collect();
    assert!(after[0] > 380 && (220..310).contains(&after[1]) && (90..180).contains(&after[2]), "{after:?}");
    assert_eq!(after[3], 0);
}

#[test]
fn gateway_failures_are_counted_separately_and_not_enforced_by_default() {
    let mut bench = bench(1, all);
    bench.record(0, 500, 4);
    bench.record(0, 503, 5);
    assert_eq!(outlier_stat(&bench, "ejections_detected_consecutive_gateway_failure"), 0, "ejected before the fifth");
    assert_eq!(outlier_stat(&bench, "ejections_enforced_consecutive_5xx"), 1);

    let mut bench = self::bench(1, |config| {
        all(config);
        config.consecutive_5xx = 0;
        config.enforcing_consecutive_gateway_failure = Percent::HUNDRED;
    });
    bench.record(0, 503, 4);
    bench.record(0, 500, 1);
    bench.record(0, 502, 4);
    assert!(!bench.find(0).is_ejected(), "any other answer starts the count over");
    bench.record(0, 504, 1);
    assert!(bench.find(0).is_ejected());
    assert_eq!(outlier_stat(&bench, "ejections_enforced_consecutive_gateway_failure"), 1);
    assert_eq!(outlier_stat(&bench, "ejections_enforced_total"), 1);
}

#[test]
fn a_detection_that_is_not_enforced_is_counted_and_resets_the_count() {
    let mut bench = bench(1, |config| {
        all(config);
        config.enforcing_consecutive_5xx = Percent::ZERO;
    });
    bench.record(0, 500, 12);
    assert_eq!(outlier_stat(&bench, "ejections_detected_consecutive_5xx"), 2);
    assert_eq!(outlier_stat(&bench, "ejections_enforced_total"), 0);
    assert!(!bench.find(0).is_ejected());
}

#[test]
fn enforcement_by_half_ejects_about_half() {
    let mut bench = bench(1_000, |config| {
        all(config);
        config.enforcing_consecutive_5xx = Percent::new(50).unwrap();
    });
    (0..1_000).for_each(|host| bench.record(host, 500, 5));
    let ejected = outlier_stat(&bench, "ejections_active");
    assert!((450..550).contains(&ejected), "{ejected}");
}

#[test]
fn local_failures_count_as_5xx_unless_they_are_split() {
    // If they are not split, a timeout counts as 504 and a failed connection as 503.
    let mut bench = bench(1, all);
    fail_locally(&mut bench, LocalOriginFailure::ConnectFailed, 3);
    fail_locally(&mut bench, LocalOriginFailure::Timeout, 2);
    assert_eq!(outlier_stat(&bench, "ejections_enforced_consecutive_5xx"), 1);

    let mut bench = self::bench(1, |config| {
        all(config);
        config.split_external_local_origin_errors = true;
    });
    bench.record(0, 500, 4);
    fail_locally(&mut bench, LocalOriginFailure::Reset, 4);
    assert!(!bench.find(0).is_ejected());
    fail_locally(&mut bench, LocalOriginFailure::Timeout, 1);
    assert!(bench.find(0).is_ejected());
    assert_eq!(outlier_stat(&bench, "ejections_enforced_consecutive_local_origin_failure"), 1);
    assert_eq!(outlier_stat(&bench, "ejections_enforced_consecutive_5xx"), 0);
}

#[test]
fn an_established_connection_resets_the_count_of_failed_connections() {
    for (split, ended_http_failures) in [(false, true), (true, false)] {
        let mut bench = bench(1, |config| {
            all(config);
            config.split_external_local_origin_errors = split;
        });
        bench.record(0, 500, 4);
        fail_locally(&mut bench, LocalOriginFailure::ConnectFailed, if split { 4 } else { 0 });
        let endpoint = bench.find(0);
        bench.cluster.record(&endpoint, Outcome::Connected, bench.now, &mut bench.rng);
        fail_locally(&mut bench, LocalOriginFailure::ConnectFailed, if split { 4 } else { 0 });
        assert!(!bench.find(0).is_ejected(), "split: {split}");
        bench.record(0, 500, 1);
        assert_eq!(bench.find(0).is_ejected(), !ended_http_failures, "split: {split}");
    }
}

#[test]
fn grpc_responses_count_by_their_status() {
    let mut bench = bench(1, all);
    let endpoint = bench.find(0);
    let mut record = |status| bench.cluster.record(&endpoint, Outcome::GrpcStatus(status), bench.now, &mut bench.rng);
    // Internal and unavailable are failures, not-found is not.
    for status in [13, 14, 13, 14, 5, 13, 14, 13, 14] {
        assert_eq!(record(status), None);
    }
    let ejected = record(13).expect("the fifth in a row");
    assert_eq!((ejected.detection, ejected.ejection_time), (Detection::Consecutive5xx, SECOND * 30));
    assert!(ejected.starts_sweeping);
}

#[test]
fn zero_disables_a_detector() {
    let mut bench = bench(1, |config| {
        all(config);
        config.consecutive_5xx = 0;
    });
    bench.record(0, 500, 1_000);
    assert!(!bench.find(0).is_ejected());
}

#[test]
fn only_the_first_ejection_starts_sweeping() {
    let mut bench = bench(2, all);
    let mut eject = |host| {
        let endpoint = bench.find(host);
        let outcome = Outcome::LocalOrigin(LocalOriginFailure::Reset);
        (0..5).find_map(|_| bench.cluster.record(&endpoint, outcome, bench.now, &mut bench.rng))
    };
    assert_eq!(eject(0).map(|ejected| ejected.starts_sweeping), Some(true));
    assert_eq!(eject(1).map(|ejected| ejected.starts_sweeping), Some(false));
}

/// An endpoint in a simple model of Envoy's documentation.
#[derive(Clone, Default)]
struct ModelHost {
    failures: u32,
    ejected_at: Option<u64>,
    multiplier: u64,
}

#[test]
fn an_hour_of_random_failures_agrees_with_the_model() {
    for seed in 0..8 {
        let hosts = 5 + u16::try_from(seed).unwrap() * 2;
        let mut bench = bench(hosts, |config| config.max_ejection_percent = Percent::new(30).unwrap());
        let mut model = vec![ModelHost::default(); usize::from(hosts)];
        let mut chance = SplitMix64::new(seed);
        for second in 1..=3_600u64 {
            bench.advance(SECOND);
            if second % 10 == 0 {
                model.iter_mut().for_each(|host| sweep(host, second));
            }
            for _ in 0..5 {
                let number = chance.index(model.len());
                // The first hosts fail often, the others rarely.
                let fails = chance.below(100) < if number < 3 { 80 } else { 20 };
                bench.record(u16::try_from(number).unwrap(), if fails { 500 } else { 200 }, 1);
                answer(&mut model, number, fails, second);
            }
            let actual: Vec<bool> = bench.cluster.endpoints().endpoints().iter().map(|one| one.is_ejected()).collect();
            let expected: Vec<bool> = model.iter().map(|host| host.ejected_at.is_some()).collect();
            assert_eq!(actual, expected, "seed {seed}, second {second}");
            let active = bench.cluster.stats().ejections_active.get();
            assert!(active * 100 <= 30 * u64::from(hosts), "seed {seed}, second {second}: {active} of {hosts}");
        }
        assert!(outlier_stat(&bench, "ejections_enforced_total") > 10, "seed {seed} must exercise something");
    }
}

fn sweep(host: &mut ModelHost, second: u64) {
    match host.ejected_at {
        None => host.multiplier = host.multiplier.saturating_sub(1),
        Some(since) if second - since >= (30 * host.multiplier).min(300) => {
            host.ejected_at = None;
            host.failures = 0;
        }
        Some(_) => {}
    }
}

fn answer(model: &mut [ModelHost], number: usize, fails: bool, second: u64) {
    let ejected = model.iter().filter(|host| host.ejected_at.is_some()).count();
    let hosts = model.len();
    let host = &mut model[number];
    host.failures = if fails { host.failures + 1 } else { 0 };
    if host.failures != 5 || host.ejected_at.is_some() {
        return;
    }
    host.failures = 0;
    if (ejected + 1) * 100 <= 30 * hosts {
        host.ejected_at = Some(second);
        host.multiplier = (host.multiplier + 1).min(11);
    }
}

/// Outcomes of one interval: (host, failures, successes).
fn interval(bench: &mut Bench, outcomes: &[(u16, u32, u32)]) {
    for (host, failures, successes) in outcomes {
        // Alternating, so that no failures are consecutive.
        for turn in 0..(*failures).max(*successes) {
            bench.record(*host, 500, u32::from(turn < *failures));
            bench.record(*host, 200, u32::from(turn < *successes));
        }
    }
    bench.advance(SECOND * 10);
}

fn comparing(hosts: u16, configure: impl FnOnce(&mut OutlierDetection)) -> Bench {
    let bench = bench(hosts, |config| {
        config.max_ejection_percent = Percent::HUNDRED;
        config.consecutive_5xx = 0;
        configure(config);
    });
    assert!(bench.cluster.resume_sweeping(), "the first pick starts it");
    bench.cluster.begin_sweeping(bench.now);
    bench
}

fn ejected(bench: &Bench) -> Vec<u16> {
    let endpoints = bench.cluster.endpoints();
    let ejected = endpoints.endpoints().iter().filter(|endpoint| endpoint.is_ejected());
    ejected.map(|endpoint| endpoint.address().port()).collect()
}

#[test]
fn endpoints_with_too_many_failures_are_ejected_at_the_end_of_the_interval() {
    let mut bench = comparing(3, |config| {
        config.failure_percentage.enforcing = Percent::HUNDRED;
        config.failure_percentage.threshold = Percent::new(50).unwrap();
        config.failure_percentage.minimum_hosts = 2;
        config.failure_percentage.request_volume = 10;
    });
    interval(&mut bench, &[(0, 4, 6), (1, 9, 0), (2, 0, 10)]);
    assert_eq!(ejected(&bench), [0; 0], "40 % are few, and nine requests say little");
    interval(&mut bench, &[(0, 5, 5), (1, 0, 10), (2, 0, 10)]);
    assert_eq!(ejected(&bench), [0]);
    assert_eq!(outlier_stat(&bench, "ejections_enforced_failure_percentage"), 1);
    interval(&mut bench, &[(1, 10, 0)]);
    assert_eq!(ejected(&bench), [0], "one host is fewer than minimum_hosts");
}

#[test]
fn endpoints_far_below_the_average_success_rate_are_ejected() {
    let mut bench = comparing(6, |config| {
        config.success_rate.enforcing = Percent::HUNDRED;
        config.success_rate.request_volume = 10;
    });
    let alike = [(0, 1, 19), (1, 1, 19), (2, 1, 19), (3, 1, 19), (4, 1, 19), (5, 2, 18)];
    interval(&mut bench, &alike);
    assert_eq!(ejected(&bench), [5], "90 % is 2.2 standard deviations below the average, 94.2 %");
    interval(&mut bench, &[(0, 10, 0), (1, 0, 10), (2, 0, 10), (3, 0, 10)]);
    assert_eq!(ejected(&bench), [5], "four are fewer than minimum_hosts");
    assert_eq!(outlier_stat(&bench, "ejections_enforced_success_rate"), 1);
}

#[test]
fn there_is_no_timer_without_requests_to_compare() {
    let mut bench = comparing(3, |config| config.success_rate.enforcing = Percent::HUNDRED);
    interval(&mut bench, &[(0, 0, 1)]);
    assert!(bench.cluster.poll_timeout().is_some());
    interval(&mut bench, &[]);
    assert_eq!(bench.cluster.poll_timeout(), None);
    bench.cluster.suspend_sweeping();
    assert!(bench.cluster.resume_sweeping(), "the next request starts it again");
}

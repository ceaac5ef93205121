//! Clusters by their public methods, with seeded random numbers and virtual time.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    ClusterState, Dropped, EndpointState, Health, MAX_ORIGINAL_DESTINATIONS,
    testing::{Bench, assignment, endpoint, epoch, group, healthy},
};
use crate::{
    balance::{Avoid, NoHealthyEndpoint, PickContext},
    health::outlier::{LocalOriginFailure, Outcome},
    model::{
        Cluster, Discovery, DropOverload, Endpoint, EndpointAddress, HealthStatus, HttpProtocol, LbPolicy,
        LoadAssignment, LocalityEndpoints, OriginalDstOptions, OutlierDetection, Percent,
    },
    rng::SplitMix64,
};

#[test]
fn equal_weights_are_used_in_turn() {
    let mut bench = Bench::new(assignment(healthy(1..=3)), |_| {});
    let ports = bench.ports(9);
    assert!(ports.windows(2).all(|pair| pair[1] == pair[0] % 3 + 1), "{ports:?}");
}

#[test]
fn round_robin_starts_at_a_random_endpoint() {
    let first = |seed| {
        let config = Arc::new(Cluster::new("c", Discovery::Static(assignment(healthy(0..4)))));
        let mut rng = SplitMix64::new(seed);
        let cluster = ClusterState::new(config, epoch(), &mut rng);
        cluster.pick(PickContext::new(&mut rng)).unwrap().address().port()
    };
    let firsts: BTreeSet<u16> = (0..64).map(first).collect();
    assert_eq!(firsts.len(), 4, "{firsts:?}");
}

#[test]
fn round_robin_continues_after_an_update() {
    let mut bench = Bench::new(assignment(healthy(0..4)), |_| {});
    let before = bench.port();
    bench.cluster.set_endpoints(&assignment(healthy((0..4).chain([9]))), &mut bench.rng);
    bench.cluster.set_endpoints(&assignment(healthy(0..4)), &mut bench.rng);
    assert_eq!(bench.port(), (before + 1) % 4);
    bench.reconfigure(|config| config.healthy_panic_threshold = Percent::ZERO);
    assert_eq!(bench.port(), (before + 2) % 4);
}

#[test]
fn weights_are_exact_within_every_round() {
    let weights = [(1, 1), (2, 2), (3, 5)];
    let endpoints = weights.map(|(port, weight)| endpoint(port, weight, HealthStatus::Unknown)).to_vec();
    let mut bench = Bench::new(assignment(endpoints), |_| {});
    for _ in 0..5 {
        assert_eq!(bench.tally(8), [(1, 1), (2, 2), (3, 5)].into());
    }
}

#[test]
fn a_cluster_of_ten_thousand_weighted_endpoints_keeps_every_share() {
    let weight_of = |port: u16| u32::from(port % 100) + 1;
    let endpoints = (0..10_000).map(|port| endpoint(port, weight_of(port), HealthStatus::Unknown)).collect();
    let mut bench = Bench::new(assignment(endpoints), |_| {});
    let tally = bench.tally(160_000);
    assert_eq!(tally.len(), 10_000, "every endpoint is picked");
    // With 16 slots per endpoint, the error is up to half a slot, of 32 for the average weight.
    let heavy: u32 = tally.iter().filter(|(port, _)| weight_of(**port) > 50).map(|(_, count)| count).sum();
    assert!((118_000..122_000).contains(&heavy), "{heavy} of 160000 where weights say 119604");
}

#[test]
fn threads_share_one_round() {
    let bench = Bench::new(assignment(healthy(0..5)), |_| {});
    let counts: [AtomicU32; 5] = Default::default();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (cluster, counts) = (&bench.cluster, &counts);
            scope.spawn(move || {
                let mut rng = SplitMix64::new(seed);
                for _ in 0..2_500 {
                    let picked = cluster.pick(PickContext::new(&mut rng)).unwrap();
                    counts[usize::from(picked.address().port())].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(counts.map(AtomicU32::into_inner), [2_000; 5]);
}

#[test]
fn random_ignores_weights() {
    let endpoints = vec![endpoint(1, 1, HealthStatus::Unknown), endpoint(2, 99, HealthStatus::Unknown)];
    let mut bench = Bench::new(assignment(endpoints), |config| config.lb_policy = LbPolicy::Random);
    assert_eq!(bench.shares(20_000), [(1, 50), (2, 50)].into());
}

#[test]
fn least_request_avoids_the_busy_endpoint() {
    let least = |config: &mut Cluster| {
        config.lb_policy =
            LbPolicy::LeastRequest { choice_count: NonZeroU32::new(40).unwrap(), active_request_bias_milli: 1000 };
    };
    let mut bench = Bench::new(assignment(healthy(1..=2)), least);
    let busy = bench.pick().start_request();
    let idle = 3 - busy.endpoint().address().port();
    assert_eq!(bench.tally(200), [(idle, 200)].into());
    drop(busy);
    assert_eq!(bench.shares(10_000), [(1, 50), (2, 50)].into());
}

#[test]
fn two_random_choices_find_the_less_busy_one_three_times_of_four() {
    let mut bench = Bench::new(assignment(healthy(1..=2)), |config| config.lb_policy = LbPolicy::least_request());
    let _busy = bench.find(1).start_request();
    assert_eq!(bench.shares(20_000), [(1, 25), (2, 75)].into());
}

/// Checks least request for endpoints (weight, active requests). The share of each must be proportional to
/// `weight / (active + 1)^bias`.
fn check_least_request_shares(bias_milli: u32, endpoints: &[(u32, u64)], tolerance: f64) {
    let weights: Vec<_> =
        (0..).zip(endpoints).map(|(port, (weight, _))| endpoint(port, *weight, HealthStatus::Unknown)).collect();
    let mut bench = Bench::new(assignment(weights), |config| {
        config.lb_policy =
            LbPolicy::LeastRequest { choice_count: NonZeroU32::new(2).unwrap(), active_request_bias_milli: bias_milli };
    });
    let mut busy = Vec::new();
    for (port, (_, active)) in (0..).zip(endpoints) {
        busy.extend((0..*active).map(|_| bench.find(port).start_request()));
    }
    let weigh =
        |(weight, active): (u32, u64)| f64::from(weight) / ((active + 1) as f64).powf(f64::from(bias_milli) / 1000.0);
    let total: f64 = endpoints.iter().copied().map(weigh).sum();
    let tally = bench.tally(40_000);
    for (port, endpoint) in (0..).zip(endpoints) {
        let share = f64::from(tally.get(&port).copied().unwrap_or(0)) / 40_000.0;
        let expected = weigh(*endpoint) / total;
        assert!(
            (share - expected).abs() <= tolerance,
            "bias {bias_milli}, {endpoints:?}: {port} has {share}, not {expected}"
        );
    }
}

#[test]
fn weighted_least_request_divides_weights_by_load() {
    for active in [[0, 0], [5, 5], [0, 2], [0, 8], [8, 0]] {
        check_least_request_shares(1000, &[(1, active[0]), (3, active[1])], 0.01);
    }
    check_least_request_shares(0, &[(1, 9), (3, 0)], 0.01);
    check_least_request_shares(2000, &[(1, 0), (3, 2)], 0.01);
    check_least_request_shares(1000, &[(1, 0), (100, 99)], 0.01);
}

#[test]
fn weighted_least_request_among_many_is_exact_while_idle_and_close_under_load() {
    let idle: Vec<(u32, u64)> = (1..=40).map(|weight| (weight, 0)).collect();
    check_least_request_shares(1000, &idle, 0.005);
    let one_busy: Vec<(u32, u64)> = (1..=40).map(|weight| (weight, if weight == 40 { 9 } else { 0 })).collect();
    check_least_request_shares(1000, &one_busy, 0.005);
}

#[test]
fn a_retry_avoids_endpoints_tried_before_while_it_may_pick_again() {
    let mut bench = Bench::new(assignment(healthy(0..3)), |_| {});
    let tried = [bench.find(0).id(), bench.find(1).id()];
    for _ in 0..30 {
        let avoid = Avoid { endpoints: &tried, max_attempts: 2 };
        assert_eq!(bench.cluster.pick(PickContext::new(&mut bench.rng).avoiding(avoid)).unwrap().address().port(), 2);
    }
    let all = [tried[0], tried[1], bench.find(2).id()];
    let avoid = Avoid { endpoints: &all, max_attempts: 5 };
    assert!(bench.cluster.pick(PickContext::new(&mut bench.rng).avoiding(avoid)).is_ok(), "the last pick is used");
}

#[test]
fn reported_health_determines_which_endpoints_receive_traffic() {
    use HealthStatus::{Degraded, Draining, Healthy, Timeout, Unhealthy, Unknown};
    let statuses = [Unknown, Healthy, Unhealthy, Draining, Timeout, Degraded];
    let endpoints = (1..).zip(statuses).map(|(port, status)| endpoint(port, 1, status)).collect();
    let mut bench = Bench::new(assignment(endpoints), |config| config.healthy_panic_threshold = Percent::ZERO);
    // Draining endpoints do not count. 2 of 5 are healthy: 140 * 2/5 = 56; 1 of 5 is degraded: 28. Of 84 that is 66 and 33;
    // the first takes what is left by rounding.
    assert_eq!(bench.shares(40_000), [(1, 34), (2, 34), (6, 33)].into());
    assert_eq!((bench.stat("membership_total"), bench.stat("membership_healthy")), (6, 2));
    assert_eq!((bench.stat("membership_degraded"), bench.stat("membership_excluded")), (1, 1));
}

#[test]
fn a_draining_endpoint_receives_no_traffic_and_does_not_count_for_panic() {
    // Measured with Envoy: with one healthy, one unhealthy and one draining endpoint, the availability is half.
    use HealthStatus::{Draining, Healthy, Unhealthy};
    let endpoints = (1..).zip([Unhealthy, Healthy, Draining]).map(|(port, status)| endpoint(port, 1, status)).collect();
    let mut bench = Bench::new(assignment(endpoints), |_| {});
    assert_eq!(bench.tally(4), [(2, 4)].into());
}

#[test]
fn panic_uses_all_endpoints_and_without_panic_only_healthy_ones_are_used() {
    // One of three is healthy.
    let one_of_three = || {
        let mut endpoints = healthy([1]);
        endpoints.extend([2, 3].map(|port| endpoint(port, 1, HealthStatus::Unhealthy)));
        assignment(endpoints)
    };
    let threshold =
        |percent| move |config: &mut Cluster| config.healthy_panic_threshold = Percent::new(percent).unwrap();

    let mut bench = Bench::new(one_of_three(), threshold(50));
    assert_eq!(bench.tally(9), [(1, 3), (2, 3), (3, 3)].into());
    assert_eq!(bench.stat("lb_healthy_panic"), 9);

    for percent in [0, 30] {
        let mut bench = Bench::new(one_of_three(), threshold(percent));
        assert_eq!(bench.tally(9), [(1, 9)].into(), "threshold {percent}");
        assert_eq!(bench.stat("lb_healthy_panic"), 0);
    }

    let mut bench = Bench::new(one_of_three(), |config| config.fail_traffic_on_panic = true);
    assert!(bench.cluster.pick(PickContext::new(&mut bench.rng)).is_err());
    assert_eq!((bench.stat("lb_healthy_panic"), bench.stat("upstream_cx_none_healthy")), (1, 1));

    let mut bench = Bench::new(assignment(vec![endpoint(1, 1, HealthStatus::Unhealthy)]), threshold(0));
    let result = bench.cluster.pick(PickContext::new(&mut bench.rng));
    assert_eq!(result.map(|endpoint| endpoint.address().clone()), Err(NoHealthyEndpoint));
    assert_eq!(bench.stat("upstream_cx_none_healthy"), 1);
}

#[test]
fn load_spills_over_to_the_next_priority() {
    // Half of priority 0 is healthy, so it keeps 70 % of the load.
    let localities = vec![
        group(0, vec![endpoint(1, 1, HealthStatus::Healthy), endpoint(2, 1, HealthStatus::Unhealthy)]),
        group(7, vec![endpoint(3, 1, HealthStatus::Healthy)]),
    ];
    let mut bench = Bench::new(LoadAssignment { localities, ..LoadAssignment::default() }, |_| {});
    assert_eq!(bench.shares(40_000), [(1, 70), (3, 30)].into());
}

#[test]
fn localities_are_weighted_if_configured() {
    // As in Envoy, localities without a weight and unhealthy ones receive no traffic.
    let locality =
        |weight, endpoints| LocalityEndpoints { load_balancing_weight: NonZeroU32::new(weight), ..group(0, endpoints) };
    let shares = |localities, is_weighted| {
        let assignment = LoadAssignment { localities, ..LoadAssignment::default() };
        Bench::new(assignment, |config| config.locality_weighted_lb = is_weighted).shares(24_000)
    };
    let two = || vec![locality(1, healthy([1])), locality(3, healthy([2, 3]))];
    assert_eq!(shares(two(), false), [(1, 33), (2, 33), (3, 33)].into());
    assert_eq!(shares(two(), true), [(1, 25), (2, 38), (3, 38)].into());
    assert_eq!(shares(vec![locality(1, healthy([1])), locality(0, healthy([2]))], true), [(1, 100)].into());
    let down = vec![locality(1, vec![endpoint(1, 1, HealthStatus::Unhealthy)]), locality(3, healthy([2, 3]))];
    assert_eq!(shares(down, true), [(2, 50), (3, 50)].into());
    // Half available: weight 2 * min(1, 1.4 / 2) against weight 1.
    let half = vec![endpoint(1, 1, HealthStatus::Unknown), endpoint(2, 1, HealthStatus::Unhealthy)];
    assert_eq!(shares(vec![locality(2, half), locality(1, healthy([3]))], true), [(1, 58), (3, 42)].into());
}

#[test]
fn an_update_keeps_the_state_of_endpoints_that_stay() {
    let mut bench = Bench::new(assignment(healthy([1, 2])), |_| {});
    let before = bench.find(1);
    before.attachment().set(Arc::new("pool")).unwrap();
    let request = Arc::clone(&before).start_request();
    let updates = bench.stat("membership_change");

    bench.cluster.set_endpoints(&assignment(healthy([1, 2])), &mut bench.rng);
    assert!(Arc::ptr_eq(&before, &bench.find(1)), "an equal update replaces nothing");
    assert_eq!(bench.stat("membership_change"), updates);

    let reweighted = vec![endpoint(1, 7, HealthStatus::Degraded), endpoint(3, 1, HealthStatus::Unknown)];
    bench.cluster.set_endpoints(&assignment(reweighted), &mut bench.rng);
    let after = bench.find(1);
    assert_eq!((after.id(), after.weight().get(), after.health()), (before.id(), 7, Health::Degraded));
    assert_eq!(after.active_requests(), 1);
    assert!(after.attachment().get().is_some());
    drop(request);
    assert_eq!(after.active_requests(), 0);
    assert_eq!((bench.stat("membership_total"), bench.stat("membership_change")), (2, updates + 1));

    bench.cluster.set_endpoints(&assignment(healthy([2])), &mut bench.rng);
    bench.cluster.set_endpoints(&assignment(healthy([1])), &mut bench.rng);
    assert_ne!(bench.find(1).id(), before.id(), "an endpoint that was removed and added again is a new one");
}

#[test]
fn other_connection_options_drop_attachments_only() {
    let mut bench = Bench::new(assignment(healthy([1])), |_| {});
    let before = bench.find(1);
    before.attachment().set(Arc::new("pool")).unwrap();
    bench.reconfigure(|config| config.lb_policy = LbPolicy::Random);
    assert!(bench.find(1).attachment().get().is_some());
    bench.reconfigure(|config| config.http_protocol_options.protocol = HttpProtocol::Http2);
    assert!(bench.find(1).attachment().get().is_none());
    assert_eq!(bench.find(1).id(), before.id());
}

#[test]
fn the_first_of_two_equal_addresses_is_used_and_names_are_left_out() {
    let mut endpoints = vec![endpoint(1, 5, HealthStatus::Unknown), endpoint(1, 9, HealthStatus::Unknown)];
    endpoints.push(Endpoint {
        address: EndpointAddress::Name { host: "example.org".into(), port: 80 },
        ..endpoint(2, 1, HealthStatus::Unknown)
    });
    let bench = Bench::new(assignment(endpoints), |_| {});
    assert_eq!(bench.cluster.endpoints().endpoints().len(), 1);
    assert_eq!(bench.find(1).weight().get(), 5);
}

fn ejecting(max_ejection_percent: u32) -> impl FnOnce(&mut Cluster) {
    move |config| {
        config.outlier_detection = Some(OutlierDetection {
            max_ejection_percent: Percent::new(max_ejection_percent).unwrap(),
            ..OutlierDetection::default()
        });
    }
}

#[test]
fn an_ejected_endpoint_receives_no_traffic_until_a_sweep_after_its_ejection_time() {
    let mut bench = Bench::new(assignment(healthy([1, 2])), ejecting(50));
    bench.record(1, 500, 4);
    bench.record(1, 200, 1);
    bench.record(1, 503, 4);
    assert_eq!(bench.tally(6), [(1, 3), (2, 3)].into(), "a success in between starts the count over");
    assert_eq!(bench.cluster.poll_timeout(), None, "nothing to sweep");
    bench.record(1, 500, 1);
    assert_eq!(bench.tally(6), [(2, 6)].into());
    assert_eq!((bench.stat("outlier_detection.ejections_active"), bench.stat("membership_healthy")), (1, 1));

    bench.advance(Duration::from_secs(29));
    assert_eq!(bench.tally(6), [(2, 6)].into());
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.tally(6), [(1, 3), (2, 3)].into());
    assert_eq!((bench.stat("outlier_detection.ejections_active"), bench.stat("membership_healthy")), (0, 2));
    bench.record(1, 500, 4);
    assert!(!bench.find(1).is_ejected(), "counts begin at zero");
}

#[test]
fn the_only_endpoint_is_used_in_panic_even_if_ejected() {
    for (threshold, expected) in [(50, Ok(1)), (0, Err(NoHealthyEndpoint))] {
        let mut bench = Bench::new(assignment(healthy([1])), ejecting(100));
        bench.reconfigure(|config| config.healthy_panic_threshold = Percent::new(threshold).unwrap());
        bench.record(1, 500, 5);
        assert!(bench.find(1).is_ejected());
        let picked = bench.cluster.pick(PickContext::new(&mut bench.rng)).map(|endpoint| endpoint.address().port());
        assert_eq!(picked, expected, "threshold {threshold}");
    }
}

#[test]
fn a_removed_endpoint_no_longer_counts_as_ejected() {
    let mut bench = Bench::new(assignment(healthy([1, 2])), ejecting(50));
    let leaving = bench.find(1);
    bench.record(1, 500, 5);
    bench.cluster.set_endpoints(&assignment(healthy([2, 3])), &mut bench.rng);
    assert_eq!((bench.stat("outlier_detection.ejections_active"), bench.cluster.poll_timeout()), (0, None));
    for _ in 0..50 {
        let outcome = Outcome::LocalOrigin(LocalOriginFailure::Reset);
        assert_eq!(bench.cluster.record(&leaving, outcome, bench.now, &mut bench.rng), None);
    }
    assert_eq!(bench.stat("outlier_detection.ejections_active"), 0);
}

#[test]
fn ejections_survive_a_configuration_update_unless_detection_is_disabled() {
    let mut bench = Bench::new(assignment(healthy([1, 2])), ejecting(50));
    bench.record(1, 500, 5);
    bench.reconfigure(|config| config.lb_policy = LbPolicy::Random);
    assert_eq!(bench.tally(20), [(2, 20)].into());
    bench.reconfigure(|config| config.outlier_detection = None);
    assert!(!bench.find(1).is_ejected());
    assert_eq!(bench.stat("outlier_detection.ejections_active"), 0);
    assert_eq!(bench.tally(20).len(), 2);
}

#[test]
fn an_ejection_by_a_request_with_the_old_configuration_obeys_the_new_one() {
    let mut bench = Bench::new(assignment(healthy([1, 2])), ejecting(50));
    let old = bench.cluster.reconfigured(Arc::clone(bench.cluster.config()), bench.now, &mut bench.rng);
    bench.reconfigure(|config| {
        config.lb_policy = LbPolicy::Random;
        config.healthy_panic_threshold = Percent::new(100).unwrap();
    });
    let endpoint = bench.find(1);
    for _ in 0..5 {
        old.record(&endpoint, Outcome::GrpcStatus(14), bench.now, &mut bench.rng);
    }
    assert!(bench.find(1).is_ejected());
    assert_eq!(bench.tally(40).len(), 2, "one of two healthy is panic under the new threshold");
}

#[test]
fn circuit_breaker_gauges_show_what_is_in_use() {
    use crate::model::RoutingPriority::{Default, High};
    let mut bench = Bench::new(assignment(healthy([1])), |config| {
        config.circuit_breakers.default.max_requests = 1;
        config.circuit_breakers.default.max_retries = 0;
        config.circuit_breakers.default.track_remaining = true;
    });
    let held = bench.cluster.try_request(Default).unwrap();
    let high = bench.cluster.try_request(High).unwrap();
    assert_eq!(
        bench.cluster.try_request(Default).unwrap_err().to_string(),
        "max_requests overflow: 1 are in use, the limit"
    );
    assert_eq!(bench.stat("upstream_rq_active"), 2);
    assert_eq!(bench.stat("upstream_rq_active_overflow"), 1);
    assert_eq!(bench.stat("circuit_breakers.default.rq_open"), 1);
    assert_eq!(bench.stat("circuit_breakers.high.rq_open"), 0);
    assert_eq!(bench.stat("circuit_breakers.default.rq_retry_open"), 0, "what is forbidden is never used up");
    assert_eq!(bench.stat("circuit_breakers.default.remaining_cx"), 1024);
    // The counts are those of the cluster, the limits those of its configuration.
    bench.reconfigure(|config| config.circuit_breakers.default.max_requests = 2);
    let second = bench.cluster.try_request(Default);
    assert!(second.is_ok() && bench.cluster.try_request(Default).is_err());
    drop((held, high, second));
    assert_eq!(bench.stat("upstream_rq_active"), 0);
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_news_once() {
    let bench = Bench::new(assignment(healthy(0..1)), |_| {});
    let endpoint = Arc::clone(&bench.cluster.endpoints().endpoints()[0]);
    let outcomes = [true, false, false, true, true, false];
    let news = outcomes.map(|is_reachable| endpoint.runtime().note_reachable(is_reachable));
    assert_eq!(news, [false, true, false, true, false, true]);
}

#[test]
fn each_drop_sees_the_requests_that_the_one_before_has_left() {
    let drop = |category: &str, percent| DropOverload {
        category: category.into(),
        drop_percentage: Percent::new(percent).unwrap().into(),
    };
    let with = |drop_overloads| LoadAssignment { drop_overloads, ..assignment(healthy(0..2)) };
    let mut bench = Bench::new(with(vec![drop("load", 50), drop("shed", 20)]), |_| {});
    let dropped = (0..10_000).filter(|_| bench.cluster.drop_request(&mut bench.rng) == Some(Dropped::Share)).count();
    let counts = bench.cluster.stats().dropped_requests();
    let [(load, of_load), (shed, of_shed)] = counts.as_slice() else { panic!("{counts:?}") };
    assert_eq!((&**load, &**shed), ("load", "shed"));
    assert_eq!(usize::try_from(of_load + of_shed).unwrap(), dropped);
    assert!(of_load.abs_diff(5_000) < 200 && of_shed.abs_diff(1_000) < 150, "{counts:?}");

    bench.cluster.set_endpoints(&with(vec![drop("shed", 100)]), &mut bench.rng);
    assert_eq!(bench.cluster.drop_request(&mut bench.rng), Some(Dropped::All));
    bench.cluster.set_endpoints(&with(Vec::new()), &mut bench.rng);
    assert_eq!(bench.cluster.drop_request(&mut bench.rng), None);
}

#[test]
fn without_proxy_an_endpoint_that_cannot_be_connected_to_is_avoided_for_a_while() {
    let fail = |bench: &mut Bench, port: u16| {
        let endpoint = bench.find(port);
        let outcome = Outcome::LocalOrigin(LocalOriginFailure::ConnectFailed);
        bench.cluster.record(&endpoint, outcome, bench.now, &mut bench.rng);
    };
    let mut priorities = assignment(healthy([1, 2]));
    priorities.localities.push(group(1, healthy([3])));
    let mut bench = Bench::new(priorities, |cluster| cluster.proxyless = true);
    assert!(!bench.cluster.resume_sweeping());
    fail(&mut bench, 1);
    assert!(bench.cluster.resume_sweeping(), "a timer ends it");
    assert_eq!(bench.shares(100), [(2, 100)].into(), "one healthy endpoint of a priority takes everything");
    fail(&mut bench, 2);
    assert_eq!(bench.shares(100), [(3, 100)].into());
    fail(&mut bench, 3);
    assert!(bench.cluster.pick(PickContext::new(&mut bench.rng)).is_err(), "there is no panic");
    // 1 s, 20 % more or less.
    bench.advance(Duration::from_millis(799));
    assert!(bench.cluster.pick(PickContext::new(&mut bench.rng)).is_err());
    bench.advance(Duration::from_millis(402));
    assert_eq!(bench.shares(100), [(1, 50), (2, 50)].into());
    fail(&mut bench, 1);
    bench.advance(Duration::from_millis(1279));
    assert_eq!(bench.shares(100), [(2, 100)].into(), "1.6 s, because it has failed again soon");
    bench.record(1, 200, 1);
    assert_eq!(bench.shares(100), [(1, 50), (2, 50)].into(), "a request has succeeded nevertheless");
    bench.advance(Duration::from_secs(10));
    assert_eq!(bench.cluster.poll_timeout(), None, "everything is forgotten");
}

#[test]
fn without_proxy_localities_are_weighted() {
    let locality =
        |weight, endpoints| LocalityEndpoints { load_balancing_weight: NonZeroU32::new(weight), ..group(0, endpoints) };
    let localities = vec![locality(1, healthy([1])), locality(3, healthy([2, 3]))];
    let weighted = LoadAssignment { localities, ..LoadAssignment::default() };
    let mut bench = Bench::new(weighted, |cluster| cluster.proxyless = true);
    assert_eq!(bench.shares(800), [(1, 25), (2, 38), (3, 38)].into());
}

#[test]
fn an_original_destination_becomes_an_endpoint_that_goes_when_it_is_not_used() {
    let options = OriginalDstOptions { cleanup_interval: Duration::from_secs(5), ..OriginalDstOptions::default() };
    let config = Arc::new(Cluster::new("passthrough", Discovery::OriginalDst(options)));
    let (begin, mut rng) = (epoch(), SplitMix64::new(1));
    let cluster = ClusterState::new(config, begin, &mut rng);
    assert!(cluster.is_initialized());
    let mut pick = |last: u8, seconds: u64| {
        let destination = Some(SocketAddr::from(([10, 0, 0, last], 80)));
        cluster.pick_original(destination, begin + Duration::from_secs(seconds), &mut rng).unwrap()
    };
    let addresses = || {
        let endpoints = cluster.endpoints();
        let last = |endpoint: &Arc<EndpointState>| endpoint.address().to_string();
        endpoints.endpoints().iter().map(last).collect::<Vec<_>>().join(" ")
    };
    let first = pick(1, 0);
    assert!(Arc::ptr_eq(&first, &pick(1, 0)), "the endpoint is kept");
    pick(2, 0);
    pick(3, 6);
    assert_eq!(addresses(), "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80", "all were used in the first interval");
    pick(2, 7);
    pick(3, 7);
    pick(4, 12);
    assert_eq!(addresses(), "10.0.0.2:80 10.0.0.3:80 10.0.0.4:80");
    assert!(!Arc::ptr_eq(&first, &pick(1, 13)), "another, which has no connections yet");

    let none = cluster.pick_original(None, begin, &mut SplitMix64::new(1));
    assert!(none.is_err(), "the connection was not redirected");
    assert_eq!(cluster.stats().upstream_cx_none_healthy.get(), 1);
}

#[test]
fn original_destinations_are_limited() {
    let config = Arc::new(Cluster::new("passthrough", Discovery::OriginalDst(OriginalDstOptions::default())));
    let (now, mut rng) = (epoch(), SplitMix64::new(1));
    let cluster = ClusterState::new(config, now, &mut rng);
    let all = (1..).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).take(MAX_ORIGINAL_DESTINATIONS);
    cluster.set_endpoints(&all.collect(), &mut rng);
    let other = Some(SocketAddr::from(([10, 1, 0, 0], 80)));
    assert!(cluster.pick_original(other, now, &mut rng).is_err());
    let known = Some(SocketAddr::from(([10, 0, 0, 1], 80)));
    assert!(cluster.pick_original(known, now, &mut rng).is_ok());
}

use mesh_core::rng::SplitMix64;

use super::*;
use crate::client::testing::{cluster, endpoints, listener, response};
use crate::proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::resource;

const CLUSTER: ResourceType = ResourceType::Cluster;
const ENDPOINTS: ResourceType = ResourceType::ClusterLoadAssignment;

fn names(list: &[&str]) -> Interest {
    list.iter().map(|name| Arc::from(*name)).collect()
}

fn rng() -> SplitMix64 {
    SplitMix64::new(11)
}

/// A client that subscribes to all clusters and has no stream.
fn unconnected(now: Instant) -> Machine {
    let mut machine = Machine::new(Node { id: "me".to_owned(), ..Node::default() }, now);
    machine.subscribe(CLUSTER, Interest::Everything, now);
    machine
}

/// A client with a stream that has sent its subscription to all clusters.
fn streaming(now: Instant) -> Machine {
    let mut machine = unconnected(now);
    connect(&mut machine, now);
    let request = sent(&mut machine);
    assert_eq!(request.node.unwrap().id, "me");
    assert_eq!((&*request.version_info, &*request.response_nonce), ("", ""));
    machine
}

fn connect(machine: &mut Machine, now: Instant) {
    machine.handle_timeout(now, &mut rng());
    assert_eq!(machine.poll_event(), Some(Event::Connect));
    machine.handle_stream_up(now);
}

fn sent(machine: &mut Machine) -> Request {
    match machine.poll_event() {
        Some(Event::Send(request)) => request,
        other => panic!("expected a request, not {other:?}"),
    }
}

fn updated(machine: &mut Machine) -> Update {
    match machine.poll_event() {
        Some(Event::Update(update)) => update,
        other => panic!("expected an update, not {other:?}"),
    }
}

fn accepted(update: &Update) -> Vec<&str> {
    update.accepted.iter().map(|decoded| decoded.resource.name()).collect()
}

fn requested(request: &Request) -> Vec<&str> {
    request.resource_names.iter().map(|name| &**name).collect()
}

#[test]
fn a_good_response_is_acknowledged_and_only_changes_are_passed_on() {
    let now = Instant::now();
    let mut machine = streaming(now);
    machine.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}"), cluster("{name: b}")]));
    let ack = sent(&mut machine);
    assert_eq!((&*ack.version_info, &*ack.response_nonce, &ack.error), ("1", "nonce-1", &None));
    assert!(ack.node.is_none(), "the node is sent once per stream");
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.is_answer), (vec!["a", "b"], true));

    let changed = cluster("{name: b, connect_timeout: 1s}");
    machine.handle_response(response(CLUSTER, "2", vec![changed, cluster("{name: c}")]));
    assert_eq!(&*sent(&mut machine).version_info, "2");
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.removed.clone()), (vec!["b", "c"], vec![Arc::from("a")]));
    assert!(!update.is_answer);
}

#[test]
fn an_invalid_resource_is_refused_alone_and_its_predecessor_stays() {
    let now = Instant::now();
    let mut machine = streaming(now);
    machine.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}")]));
    sent(&mut machine);
    updated(&mut machine);
    let junk = Any { type_url: CLUSTER.type_url(), value: vec![0xff] };
    let bad = || cluster("{name: a, lb_policy: RING_HASH}");
    machine.handle_response(response(CLUSTER, "2", vec![bad(), cluster("{name: b}"), cluster("{name: b}"), junk]));

    let nack = DiscoveryRequest::from(sent(&mut machine));
    assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("1", "nonce-2"));
    let detail = nack.error_detail.unwrap();
    assert_eq!(detail.code, 3);
    let expected = "cluster a: lb_policy: RING_HASH: not supported; cluster b: name: duplicate: a name stands for one resource; \
                    cluster (unnamed): malformed message: ";
    assert!(detail.message.starts_with(expected), "{}", detail.message);
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.removed.clone(), update.rejected.len()), (vec!["b"], vec![], 3));

    machine.handle_response(response(CLUSTER, "3", vec![bad(), cluster("{name: b}")]));
    assert_eq!(&*sent(&mut machine).version_info, "1", "no version has been taken whole since");
    let update = updated(&mut machine);
    assert!(update.accepted.is_empty() && update.removed.is_empty(), "what was good last stays: {update:?}");
    machine.handle_response(response(CLUSTER, "4", vec![cluster("{name: a}"), cluster("{name: b}")]));
    assert_eq!(&*sent(&mut machine).version_info, "4");
    assert!(updated(&mut machine).accepted.is_empty(), "that is what is in force");
}

#[test]
fn a_response_that_cannot_be_read_removes_nothing() {
    let now = Instant::now();
    let mut machine = streaming(now);
    machine.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}")]));
    sent(&mut machine);
    updated(&mut machine);
    let mut truncated = cluster("{name: a, lb_policy: RANDOM}");
    truncated.value.pop();
    machine.handle_response(response(CLUSTER, "2", vec![truncated]));
    assert!(sent(&mut machine).error.is_some());
    let update = updated(&mut machine);
    assert_eq!((update.removed.len(), update.rejected.len()), (0, 1));
    machine.handle_response(response(CLUSTER, "3", vec![]));
    sent(&mut machine);
    assert_eq!(updated(&mut machine).removed, ["a".into()]);
}

#[test]
fn a_name_that_does_not_come_is_missing_after_fifteen_seconds() {
    let now = Instant::now();
    let mut machine = streaming(now);
    machine.subscribe(ENDPOINTS, names(&["a", "b"]), now);
    assert_eq!(requested(&sent(&mut machine)), ["a", "b"]);
    machine.handle_response(response(ENDPOINTS, "1", vec![endpoints("a", 1), endpoints("unrequested", 2)]));
    sent(&mut machine);
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.is_answer), (vec!["a"], true));
    machine.handle_response(response(CLUSTER, "1", vec![]));
    sent(&mut machine);
    updated(&mut machine);
    assert!(!machine.is_answered());
    assert_eq!(machine.poll_timeout(), Some(now + RESOURCE_TIMEOUT));
    machine.handle_timeout(now + RESOURCE_TIMEOUT - Duration::from_millis(1), &mut rng());
    assert_eq!(machine.poll_event(), None);
    machine.handle_timeout(now + RESOURCE_TIMEOUT, &mut rng());
    assert_eq!(machine.poll_event(), Some(Event::Missing { resource_type: ENDPOINTS, name: "b".into() }));
    assert_eq!((machine.poll_event(), machine.poll_timeout()), (None, None));
    assert!(machine.is_answered());

    machine.handle_response(response(ENDPOINTS, "2", vec![endpoints("b", 1)]));
    sent(&mut machine);
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.is_answer), (vec!["b"], false), "it has come into being");
}

#[test]
fn the_time_for_a_resource_runs_only_while_there_is_a_stream() {
    let mut now = Instant::now();
    let mut machine = streaming(now);
    machine.subscribe(ENDPOINTS, names(&["a"]), now);
    now += Duration::from_secs(14);
    machine.handle_stream_down(now, &mut rng());
    assert!(!machine.is_answered());
    now += Duration::from_secs(14);
    connect(&mut machine, now);
    assert_eq!(machine.poll_timeout(), Some(now + RESOURCE_TIMEOUT));
}

#[test]
fn reconnecting_backs_off_subscribes_again_and_keeps_accepted_resources() {
    let mut now = Instant::now();
    let mut machine = streaming(now);
    machine.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}")]));
    sent(&mut machine);
    updated(&mut machine);
    let mut rng = rng();
    let mut pauses = Vec::new();
    for expected in [1.0, 1.6, 2.56] {
        machine.handle_stream_down(now, &mut rng);
        let pause = machine.poll_timeout().unwrap() - now;
        assert!((0.8 * expected..1.2 * expected).contains(&pause.as_secs_f64()), "{pause:?}, about {expected} s");
        machine.handle_timeout(now + pause - Duration::from_millis(1), &mut rng);
        assert_eq!(machine.poll_event(), None, "not before");
        now += pause;
        machine.handle_timeout(now, &mut rng);
        assert_eq!(machine.poll_event(), Some(Event::Connect));
        pauses.push(pause);
    }
    let mut replay = SplitMix64::new(11);
    let again: Vec<Duration> = (0..3).map(|failures| connection_back_off(failures, &mut replay)).collect();
    assert_eq!(pauses, again, "the same seed gives the same pauses");

    machine.handle_stream_up(now);
    let request = sent(&mut machine);
    assert!(request.node.is_some());
    assert_eq!((&*request.version_info, &*request.response_nonce), ("1", ""), "the nonce was the other stream's");
    machine.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}")]));
    sent(&mut machine);
    let update = updated(&mut machine);
    assert!(update.accepted.is_empty() && update.removed.is_empty(), "nothing has changed: {update:?}");
    machine.handle_stream_down(now, &mut rng);
    assert!(machine.poll_timeout().unwrap() - now <= Duration::from_millis(1_200), "a response ends the back-off");
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up() {
    let mut now = Instant::now();
    let mut machine = unconnected(now);
    machine.handle_timeout(now, &mut rng());
    assert_eq!(machine.poll_event(), Some(Event::Connect));
    assert_eq!(machine.poll_timeout(), Some(now + CONNECT_TIMEOUT));
    now += CONNECT_TIMEOUT;
    machine.handle_timeout(now, &mut rng());
    assert_eq!(machine.poll_event(), Some(Event::Abandon));
    assert!(machine.poll_timeout().unwrap() > now, "and not made again at once");
    machine.handle_stream_up(now);
    assert!(!machine.is_streaming() && machine.poll_event().is_none(), "too late");
}

#[test]
fn a_client_without_subscriptions_does_not_connect() {
    let now = Instant::now();
    let mut machine = Machine::new(Node::default(), now);
    machine.handle_timeout(now, &mut rng());
    assert_eq!((machine.poll_event(), machine.poll_timeout()), (None, None));
    machine.subscribe(CLUSTER, names(&["a"]), now);
    assert_eq!(machine.poll_timeout(), Some(now));
    connect(&mut machine, now);
    assert_eq!(requested(&sent(&mut machine)), ["a"]);
}

#[test]
fn a_subscription_changed_while_disconnected_is_sent_on_the_next_stream() {
    let mut now = Instant::now();
    let mut machine = streaming(now);
    machine.subscribe(ENDPOINTS, names(&["a", "b"]), now);
    sent(&mut machine);
    machine.handle_response(response(ENDPOINTS, "1", vec![endpoints("a", 1), endpoints("b", 1)]));
    sent(&mut machine);
    updated(&mut machine);
    machine.handle_stream_down(now, &mut rng());
    machine.subscribe(ENDPOINTS, names(&["b", "c"]), now);
    let gone = Event::Unsubscribed { resource_type: ENDPOINTS, names: vec!["a".into()] };
    assert_eq!((machine.poll_event(), machine.poll_event()), (Some(gone), None), "there is no stream to send on");
    assert!(!machine.is_answered());

    now = machine.poll_timeout().unwrap();
    connect(&mut machine, now);
    assert_eq!(sent(&mut machine).resource_type, CLUSTER);
    let request = sent(&mut machine);
    assert_eq!((requested(&request), &*request.version_info, &*request.response_nonce), (vec!["b", "c"], "1", ""));
    machine.handle_response(response(ENDPOINTS, "1", vec![endpoints("b", 1), endpoints("c", 1)]));
    sent(&mut machine);
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.is_answer), (vec!["c"], true));
}

#[test]
fn every_request_answers_the_last_response_of_its_kind() {
    let now = Instant::now();
    let mut machine = streaming(now);
    machine.subscribe(ENDPOINTS, names(&["a"]), now);
    assert_eq!(&*sent(&mut machine).response_nonce, "", "there is none yet");
    machine.handle_response(response(CLUSTER, "7", vec![]));
    assert_eq!(&*sent(&mut machine).response_nonce, "nonce-7");
    updated(&mut machine);
    machine.handle_response(response(ENDPOINTS, "1", vec![endpoints("a", 1)]));
    sent(&mut machine);
    updated(&mut machine);
    machine.subscribe(ENDPOINTS, names(&["a", "b"]), now);
    let request = sent(&mut machine);
    assert_eq!((&*request.version_info, &*request.response_nonce), ("1", "nonce-1"));

    machine.subscribe(ENDPOINTS, Interest::Nothing, now);
    assert!(matches!(machine.poll_event(), Some(Event::Unsubscribed { .. })));
    let request = sent(&mut machine);
    assert_eq!((requested(&request).len(), &*request.response_nonce), (0, "nonce-1"));
    machine.handle_response(response(ENDPOINTS, "2", vec![endpoints("b", 1)]));
    assert_eq!(&*sent(&mut machine).response_nonce, "nonce-2", "or a later request would be out of date");
    assert!(updated(&mut machine).accepted.is_empty());
    machine.subscribe(ENDPOINTS, names(&["a"]), now);
    assert_eq!(&*sent(&mut machine).response_nonce, "nonce-2");

    machine.handle_response(response(ResourceType::Listener, "1", vec![listener("l", "r")]));
    assert_eq!(machine.poll_event(), None, "an acknowledgement without a subscription would subscribe to everything");
}

#[test]
fn a_resource_that_is_requested_again_is_new_again() {
    let now = Instant::now();
    let mut machine = streaming(now);
    for version in ["1", "2"] {
        machine.subscribe(ENDPOINTS, names(&["a"]), now);
        sent(&mut machine);
        machine.handle_response(response(ENDPOINTS, version, vec![endpoints("a", 1)]));
        sent(&mut machine);
        assert_eq!(accepted(&updated(&mut machine)), ["a"]);
        machine.subscribe(ENDPOINTS, Interest::Nothing, now);
        let gone = Event::Unsubscribed { resource_type: ENDPOINTS, names: vec!["a".into()] };
        assert_eq!(machine.poll_event(), Some(gone));
        sent(&mut machine);
    }
}

/// A client of three control planes that awaits endpoints.
fn of_three(now: Instant) -> Machine {
    let mut machine = Machine::new(Node::default(), now).with_servers(3, ServerOptions::default());
    machine.subscribe(ENDPOINTS, names(&["a"]), now);
    machine
}

fn answer(machine: &mut Machine, version: &str) {
    machine.handle_response(response(ENDPOINTS, version, vec![endpoints("a", 1)]));
    sent(machine);
    updated(machine);
}

#[test]
fn the_next_control_plane_is_tried_at_once_while_resources_are_missing() {
    let now = Instant::now();
    let mut machine = of_three(now);
    for server in 0..3 {
        machine.handle_timeout(now, &mut rng());
        assert_eq!((machine.poll_event(), machine.server()), (Some(Event::Connect), server));
        if server == 1 {
            machine.handle_stream_up(now);
            sent(&mut machine);
        }
        machine.handle_stream_down(now, &mut rng());
    }
    assert_eq!(machine.server(), 0, "all have failed");
    assert!(machine.poll_timeout().unwrap() >= now + Duration::from_millis(800), "after a pause, the first again");
}

#[test]
fn a_control_plane_that_has_responded_is_not_left_for_another() {
    let now = Instant::now();
    let mut machine = of_three(now);
    connect(&mut machine, now);
    sent(&mut machine);
    answer(&mut machine, "1");
    machine.handle_stream_down(now, &mut rng());
    assert_eq!(machine.server(), 0);
    let now = machine.poll_timeout().unwrap();
    assert!(machine.poll_timeout().unwrap() >= now);
    machine.handle_timeout(now, &mut rng());
    assert_eq!(machine.poll_event(), Some(Event::Connect));
    machine.handle_stream_down(now, &mut rng());
    assert_eq!(machine.server(), 0, "everything is here, so that nothing is gained by another");
}

#[test]
fn the_preferred_control_plane_is_used_again_when_it_responds() {
    let now = Instant::now();
    let mut machine = of_three(now);
    machine.handle_timeout(now, &mut rng());
    machine.poll_event();
    machine.handle_stream_down(now, &mut rng());
    connect(&mut machine, now);
    sent(&mut machine);
    answer(&mut machine, "other");
    let now = machine.poll_timeout().unwrap();
    machine.handle_timeout(now, &mut rng());
    match machine.poll_event() {
        Some(Event::Probe { servers: 1, request }) => {
            assert_eq!((requested(&request), request.node.is_some(), &*request.version_info), (vec!["a"], true, ""));
        }
        other => panic!("expected a probe, not {other:?}"),
    }
    assert_eq!(machine.poll_timeout(), None, "until its outcome");
    machine.handle_probe(None, now, &mut rng());
    let now = machine.poll_timeout().unwrap();
    machine.handle_timeout(now, &mut rng());
    assert!(matches!(machine.poll_event(), Some(Event::Probe { .. })));
    machine.handle_probe(Some(0), now, &mut rng());
    assert_eq!((machine.poll_event(), machine.server()), (Some(Event::Leave), 0));
    connect(&mut machine, now);
    assert_eq!(&*sent(&mut machine).version_info, "", "versions are those of another control plane");
    assert!(machine.has(ENDPOINTS, "a"), "until the preferred one has sent others");
    assert_eq!(machine.poll_timeout(), None, "there is no preferred one to probe");
}

#[test]
fn a_control_plane_may_have_its_deletions_ignored_and_take_longer() {
    let now = Instant::now();
    let options = ServerOptions {
        ignore_resource_deletion: true,
        resource_timer_is_transient_error: true,
        ..ServerOptions::default()
    };
    let mut machine = unconnected(now).with_servers(1, options);
    connect(&mut machine, now);
    sent(&mut machine);
    machine.handle_response(response(CLUSTER, "1", vec![cluster("{name: a}")]));
    sent(&mut machine);
    updated(&mut machine);
    machine.handle_response(response(CLUSTER, "2", vec![cluster("{name: b}")]));
    assert_eq!(&*sent(&mut machine).version_info, "2");
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.removed.len()), (vec!["b"], 0));
    assert!(machine.has(CLUSTER, "a"));
    machine.subscribe(ENDPOINTS, names(&["a"]), now);
    assert_eq!(machine.poll_timeout(), Some(now + LONG_RESOURCE_TIMEOUT));
}

/// An incremental response with the nonce `nonce-VERSION`.
fn changed(kind: ResourceType, version: &str, resources: Vec<Any>, removed: &[&str]) -> DeltaDiscoveryResponse {
    let versioned = |any: Any| crate::proto::envoy::service::discovery::v3::Resource {
        name: resource::name(&any),
        version: format!("v{version}"),
        resource: Some(any),
        ..Default::default()
    };
    DeltaDiscoveryResponse {
        system_version_info: version.to_owned(),
        nonce: format!("nonce-{version}"),
        type_url: kind.type_url(),
        resources: resources.into_iter().map(versioned).collect(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn delta(request: Request) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest::from(request)
}

#[test]
fn the_incremental_variant_changes_subscriptions_and_acknowledges_by_nonce() {
    let now = Instant::now();
    let mut machine = unconnected(now).incremental();
    connect(&mut machine, now);
    let first = delta(sent(&mut machine));
    assert_eq!((first.node.unwrap().id.as_str(), first.resource_names_subscribe.len()), ("me", 0), "everything");
    machine.handle_response(changed(CLUSTER, "1", vec![cluster("{name: a}"), cluster("{name: b}")], &[]));
    let ack = delta(sent(&mut machine));
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail, ack.node), ("nonce-1", None, None));
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.is_answer, machine.is_answered()), (vec!["a", "b"], true, true));

    machine.handle_response(changed(CLUSTER, "2", vec![cluster("{name: c}")], &["a"]));
    sent(&mut machine);
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.removed.clone()), (vec!["c"], vec![Arc::from("a")]), "b stays");
    assert!(machine.has(CLUSTER, "b") && !machine.has(CLUSTER, "a"));

    machine.subscribe(ENDPOINTS, names(&["a", "b"]), now);
    assert_eq!(delta(sent(&mut machine)).resource_names_subscribe, ["a", "b"]);
    machine.handle_response(changed(ENDPOINTS, "1", vec![endpoints("a", 1)], &["b"]));
    sent(&mut machine);
    assert_eq!(accepted(&updated(&mut machine)), ["a"]);
    let missing = Event::Missing { resource_type: ENDPOINTS, name: "b".into() };
    assert_eq!(machine.poll_event(), Some(missing), "the control plane says so");
    machine.subscribe(ENDPOINTS, names(&["b", "c"]), now);
    assert!(matches!(machine.poll_event(), Some(Event::Unsubscribed { .. })));
    let change = delta(sent(&mut machine));
    assert_eq!(
        (change.resource_names_subscribe, change.resource_names_unsubscribe),
        (vec!["c".into()], vec!["a".into()])
    );
    assert_eq!(change.response_nonce, "", "it answers nothing");
}

#[test]
fn the_incremental_variant_refuses_and_resumes_by_versions() {
    let mut now = Instant::now();
    let mut machine = unconnected(now).incremental();
    connect(&mut machine, now);
    sent(&mut machine);
    machine.handle_response(changed(CLUSTER, "1", vec![cluster("{name: a}"), cluster("{name: b}")], &[]));
    sent(&mut machine);
    updated(&mut machine);
    let bad = cluster("{name: a, lb_policy: RING_HASH}");
    machine.handle_response(changed(CLUSTER, "2", vec![bad, cluster("{name: b, connect_timeout: 1s}")], &[]));
    let nack = delta(sent(&mut machine));
    assert_eq!(nack.response_nonce, "nonce-2");
    assert_eq!(nack.error_detail.unwrap().message, "cluster a: lb_policy: RING_HASH: not supported");
    let update = updated(&mut machine);
    assert_eq!((accepted(&update), update.removed.len(), machine.has(CLUSTER, "a")), (vec!["b"], 0, true));

    machine.subscribe(ENDPOINTS, names(&["a"]), now);
    sent(&mut machine);
    machine.handle_stream_down(now, &mut rng());
    now = machine.poll_timeout().unwrap();
    connect(&mut machine, now);
    let again = delta(sent(&mut machine));
    let versions = again.initial_resource_versions;
    assert_eq!((versions["a"].as_str(), versions["b"].as_str(), versions.len()), ("v1", "v2", 2), "those in force");
    assert!(again.node.is_some() && again.response_nonce.is_empty());
    let endpoints = delta(sent(&mut machine));
    assert_eq!((endpoints.resource_names_subscribe, endpoints.initial_resource_versions.len()), (vec!["a".into()], 0));
    machine.handle_response(changed(CLUSTER, "3", vec![], &["b"]));
    sent(&mut machine);
    assert_eq!(updated(&mut machine).removed, ["b".into()], "what has gone in the meantime");
}

use std::time::{Duration, Instant};

use mesh_core::rng::SplitMix64;

use super::*;
use crate::client::state::{ClientState, Output, Scope};
use crate::client::testing::{cluster, listener, response, routes};
use crate::proto::envoy::config::core::v3::Node;

const CLUSTER: ResourceType = ResourceType::Cluster;
const LISTENER: ResourceType = ResourceType::Listener;
const ROUTES: ResourceType = ResourceType::RouteConfiguration;

/// A client that records its outcomes; a second passes with each response.
struct Recorder {
    client: ClientState,
    status: ClientStatus,
    now: Instant,
    seconds: u64,
}

impl Recorder {
    fn new(scope: Scope) -> Self {
        let now = Instant::now();
        let client = ClientState::new(Node::default(), scope, now);
        let mut recorder = Self { client, status: ClientStatus::default(), now, seconds: 0 };
        recorder.client.handle_timeout(now, &mut SplitMix64::new(1));
        recorder.take();
        recorder
    }

    fn push(&mut self, resource_type: ResourceType, version: &str, resources: Vec<Any>) {
        self.seconds += 1;
        self.client.handle_response(response(resource_type, version, resources));
        self.take();
    }

    fn take(&mut self) {
        while let Some(output) = self.client.poll_output(self.now) {
            match output {
                Output::Connect(_) => self.client.handle_stream_up(self.now),
                Output::Notice(notice) => self.record(&notice),
                _ => {}
            }
        }
    }

    fn record(&mut self, notice: &Notice) {
        self.status.record(notice, |kind, name| self.client.accepted(kind, name), second(self.seconds));
    }

    fn of(&self, resource_type: ResourceType, name: &str) -> ResourceStatus {
        self.status.of_type(resource_type).resources.get(name).cloned().unwrap_or_default()
    }
}

fn second(number: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(number)
}

fn counts(updates: &Updates) -> [u64; 4] {
    [updates.attempt, updates.success, updates.rejected, updates.reload]
}

/// A cluster that is refused.
fn bad(name: &str) -> Any {
    cluster(&format!("{{name: {name}, lb_policy: RING_HASH}}"))
}

#[test]
fn a_refused_cluster_keeps_its_predecessor_until_it_is_mended() {
    let mut recorder = Recorder::new(Scope::Everything);
    let good = cluster("{name: a}");
    recorder.push(CLUSTER, "1", vec![good.clone()]);
    recorder.push(CLUSTER, "2", vec![bad("a"), bad("b")]);
    let status = recorder.of(CLUSTER, "a");
    let accepted = status.accepted.clone().unwrap();
    assert_eq!((&*accepted.version, accepted.at, &*accepted.resource), ("1", second(1), &good));
    let failure = status.failure.unwrap();
    assert_eq!((&*failure.version, failure.at), ("2", second(2)));
    assert_eq!(failure.details, "lb_policy: RING_HASH: not supported");
    assert_eq!(*failure.resource.unwrap(), bad("a"));
    assert!(recorder.of(CLUSTER, "b").accepted.is_none(), "there was none before");
    let refused: Vec<_> =
        recorder.status.refused().into_iter().map(|it| (it.name.to_string(), it.accepted_at)).collect();
    assert_eq!(refused, [("a".to_owned(), Some(second(1))), ("b".to_owned(), None)]);
    assert_eq!(recorder.status.last_good(), None, "listeners have not come");
    let updates = recorder.status.of_type(CLUSTER).updates;
    assert_eq!(counts(&updates), [2, 1, 1, 1]);
    assert_eq!((&*updates.version, updates.success_at), ("1", Some(second(1))));

    recorder.push(LISTENER, "3", vec![]);
    recorder.push(CLUSTER, "3", vec![good]);
    assert_eq!(recorder.status.refused(), []);
    assert_eq!(&*recorder.of(CLUSTER, "a").accepted.unwrap().version, "1", "it has not changed");
    assert_eq!(recorder.status.last_good(), Some(second(4)));
    recorder.status.reset_counters();
    assert_eq!(counts(&recorder.status.of_type(CLUSTER).updates), [0; 4]);
}

#[test]
fn routes_have_counts_of_their_own_and_are_forgotten_with_their_listener() {
    let mut recorder = Recorder::new(Scope::Everything);
    let nothing = Any { type_url: ROUTES.type_url(), ..routes("r", "") };
    recorder.push(CLUSTER, "1", vec![cluster("{name: a}")]);
    recorder.push(LISTENER, "1", vec![listener("l", "r")]);
    recorder.push(ROUTES, "1", vec![routes("r", "a")]);
    recorder.push(ROUTES, "2", vec![nothing]);
    assert_eq!(counts(&recorder.of(ROUTES, "r").updates.unwrap()), [2, 1, 1, 1]);
    assert!(recorder.of(ROUTES, "r").failure.is_some());
    recorder.push(ROUTES, "3", vec![routes("r", "a")]);
    assert_eq!(recorder.of(ROUTES, "r").failure, None, "what was in force before is accepted again");
    assert_eq!(counts(&recorder.of(ROUTES, "r").updates.unwrap()), [3, 2, 1, 2]);
    recorder.push(LISTENER, "2", vec![]);
    assert!(recorder.status.of_type(ROUTES).resources.is_empty());
}

#[test]
fn a_resource_that_cannot_be_applied_is_refused_and_its_predecessor_stays() {
    let mut recorder = Recorder::new(Scope::Everything);
    recorder.push(CLUSTER, "1", vec![cluster("{name: a}")]);
    recorder.push(LISTENER, "1", vec![listener("l", "r")]);
    recorder.push(ROUTES, "1", vec![routes("r", "a")]);
    let report = ApplyReport {
        resource_type: ROUTES,
        version: "2".into(),
        is_answer: false,
        accepted: vec!["r".into()],
        removed: Vec::new(),
        rejected: Vec::new(),
        ignored: Vec::new(),
    };
    recorder.seconds = 9;
    recorder.record(&Notice::Applied(report));
    let error = crate::resource::FieldError { path: String::new(), reason: "too large".to_owned() };
    recorder.record(&Notice::NotApplied(ResourceError::new(&ROUTES.to_string(), "r", error)));
    let status = recorder.of(ROUTES, "r");
    assert_eq!(&*status.accepted.unwrap().version, "1");
    let failure = status.failure.unwrap();
    assert_eq!((&*failure.version, failure.at, &*failure.details), ("2", second(9), "too large"));
    assert_eq!(status.updates.unwrap().rejected, 1);
}

//! Fixtures for tests of clusters: loopback endpoints, virtual time, seeded random numbers.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{ClusterState, EndpointState};
use crate::{
    balance::PickContext,
    health::outlier::Outcome,
    model::{Cluster, Discovery, Endpoint, EndpointAddress, HealthStatus, LoadAssignment, LocalityEndpoints},
    rng::SplitMix64,
};

/// The start of virtual time.
#[expect(clippy::disallowed_methods, reason = "only differences to it are ever looked at")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

/// An endpoint on port `port` of loopback.
pub(crate) fn endpoint(port: u16, weight: u32, health_status: HealthStatus) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Socket(([127, 0, 0, 1], port).into()),
        hostname: None,
        load_balancing_weight: NonZeroU32::new(weight).unwrap(),
        health_status,
        workload: None,
        transport_socket_match: None,
    }
}

pub(crate) fn healthy(ports: impl IntoIterator<Item = u16>) -> Vec<Endpoint> {
    ports.into_iter().map(|port| endpoint(port, 1, HealthStatus::Unknown)).collect()
}

pub(crate) fn group(priority: u32, endpoints: Vec<Endpoint>) -> LocalityEndpoints {
    LocalityEndpoints { priority, endpoints, ..LocalityEndpoints::default() }
}

pub(crate) fn assignment(endpoints: Vec<Endpoint>) -> LoadAssignment {
    LoadAssignment { localities: vec![group(0, endpoints)], ..LoadAssignment::default() }
}

/// A cluster with static endpoints, with the time and the random numbers for its decisions.
pub(crate) struct Bench {
    pub(crate) cluster: ClusterState,
    pub(crate) rng: SplitMix64,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn new(assignment: LoadAssignment, configure: impl FnOnce(&mut Cluster)) -> Self {
        let mut config = Cluster::new("c", Discovery::Static(assignment));
        configure(&mut config);
        let (now, mut rng) = (epoch(), SplitMix64::new(42));
        Self { cluster: ClusterState::new(Arc::new(config), now, &mut rng), rng, now }
    }

    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(&mut Cluster)) {
        let mut config = Cluster::clone(self.cluster.config());
        change(&mut config);
        self.cluster = self.cluster.reconfigured(Arc::new(config), self.now, &mut self.rng);
    }

    pub(crate) fn pick(&mut self) -> Arc<EndpointState> {
        self.cluster.pick(PickContext::new(&mut self.rng)).expect("an endpoint may get traffic")
    }

    pub(crate) fn port(&mut self) -> u16 {
        self.pick().address().port()
    }

    pub(crate) fn ports(&mut self, picks: usize) -> Vec<u16> {
        (0..picks).map(|_| self.port()).collect()
    }

    /// Picks endpoints, and returns how often each port was picked.
    pub(crate) fn tally(&mut self, picks: u32) -> BTreeMap<u16, u32> {
        let mut tally = BTreeMap::new();
        (0..picks).for_each(|_| *tally.entry(self.port()).or_default() += 1);
        tally
    }

    /// Shares in percent, rounded.
    pub(crate) fn shares(&mut self, picks: u32) -> BTreeMap<u16, u32> {
        self.tally(picks).into_iter().map(|(port, count)| (port, (count * 100 + picks / 2) / picks)).collect()
    }

    pub(crate) fn find(&self, port: u16) -> Arc<EndpointState> {
        let set = self.cluster.endpoints();
        Arc::clone(set.endpoints().iter().find(|one| one.address().port() == port).expect("a member"))
    }

    pub(crate) fn record(&mut self, port: u16, status: u16, times: u32) {
        let endpoint = self.find(port);
        for _ in 0..times {
            self.cluster.record(&endpoint, Outcome::Status(status.try_into().unwrap()), self.now, &mut self.rng);
        }
    }

    /// Advances time, and sweeps when a sweep is due.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(due) = self.cluster.poll_timeout().filter(|due| *due <= until) {
            self.now = due;
            self.cluster.handle_timeout(due, &mut self.rng);
        }
        self.now = until;
    }

    pub(crate) fn stat(&self, wanted: &str) -> u64 {
        let mut found = None;
        self.cluster.for_each_stat(&mut |name, _, value| {
            if name == wanted {
                assert_eq!(found.replace(value), None, "{name} appears twice");
            }
        });
        found.unwrap_or_else(|| panic!("no statistic {wanted}"))
    }
}

//! Building of pickers. Everything that depends on health and configuration is computed here.

use std::collections::BTreeMap;

use super::{
    candidate::Candidate,
    picker::{EndpointList, Lists, Picker, Source},
    policy::Policy,
    priority::{self, HeadCount, PriorityLoads},
    turns::{Cursors, ListKey, ListLocality, Turns},
};
use crate::{
    endpoint::{EndpointState, Health, Members},
    model::{Cluster, Percent},
    rng::Rng,
};

/// An overprovisioning factor with which one healthy endpoint of any number takes all load.
const UNLIMITED: u32 = u32::MAX;

impl Picker {
    pub(crate) fn new(members: &Members, config: &Cluster, cursors: &mut Cursors, rng: &mut impl Rng) -> Self {
        let (priorities, counts): (Vec<u32>, Vec<HeadCount>) = head_counts(members).into_iter().unzip();
        let mut builder = Builder { members, config, cursors, rng };
        let panic_threshold = if config.proxyless { Percent::ZERO } else { config.healthy_panic_threshold };
        let loads = PriorityLoads::new(&counts, overprovisioning_factor(members, config), panic_threshold);
        let mut upper = 0;
        let mut shares = Vec::new();
        for load in loads.iter().filter(|load| load.percent > 0) {
            upper += u64::from(load.percent);
            shares.push((upper, builder.source(priorities[load.level], load.health, load.in_panic)));
        }
        builder.cursors.sweep();
        Self { shares: shares.into() }
    }
}

/// The input of a [`Picker`].
struct Builder<'a, R> {
    members: &'a Members,
    config: &'a Cluster,
    cursors: &'a mut Cursors,
    rng: &'a mut R,
}

impl<R: Rng> Builder<'_, R> {
    fn source(&mut self, priority: u32, health: Health, in_panic: bool) -> Source {
        let wanted = (!in_panic).then_some(health);
        let lists = if self.is_weighted(priority) && !in_panic {
            self.by_locality(priority, health)
        } else {
            let groups = self.members.localities().iter().filter(|group| group.priority == priority);
            let members = self.members;
            let endpoints = groups.flat_map(|group| members.in_locality(group)).filter(|one| has_health(one, wanted));
            let candidates = match in_panic && self.config.fail_traffic_on_panic {
                true => Box::default(),
                false => endpoints.map(Candidate::from).collect(),
            };
            Lists::One(self.list(candidates, (priority, wanted, ListLocality::All)))
        };
        Source { in_panic, lists }
    }

    /// Whether a locality is selected by weight first.
    fn is_weighted(&self, priority: u32) -> bool {
        let mut localities = self.members.localities().iter().filter(|group| group.priority == priority);
        self.config.locality_weighted_lb || (self.config.proxyless && localities.any(|group| group.weight.is_some()))
    }

    /// Lists by locality, which take turns by weight and availability. Localities without a weight get no traffic.
    fn by_locality(&mut self, priority: u32, health: Health) -> Lists {
        let members = self.members;
        let mut weights = Vec::new();
        let mut localities = Vec::new();
        for (index, group) in members.localities().iter().enumerate() {
            let Some(weight) = group.weight.filter(|_| group.priority == priority) else { continue };
            let all = members.in_locality(group);
            let usable = all.iter().filter(|one| has_health(one, Some(health)));
            let candidates: Box<[_]> = usable.map(Candidate::from).collect();
            if candidates.is_empty() {
                continue;
            }
            let counting = all.iter().filter(|endpoint| !endpoint.is_excluded()).count();
            let share =
                priority::availability(candidates.len(), counting, overprovisioning_factor(members, self.config));
            weights.push(u64::from(weight.get()) * u64::from(share));
            localities.push(self.list(candidates, (priority, Some(health), ListLocality::One(index))));
        }
        let cursor = self.cursors.position((priority, Some(health), ListLocality::Choice), self.rng);
        Lists::ByLocality { turns: Turns::new(weights.into_iter(), cursor), localities: localities.into() }
    }

    fn list(&mut self, candidates: Box<[Candidate]>, key: ListKey) -> EndpointList {
        let cursor = self.cursors.position(key, self.rng);
        EndpointList { policy: Policy::new(self.config.lb_policy, &candidates, cursor), candidates }
    }
}

/// The percentage of load that the endpoints of a cluster can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Availability {
    /// Healthy ones.
    pub(crate) healthy: u32,
    /// Degraded ones.
    pub(crate) degraded: u32,
}

impl Availability {
    pub(crate) fn new(members: &Members, config: &Cluster) -> Self {
        let factor = overprovisioning_factor(members, config);
        head_counts(members).values().fold(Self::default(), |sum, count| {
            sum.plus(Self {
                healthy: priority::availability(count.healthy, count.total, factor),
                degraded: priority::availability(count.degraded, count.total, factor),
            })
        })
    }

    /// What both can take.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { healthy: (self.healthy + other.healthy).min(100), degraded: (self.degraded + other.degraded).min(100) }
    }
}

/// The number of endpoints by priority. A map, because priorities may be arbitrary numbers.
fn head_counts(members: &Members) -> BTreeMap<u32, HeadCount> {
    let mut counts = BTreeMap::<u32, HeadCount>::new();
    for group in members.localities() {
        let count = counts.entry(group.priority).or_default();
        members.in_locality(group).iter().for_each(|endpoint| count.add(endpoint));
    }
    counts
}

/// What an endpoint can take in percent of its share. With gRPC, one takes everything.
fn overprovisioning_factor(members: &Members, config: &Cluster) -> u32 {
    if config.proxyless { UNLIMITED } else { members.overprovisioning_factor() }
}

fn has_health(endpoint: &EndpointState, wanted: Option<Health>) -> bool {
    wanted.is_none_or(|wanted| endpoint.health() == wanted)
}

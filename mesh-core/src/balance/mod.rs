//! Which endpoint gets the next request.
//!
//! A picker is built whenever a cluster's endpoints, their health or its configuration change, and is immutable: a
//! pick reads it from any number of threads without a lock and without allocating. Everything that depends on health is
//! decided when it is built (shares of the priorities, panic, locality weights), so that a pick costs at most one draw for
//! the priority, one for the locality and the policy itself:
//!
//! * `round_robin`: the next slot of a cyclic schedule; positions outlive the picker.
//! * `least_request`: the least loaded of a few.
//! * random: uniform, whatever the weights, as in Envoy.

mod least_request;
pub(crate) mod priority;
mod round_robin;
mod schedule;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use thiserror::Error;

use crate::{
    balance::{
        priority::{HeadCount, PriorityLoads},
        schedule::Schedule,
    },
    endpoint::{EndpointId, EndpointRuntime, EndpointState, Health, Members},
    model::{Cluster, LbPolicy},
    rng::Rng,
};

/// No endpoint may get traffic: there is none, or none is healthy and the cluster does not panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no healthy upstream")]
pub struct NoHealthyEndpoint;

/// Endpoints a retry should not go to again. Envoy `envoy.retry_host_predicates.previous_hosts` (E23).
#[derive(Clone, Copy, Debug, Default)]
pub struct Avoid<'a> {
    /// Endpoints tried before.
    pub endpoints: &'a [EndpointId],
    /// How often another one is picked when one of them comes up; then the last pick is used.
    pub max_attempts: u32,
}

impl Avoid<'_> {
    /// Any endpoint will do.
    pub const NONE: Self = Self { endpoints: &[], max_attempts: 0 };
}

/// A choice.
#[derive(Debug)]
pub(crate) struct Picked<'a> {
    /// `None` = no endpoint may get traffic.
    pub(crate) endpoint: Option<&'a Arc<EndpointState>>,
    /// Too few endpoints are healthy, so health was ignored, or the request is to fail.
    pub(crate) in_panic: bool,
}

/// Chooses among the endpoints of one cluster at one moment.
#[derive(Debug)]
pub(crate) struct Picker {
    policy: LbPolicy,
    /// Upper ends of shares of a hundred, rising; the last is 100.
    shares: Box<[(u64, Source)]>,
}

/// The endpoints of one priority and health.
#[derive(Debug)]
struct Source {
    in_panic: bool,
    lists: Lists,
}

#[derive(Debug)]
enum Lists {
    One(EndpointList),
    ByLocality { turns: Turns, localities: Box<[EndpointList]> },
}

/// Endpoints that share traffic by weight.
#[derive(Debug)]
struct EndpointList {
    candidates: Box<[Candidate]>,
    turns: Turns,
}

/// An endpoint and, beside it, what tells how busy it is: a pick reads the second of several candidates and the first only
/// of the one it chooses.
#[derive(Debug)]
struct Candidate {
    endpoint: Arc<EndpointState>,
    runtime: Arc<EndpointRuntime>,
}

impl Candidate {
    /// Requests under way.
    fn load(&self) -> u64 {
        self.runtime.active_requests()
    }
}

impl From<&Arc<EndpointState>> for Candidate {
    fn from(endpoint: &Arc<EndpointState>) -> Self {
        Self { endpoint: Arc::clone(endpoint), runtime: Arc::clone(endpoint.runtime()) }
    }
}

/// Whose turn it is: a cyclic schedule and the position in it.
#[derive(Debug)]
struct Turns {
    /// `None`: everybody once per round.
    schedule: Option<Schedule>,
    len: usize,
    cursor: Arc<AtomicUsize>,
}

impl Turns {
    fn new(weights: impl ExactSizeIterator<Item = u64> + Clone, cursor: Arc<AtomicUsize>) -> Self {
        let len = weights.len();
        Self { schedule: Schedule::new(weights), len, cursor }
    }

    /// Slots in a round.
    fn slots(&self) -> usize {
        self.schedule.as_ref().map_or(self.len, Schedule::len)
    }

    /// Who has the slot, which is less than [`Turns::slots`].
    fn at(&self, slot: usize) -> usize {
        self.schedule.as_ref().map_or(slot, |schedule| schedule.at(slot))
    }

    fn next(&self) -> usize {
        self.at(self.cursor.fetch_add(1, Ordering::Relaxed) % self.slots())
    }
}

impl Picker {
    pub(crate) fn new(members: &Members, config: &Cluster, cursors: &mut Cursors, rng: &mut impl Rng) -> Self {
        let mut builder = Builder { members, config, cursors, rng };
        let (priorities, counts): (Vec<u32>, Vec<HeadCount>) = builder.head_counts().into_iter().unzip();
        let loads = PriorityLoads::new(&counts, members.overprovisioning_factor(), config.healthy_panic_threshold);
        let mut upper = 0;
        let mut shares = Vec::new();
        for load in loads.iter().filter(|load| load.percent > 0) {
            upper += u64::from(load.percent);
            shares.push((upper, builder.source(priorities[load.level], load.health, load.in_panic)));
        }
        let policy = config.lb_policy;
        builder.cursors.sweep();
        Self { policy, shares: shares.into() }
    }

    pub(crate) fn pick(&self, rng: &mut impl Rng) -> Picked<'_> {
        let Some(source) = self.source(rng) else { return Picked { endpoint: None, in_panic: false } };
        let endpoint = source.list().map(|list| &list.candidates[self.choose(list, rng)].endpoint);
        Picked { endpoint, in_panic: source.in_panic }
    }

    /// Draws the priority.
    fn source(&self, rng: &mut impl Rng) -> Option<&Source> {
        Some(match &*self.shares {
            [] => return None,
            [(_, only)] => only,
            [first, .., (_, last)] => {
                let drawn = rng.below(100);
                if drawn < first.0 {
                    &first.1
                } else {
                    self.shares.iter().find(|(upper, _)| drawn < *upper).map_or(last, |(_, source)| source)
                }
            }
        })
    }

    fn choose(&self, list: &EndpointList, rng: &mut impl Rng) -> usize {
        match self.policy {
            LbPolicy::RoundRobin => round_robin::pick(list),
            LbPolicy::LeastRequest { choice_count, active_request_bias_milli } => {
                least_request::pick(list, choice_count, active_request_bias_milli, rng)
            }
            LbPolicy::Random => rng.index(list.candidates.len()),
        }
    }
}

impl Source {
    /// The list to choose from; `None` if nobody is on it.
    fn list(&self) -> Option<&EndpointList> {
        let list = match &self.lists {
            Lists::One(list) => list,
            Lists::ByLocality { localities, .. } if localities.is_empty() => return None,
            Lists::ByLocality { turns, localities } => &localities[turns.next()],
        };
        (!list.candidates.is_empty()).then_some(list)
    }
}

/// Which list a round-robin position belongs to: priority, health ([`None`] = all, in panic), locality.
type ListKey = (u32, Option<Health>, ListLocality);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListLocality {
    /// The list of all localities' endpoints.
    All,
    /// The turns of the localities themselves.
    Choice,
    /// Of one locality, by its position in the configuration.
    One(usize),
}

/// Round-robin positions, which outlive the pickers: after an update the next endpoint is next.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    positions: Vec<(ListKey, Arc<AtomicUsize>)>,
}

impl Cursors {
    /// The position of a list; a new one begins anywhere, so that many clients do not all begin at the same endpoint.
    fn position(&mut self, key: ListKey, rng: &mut impl Rng) -> Arc<AtomicUsize> {
        if let Some((_, cursor)) = self.positions.iter().find(|(known, _)| *known == key) {
            return Arc::clone(cursor);
        }
        let cursor = Arc::new(AtomicUsize::new(rng.index(1 << 30)));
        self.positions.push((key, Arc::clone(&cursor)));
        cursor
    }

    /// Forgets what neither the picker in use nor the one just built has.
    fn sweep(&mut self) {
        self.positions.retain(|(_, cursor)| Arc::strong_count(cursor) > 1);
    }
}

/// What goes into a [`Picker`].
struct Builder<'a, R> {
    members: &'a Members,
    config: &'a Cluster,
    cursors: &'a mut Cursors,
    rng: &'a mut R,
}

impl<R: Rng> Builder<'_, R> {
    /// Endpoints by priority, in order. A sparse map: priorities come from the network and may be any number.
    fn head_counts(&self) -> BTreeMap<u32, HeadCount> {
        let mut counts = BTreeMap::<u32, HeadCount>::new();
        for group in self.members.localities() {
            let count = counts.entry(group.priority).or_default();
            self.members.in_locality(group).iter().for_each(|endpoint| count.add(endpoint));
        }
        counts
    }

    fn source(&mut self, priority: u32, health: Health, in_panic: bool) -> Source {
        let wanted = (!in_panic).then_some(health);
        let lists = if self.config.locality_weighted_lb && !in_panic {
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

    /// Localities in turn by weight and availability; those without a weight get nothing.
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
            let share = priority::availability(candidates.len(), counting, members.overprovisioning_factor());
            weights.push(u64::from(weight.get()) * u64::from(share));
            localities.push(self.list(candidates, (priority, Some(health), ListLocality::One(index))));
        }
        let cursor = self.cursors.position((priority, Some(health), ListLocality::Choice), self.rng);
        Lists::ByLocality { turns: Turns::new(weights.into_iter(), cursor), localities: localities.into() }
    }

    fn list(&mut self, candidates: Box<[Candidate]>, key: ListKey) -> EndpointList {
        let cursor = self.cursors.position(key, self.rng);
        let weights = candidates.iter().map(|candidate| u64::from(candidate.endpoint.weight().get()));
        EndpointList { turns: Turns::new(weights, cursor), candidates }
    }
}

fn has_health(endpoint: &EndpointState, wanted: Option<Health>) -> bool {
    wanted.is_none_or(|wanted| endpoint.health() == wanted)
}

//! Clusters whose requests are taken by others. Envoy "Aggregate Cluster", gRFC A37.
//!
//! The priorities of all clusters form one list, in the order of the clusters. A request selects a cluster by the load that its priorities
//! can take of what is left, and then an endpoint as if the cluster were used alone. If no endpoint of any cluster is available, the first
//! cluster that has endpoints decides.

use std::{fmt, sync::Arc};

use super::ClusterState;
use crate::{balance::Availability, model::ClusterName, rng::Rng, slot::Slot};

/// How deep aggregates may be nested. gRFC A37.
const MAX_DEPTH: usize = 16;

/// The clusters of an aggregate, in order of preference.
#[derive(Default)]
pub(super) struct Aggregated(pub(super) Box<[Arc<Slot<ClusterName, ClusterState>>]>);

impl Aggregated {
    /// Picks the cluster that takes a request.
    pub(super) fn choose(&self, rng: &mut impl Rng) -> Option<Arc<ClusterState>> {
        let mut chosen = self.choose_one(0, rng)?;
        for depth in 1..MAX_DEPTH {
            if !chosen.is_aggregate() {
                return Some(chosen);
            }
            chosen = chosen.aggregated().choose_one(depth, rng)?;
        }
        None
    }

    fn choose_one(&self, depth: usize, rng: &mut impl Rng) -> Option<Arc<ClusterState>> {
        let total = self.availability(depth);
        let total = u64::from((total.healthy + total.degraded).min(100));
        if total == 0 {
            let mut clusters = self.0.iter().filter_map(|slot| slot.load());
            let first = clusters.next();
            let is_used = |cluster: &Arc<ClusterState>| cluster.has_endpoints() || cluster.is_aggregate();
            return first.clone().filter(is_used).or_else(|| clusters.find(is_used)).or(first);
        }
        let mut point = rng.below(total);
        let loads: [fn(Availability) -> u32; 2] = [|of| of.healthy, |of| of.degraded];
        for load in loads {
            for slot in &self.0 {
                let share = slot.read(|cluster| cluster.map_or(0, |cluster| load(cluster.availability(depth + 1))));
                let share = u64::from(share);
                if point < share {
                    return slot.load();
                }
                point -= share;
            }
        }
        // Endpoints have become unavailable in the meantime.
        self.0.iter().find_map(|slot| slot.load())
    }

    /// The percentage of load that all of its clusters can take.
    pub(super) fn availability(&self, depth: usize) -> Availability {
        if depth >= MAX_DEPTH {
            return Availability::default();
        }
        self.0.iter().fold(Availability::default(), |sum, slot| {
            sum.plus(slot.read(|cluster| cluster.map(|cluster| cluster.availability(depth + 1)).unwrap_or_default()))
        })
    }
}

/// Names only, because the clusters of a faulty configuration may contain each other.
impl fmt::Debug for Aggregated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|slot| slot.name())).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        cluster::testing::{assignment, endpoint, epoch, healthy},
        model::{Cluster, Discovery, HealthStatus, LoadAssignment},
        rng::SplitMix64,
        store::Store,
    };

    struct Bench {
        store: Store,
        now: Instant,
        rng: SplitMix64,
    }

    impl Bench {
        /// A store with an aggregate `all` of the clusters `a` and `b`, and of `absent`.
        fn new() -> Self {
            let mut bench = Self { store: Store::new(), now: epoch(), rng: SplitMix64::new(3) };
            bench.set("all", Discovery::Aggregate(["absent", "a", "b"].map(ClusterName::from).into()));
            bench
        }

        fn set(&mut self, name: &str, discovery: Discovery) {
            self.store.set_cluster(Arc::new(Cluster::new(name, discovery)), self.now, &mut self.rng);
        }

        fn endpoints(&mut self, name: &str, assignment: LoadAssignment) {
            self.set(name, Discovery::Static(assignment));
        }

        /// How many of 1000 requests each cluster takes, in percent.
        fn shares(&mut self) -> Vec<(String, usize)> {
            let all = self.store.cluster("all").unwrap();
            let chosen: Vec<_> = (0..1000).filter_map(|_| all.choose(&mut self.rng)).collect();
            let mut names: Vec<_> = chosen.iter().map(|cluster| cluster.config().name.as_str()).collect();
            names.sort_unstable();
            let counts = names.chunk_by(|one, other| one == other);
            counts.map(|names| (names[0].to_owned(), (names.len() + 5) / 10)).collect()
        }
    }

    /// `usable` of ten endpoints are healthy.
    fn ten(usable: u16) -> LoadAssignment {
        let health = |port| if port < usable { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
        assignment((0..10).map(|port| endpoint(port, 1, health(port))).collect())
    }

    #[test]
    fn the_first_cluster_takes_what_it_can_and_the_next_the_rest() {
        let mut bench = Bench::new();
        assert_eq!(bench.shares(), [], "no cluster exists");
        bench.endpoints("b", assignment(healthy([1])));
        assert_eq!(bench.shares(), [("b".to_owned(), 100)]);
        bench.endpoints("a", ten(10));
        assert_eq!(bench.shares(), [("a".to_owned(), 100)]);
        bench.endpoints("a", ten(5));
        let [(_, a), (_, b)] = &bench.shares()[..] else { panic!("both") };
        // 50 % with an overprovisioning factor of 1.4.
        assert!((66..=74).contains(a) && a + b == 100, "{a} and {b}");
        bench.endpoints("a", ten(0));
        assert_eq!(bench.shares(), [("b".to_owned(), 100)]);
        bench.endpoints("b", ten(0));
        assert_eq!(bench.shares(), [("a".to_owned(), 100)], "the first decides whether it panics");
        bench.store.remove_cluster(&"a".into());
        assert_eq!(bench.shares(), [("b".to_owned(), 100)]);
    }

    #[test]
    fn degraded_endpoints_come_after_the_healthy_ones_of_all_clusters() {
        let mut bench = Bench::new();
        bench.endpoints("a", assignment(vec![endpoint(1, 1, HealthStatus::Degraded)]));
        bench.endpoints("b", ten(5));
        let [(_, a), (_, b)] = &bench.shares()[..] else { panic!("both") };
        assert!((26..=34).contains(a) && a + b == 100, "{a} and {b}");
    }

    #[test]
    fn aggregates_may_be_nested_and_a_circle_takes_nothing() {
        let mut bench = Bench::new();
        bench.set("a", Discovery::Aggregate(["c"].map(ClusterName::from).into()));
        bench.endpoints("c", ten(10));
        assert_eq!(bench.shares(), [("c".to_owned(), 100)]);
        bench.set("a", Discovery::Aggregate(["all"].map(ClusterName::from).into()));
        assert_eq!(bench.shares(), []);
    }
}

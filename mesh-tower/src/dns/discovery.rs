//! Keeps the endpoints of DNS clusters up to date.
//!
//! Each cluster with [`Discovery::StrictDns`] or [`Discovery::LogicalDns`] has a task that resolves its names and sets its
//! endpoints. It repeats that after `dns_refresh_rate` or when the time to live of the answers ends. If a name cannot be
//! resolved, its last answer stays in use, as in Envoy. If a name has no addresses, its endpoints are removed. The log has the
//! first of several failures in a row, and their end.
//!
//! A logical cluster uses the first address of the answer. When the address changes, active requests continue. Unlike in
//! Envoy, idle connections to the old address are closed.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use mesh_core::{
    cluster::ClusterState,
    model::{Cluster, ClusterName, Discovery, DnsOptions, Endpoint, EndpointAddress, LoadAssignment},
    store::Store,
};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::{Resolve, ResolveError};
use crate::rng::ThreadRng;

/// Resolves the names of the DNS clusters of a store, including clusters that are added later. Dropping it stops that.
#[derive(Debug)]
pub struct DnsDiscovery {
    clusters: Arc<DnsClusters>,
    follow: AbortHandle,
}

#[derive(Debug)]
struct DnsClusters {
    store: Arc<Store>,
    resolver: Arc<dyn Resolve>,
    running: Mutex<HashMap<ClusterName, Running>>,
}

/// The task of one cluster. Dropping it ends the task.
#[derive(Debug)]
struct Running {
    config: Arc<Cluster>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for DnsDiscovery {
    fn drop(&mut self) {
        self.follow.abort();
    }
}

impl DnsDiscovery {
    /// Starts to resolve names with `resolver`, in tasks of the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(store: Arc<Store>, resolver: impl Resolve) -> Self {
        let clusters = Arc::new(DnsClusters { store, resolver: Arc::new(resolver), running: Mutex::default() });
        let follow = tokio::spawn(Arc::clone(&clusters).follow()).abort_handle();
        Self { clusters, follow }
    }

    /// Waits until the first query of each DNS cluster has ended, but at most `limit`. Before that, the clusters have no
    /// endpoints.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn first_answers(&self, limit: Duration) {
        let store = &self.clusters.store;
        let is_waiting = |cluster: &Arc<ClusterState>| cluster.config().discovery.is_dns() && !cluster.is_initialized();
        let all = async {
            let mut resolved = store.watch_resolved();
            while store.clusters().iter().any(is_waiting) {
                resolved.changed().await;
            }
        };
        // After `limit`, the remaining clusters get their endpoints later.
        let _ = tokio::time::timeout(limit, all).await;
    }
}

impl DnsClusters {
    async fn follow(self: Arc<Self>) {
        let mut changes = self.store.watch_clusters();
        loop {
            self.reconcile();
            changes.changed().await;
        }
    }

    /// Starts tasks for new and changed clusters and ends those of removed clusters.
    fn reconcile(&self) {
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        for cluster in self.store.clusters() {
            let config = cluster.config();
            if !config.discovery.is_dns() {
                continue;
            }
            let same = before.remove(&config.name).filter(|running| running.config.discovery == config.discovery);
            let task = same.unwrap_or_else(|| {
                let names = Names::new(Arc::clone(&self.store), Arc::clone(&self.resolver), Arc::clone(config));
                Running { config: Arc::clone(config), task: tokio::spawn(names.run()).abort_handle() }
            });
            running.insert(config.name.clone(), task);
        }
    }
}

/// The names of one cluster and their addresses.
struct Names {
    store: Arc<Store>,
    resolver: Arc<dyn Resolve>,
    config: Arc<Cluster>,
    answers: HashMap<Arc<str>, LastAnswer>,
}

/// The last answer for a name.
#[derive(Debug, Default)]
struct LastAnswer {
    addresses: Vec<IpAddr>,
    /// Whether the name has ever had an address.
    was_resolved: bool,
    /// Whether the last query brought no address.
    is_failing: bool,
}

/// What there is to say about a query. Of several failures in a row only the first is worth more than DEBUG.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    Nothing,
    Resolved,
    Failed(String),
    StillFails(String),
}

impl LastAnswer {
    fn update(&mut self, host: &str, answer: Result<Vec<IpAddr>, ResolveError>) -> Report {
        let reason = match answer {
            Ok(addresses) => {
                let is_empty = addresses.is_empty();
                self.addresses = addresses;
                if !is_empty {
                    self.was_resolved = true;
                    return if std::mem::take(&mut self.is_failing) { Report::Resolved } else { Report::Nothing };
                }
                format!("{host:?} has no addresses")
            }
            Err(error) => error.to_string(),
        };
        let effect = match (self.was_resolved, self.addresses.is_empty()) {
            (false, _) => "it has never been resolved, so the cluster has no endpoint for it",
            (true, true) => "its endpoints are removed",
            (true, false) => "the last answer stays in use",
        };
        let text = format!("{reason}; {effect}");
        if std::mem::replace(&mut self.is_failing, true) { Report::StillFails(text) } else { Report::Failed(text) }
    }
}

impl Names {
    /// Minimum time between two queries, even if the time to live of the answers is shorter.
    const MIN_REFRESH: Duration = Duration::from_secs(1);

    fn new(store: Arc<Store>, resolver: Arc<dyn Resolve>, config: Arc<Cluster>) -> Self {
        Self { store, resolver, config, answers: HashMap::new() }
    }

    async fn run(mut self) {
        loop {
            let refresh = self.refresh().await;
            tokio::time::sleep(refresh).await;
        }
    }

    /// Resolves all names and sets the endpoints. Returns the time until the next query.
    async fn refresh(&mut self) -> Duration {
        let config = Arc::clone(&self.config);
        let (assignment, options) = match &config.discovery {
            Discovery::StrictDns(assignment, options) | Discovery::LogicalDns(assignment, options) => {
                (assignment, options)
            }
            Discovery::Static(_) | Discovery::Eds { .. } | Discovery::OriginalDst(_) | Discovery::Aggregate(_) => {
                return Duration::MAX;
            }
        };
        let time_to_live = self.resolve(assignment, options).await;
        let resolved = self.resolved(assignment);
        self.store.set_resolved_endpoints(&config.name, &resolved, &mut ThreadRng);
        match time_to_live {
            Some(time_to_live) if options.respect_dns_ttl => time_to_live.max(Self::MIN_REFRESH),
            _ => options.dns_refresh_rate,
        }
    }

    /// Resolves each name once. Returns the shortest time to live; `None` if a name could not be resolved.
    async fn resolve(&mut self, assignment: &LoadAssignment, options: &DnsOptions) -> Option<Duration> {
        let mut time_to_live = Some(Duration::from_secs(24 * 3600));
        let endpoints = assignment.localities.iter().flat_map(|locality| &locality.endpoints);
        let mut queried: Vec<&Arc<str>> = Vec::new();
        for endpoint in endpoints {
            let EndpointAddress::Name { host, .. } = &endpoint.address else { continue };
            if queried.contains(&host) {
                continue;
            }
            queried.push(host);
            self.count(|stats| stats.update_attempt.inc());
            let answer = self.resolver.resolve(host, options.dns_lookup_family).await;
            match &answer {
                Ok(answer) => time_to_live = time_to_live.map(|shortest| shortest.min(answer.time_to_live)),
                Err(_) => {
                    time_to_live = None;
                    self.count(|stats| stats.update_failure.inc());
                }
            }
            let last = self.answers.entry(Arc::clone(host)).or_default();
            let cluster = &self.config.name;
            match last.update(host, answer.map(|answer| answer.addresses)) {
                Report::Nothing => {}
                Report::Resolved => tracing::info!("cluster {cluster}: {host:?} has been resolved"),
                Report::Failed(text) => tracing::warn!("cluster {cluster}: {text}"),
                Report::StillFails(text) => tracing::debug!("cluster {cluster}: {text}"),
            }
        }
        time_to_live
    }

    /// The assignment with addresses instead of names.
    fn resolved(&self, assignment: &LoadAssignment) -> LoadAssignment {
        let most = match self.config.discovery {
            Discovery::LogicalDns(..) => 1,
            Discovery::StrictDns(..)
            | Discovery::Static(_)
            | Discovery::Eds { .. }
            | Discovery::OriginalDst(_)
            | Discovery::Aggregate(_) => usize::MAX,
        };
        let mut resolved = assignment.clone();
        for locality in &mut resolved.localities {
            let configured = std::mem::take(&mut locality.endpoints);
            locality.endpoints = configured.into_iter().flat_map(|endpoint| self.addresses(endpoint, most)).collect();
        }
        resolved
    }

    fn addresses(&self, endpoint: Endpoint, most: usize) -> Vec<Endpoint> {
        let EndpointAddress::Name { host, port } = &endpoint.address else { return vec![endpoint] };
        let hostname = endpoint.hostname.clone().or_else(|| Some(Arc::clone(host)));
        let addresses = self.answers.get(host).map(|last| &*last.addresses).unwrap_or_default();
        let with_address = |address: &IpAddr| {
            let mut endpoint = endpoint.clone();
            endpoint.address = EndpointAddress::Socket((*address, *port).into());
            endpoint.hostname.clone_from(&hostname);
            endpoint
        };
        addresses.iter().take(most).map(with_address).collect()
    }

    fn count(&self, add: impl FnOnce(&mesh_core::cluster::ClusterStats)) {
        if let Some(cluster) = self.store.cluster(self.config.name.as_str()) {
            add(cluster.stats());
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::{model::DnsLookupFamily, rng::SplitMix64};

    use super::*;
    use crate::{
        dns::{Answer, Resolving},
        timer::now,
    };

    /// Gives the answer that the test has set last.
    #[derive(Clone, Debug, Default)]
    struct Zone(Arc<Mutex<Option<ZoneAnswer>>>);

    type ZoneAnswer = (Vec<&'static str>, Duration);

    impl Zone {
        fn set(&self, addresses: &[&'static str], seconds: u64) {
            *self.0.lock() = Some((addresses.to_vec(), Duration::from_secs(seconds)));
        }

        fn fail(&self) {
            *self.0.lock() = None;
        }
    }

    impl Resolve for Zone {
        fn resolve<'a>(&'a self, host: &'a str, _: DnsLookupFamily) -> Resolving<'a> {
            let answer = match &*self.0.lock() {
                Some((addresses, time_to_live)) => Ok(Answer {
                    addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
                    time_to_live: *time_to_live,
                }),
                None => Err(ResolveError { host: host.to_owned(), reason: "timed out".to_owned() }),
            };
            Box::pin(async move { answer })
        }
    }

    fn names() -> LoadAssignment {
        vec![Endpoint::new(EndpointAddress::Name { host: "db.test".into(), port: 5432 })].into()
    }

    fn start(discovery: Discovery) -> (Zone, Arc<Store>, DnsDiscovery) {
        let (zone, store) = (Zone::default(), Arc::new(Store::new()));
        store.set_cluster(Arc::new(Cluster::new("db", discovery)), now(), &mut SplitMix64::new(1));
        let dns = DnsDiscovery::start(Arc::clone(&store), zone.clone());
        (zone, store, dns)
    }

    async fn after(seconds: u64, store: &Store) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(seconds) + Duration::from_millis(1)).await;
        let set = store.cluster("db").unwrap().endpoints();
        set.endpoints().iter().map(|endpoint| endpoint.address().to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_address_is_an_endpoint_and_failures_keep_the_last_answer() {
        let (zone, store, _dns) = start(Discovery::StrictDns(names(), DnsOptions::default()));
        zone.set(&["10.0.0.1", "10.0.0.2"], 1);
        assert_eq!(after(0, &store).await, ["10.0.0.1:5432", "10.0.0.2:5432"]);
        let first = store.cluster("db").unwrap().endpoints().endpoints()[0].clone();
        assert_eq!(first.hostname().map(|name| &**name), Some("db.test"));
        zone.fail();
        assert_eq!(after(5, &store).await.len(), 2);
        zone.set(&["10.0.0.2"], 1);
        assert_eq!(after(5, &store).await, ["10.0.0.2:5432"]);
        zone.set(&[], 1);
        assert!(after(5, &store).await.is_empty());
    }

    #[test]
    fn the_first_of_several_failures_is_reported_with_its_effect() {
        let mut last = LastAnswer::default();
        let failure = || Err(ResolveError { host: "db.test".to_owned(), reason: "refused".to_owned() });
        let address = || Ok(vec![IpAddr::from([10, 0, 0, 1])]);
        let never = "it has never been resolved, so the cluster has no endpoint for it";
        let failed = |text: &str| Report::Failed(text.to_owned());
        assert_eq!(last.update("db.test", failure()), failed(&format!("cannot resolve \"db.test\": refused; {never}")));
        assert_eq!(
            last.update("db.test", Ok(Vec::new())),
            Report::StillFails(format!("\"db.test\" has no addresses; {never}"))
        );
        assert_eq!(last.update("db.test", address()), Report::Resolved);
        assert_eq!(last.update("db.test", address()), Report::Nothing);
        let stays = "cannot resolve \"db.test\": refused; the last answer stays in use";
        assert_eq!(last.update("db.test", failure()), failed(stays));
        assert_eq!(last.update("db.test", address()), Report::Resolved);
        let removed = "\"db.test\" has no addresses; its endpoints are removed";
        assert_eq!(last.update("db.test", Ok(Vec::new())), failed(removed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_logical_cluster_has_one_endpoint_and_may_live_by_the_ttl() {
        let mut options = DnsOptions::default();
        options.respect_dns_ttl = true;
        let (zone, store, _dns) = start(Discovery::LogicalDns(names(), options));
        zone.set(&["10.0.0.1", "10.0.0.2"], 60);
        assert_eq!(after(0, &store).await, ["10.0.0.1:5432"]);
        zone.set(&["10.0.0.2", "10.0.0.1"], 60);
        assert_eq!(after(58, &store).await, ["10.0.0.1:5432"]);
        assert_eq!(after(2, &store).await, ["10.0.0.2:5432"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_cluster_is_no_longer_resolved() {
        let (zone, store, dns) = start(Discovery::StrictDns(names(), DnsOptions::default()));
        zone.set(&["10.0.0.1"], 1);
        dns.first_answers(Duration::from_secs(1)).await;
        assert_eq!(store.cluster("db").unwrap().endpoints().endpoints().len(), 1);
        store.remove_cluster(&"db".into());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(dns.clusters.running.lock().is_empty());
        assert_eq!(Arc::strong_count(&zone.0), 2, "only the test and the discovery hold the resolver");
    }
}

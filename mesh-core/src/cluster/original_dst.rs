//! The endpoints of clusters with [`Discovery::OriginalDst`], which are added when a connection to their address is made.
//!
//! They are looked up in the current [`EndpointSet`](super::EndpointSet). Only the first connection to an address changes the set.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    endpoint::{EndpointState, Members},
    model::{Cluster, Discovery, LoadAssignment, NetworkAddress},
};

/// Most endpoints of one cluster. When there are as many, an endpoint that has not been used for a while has to go before another
/// address can be used.
pub const MAX_ORIGINAL_DESTINATIONS: usize = 10_000;

/// Endpoints by address. Empty for clusters that find their endpoints otherwise.
#[derive(Debug, Default)]
pub(super) struct Destinations(HashMap<SocketAddr, Destination>);

#[derive(Debug)]
struct Destination {
    endpoint: Arc<EndpointState>,
    /// Whether it has been picked since the last clean-up.
    is_used: AtomicBool,
}

impl Destinations {
    /// Those of a new set of endpoints. All count as used, so that none of them goes too early.
    pub(super) fn new(members: &Members, config: &Cluster) -> Self {
        let Discovery::OriginalDst(_) = config.discovery else { return Self::default() };
        let by_address = members.endpoints().iter().filter_map(|endpoint| {
            let NetworkAddress::Socket(address) = endpoint.address() else { return None };
            Some((*address, Destination { endpoint: Arc::clone(endpoint), is_used: AtomicBool::new(true) }))
        });
        Self(by_address.collect())
    }

    pub(super) fn find(&self, address: SocketAddr) -> Option<&Arc<EndpointState>> {
        let destination = self.0.get(&address)?;
        if !destination.is_used.load(Ordering::Relaxed) {
            destination.is_used.store(true, Ordering::Relaxed);
        }
        Some(&destination.endpoint)
    }

    /// The endpoints with that at `address`; `None` = there are too many.
    pub(super) fn with(&self, address: SocketAddr, only_used: bool) -> Option<LoadAssignment> {
        let is_staying = |destination: &Destination| !only_used || destination.is_used.load(Ordering::Relaxed);
        let staying = self.0.iter().filter(|(_, destination)| is_staying(destination)).map(|(address, _)| *address);
        let mut all: Vec<SocketAddr> = staying.collect();
        // The order is the same for the same addresses, so that lists of endpoints can be compared.
        all.sort_unstable();
        all.push(address);
        (all.len() <= MAX_ORIGINAL_DESTINATIONS).then(|| all.into_iter().collect())
    }

    /// From now on, an endpoint counts as used if it is picked.
    pub(super) fn begin_period(&self) {
        self.0.values().for_each(|destination| destination.is_used.store(false, Ordering::Relaxed));
    }
}

/// When endpoints that are not used are removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct CleanUp {
    due: Option<Instant>,
}

impl CleanUp {
    pub(super) fn new() -> Self {
        Self { due: None }
    }

    /// Whether it is time to remove the endpoints that have not been used since the last time.
    pub(super) fn is_due(&mut self, config: &Cluster, now: Instant) -> bool {
        let Discovery::OriginalDst(options) = &config.discovery else { return false };
        let is_due = self.due.is_some_and(|due| now >= due);
        if is_due || self.due.is_none() {
            self.due = now.checked_add(options.cleanup_interval);
        }
        is_due
    }
}

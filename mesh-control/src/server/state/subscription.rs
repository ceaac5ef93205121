//! What a client has of one type of resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[cfg(test)]
use mesh_xds::client::Interest;

use crate::server::snapshot::{Encoded, Named, Version};

/// The name that stands for all resources of a type.
const WILDCARD: &str = "*";

/// What a client has subscribed to and received.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// Whether there has been a request.
    pub(super) is_open: bool,
    /// Whether it is to all resources that there are for the node.
    pub(super) wildcard: bool,
    /// The names that it is to.
    pub(super) names: Arc<BTreeSet<Arc<str>>>,
    /// The resources that the client has. The version is `None` if another control plane has sent it.
    pub(super) sent: BTreeMap<Arc<str>, Option<Version>>,
    /// Number of the last response; 0 before the first.
    pub(super) nonce: u64,
    /// Number of the last response that was accepted; 0 before the first.
    pub(super) acked: u64,
    /// Why the last response was refused, if it was.
    pub(super) rejected: Option<String>,
}

impl Subscription {
    pub(super) fn includes(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// The resources that it is to.
    pub(super) fn wanted<'a>(&self, resources: &'a Named) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Encoded>)> {
        resources.iter().filter(|(name, _)| self.includes(name))
    }

    /// Whether the client has the resource in this version.
    pub(super) fn has(&self, name: &str, version: Version) -> bool {
        self.sent.get(name).copied().flatten() == Some(version)
    }

    /// Replaces the names; whether the subscription is another one now.
    ///
    /// No name is the wildcard until there has been one, then it is nothing.
    pub(super) fn replace(&mut self, names: Arc<BTreeSet<Arc<str>>>) -> bool {
        let (wildcard, names) = if names.is_empty() {
            (!self.is_open || self.wildcard, names)
        } else if names.contains(WILDCARD) {
            (true, Arc::new(names.iter().filter(|name| &***name != WILDCARD).cloned().collect()))
        } else {
            (false, names)
        };
        if self.is_open && (self.wildcard, &self.names) == (wildcard, &names) {
            return false;
        }
        (self.is_open, self.wildcard, self.names) = (true, wildcard, names);
        let mut sent = std::mem::take(&mut self.sent);
        sent.retain(|name, _| self.includes(name));
        self.sent = sent;
        true
    }

    /// Adds and removes names. Returns those that have been added, each of which the client waits for.
    pub(super) fn amend(&mut self, added: &[String], removed: &[String]) -> BTreeSet<Arc<str>> {
        let is_first = !std::mem::replace(&mut self.is_open, true);
        self.wildcard |= (is_first && added.is_empty()) || added.iter().any(|name| name == WILDCARD);
        self.wildcard &= !removed.iter().any(|name| name == WILDCARD);
        let names = Arc::make_mut(&mut self.names);
        for name in removed {
            names.remove(name.as_str());
            self.sent.remove(name.as_str());
        }
        let added = added.iter().filter(|name| *name != WILDCARD);
        let added: BTreeSet<Arc<str>> = added.map(|name| Arc::from(name.as_str())).collect();
        names.extend(added.iter().cloned());
        let mut sent = std::mem::take(&mut self.sent);
        sent.retain(|name, _| self.includes(name));
        self.sent = sent;
        added
    }

    /// Handles what a client says about the response of a nonce.
    pub(super) fn handle_answer(&mut self, nonce: &str, error: Option<&str>) {
        if nonce.is_empty() || *nonce != *self.nonce.to_string() {
            return;
        }
        self.rejected = error.map(str::to_owned);
        if error.is_none() {
            self.acked = self.nonce;
        }
    }

    /// The same as a client writes it.
    #[cfg(test)]
    pub(super) fn interest(&self) -> Interest {
        match (self.is_open, self.wildcard) {
            (false, _) => Interest::Nothing,
            (true, true) => Interest::Everything,
            (true, false) => Interest::Names(Arc::clone(&self.names)),
        }
    }
}

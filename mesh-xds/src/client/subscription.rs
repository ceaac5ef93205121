//! The listeners that a program uses.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use mesh_core::store::{Version, Watch};

/// Subscribes to listeners for an [`Agent`](super::Agent). Clones share the agent.
#[derive(Clone, Debug, Default)]
pub struct Subscriber(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many subscriptions there are to each listener.
    counts: Mutex<HashMap<Arc<str>, usize>>,
    version: Version,
}

/// A listener that is used for as long as this exists.
#[derive(Debug)]
pub struct Subscription {
    subscriber: Subscriber,
    name: Arc<str>,
}

impl Subscriber {
    /// Subscribes to the API listener called `name`, and to everything that it refers to.
    pub fn subscribe(&self, name: &Arc<str>) -> Subscription {
        *self.counts().entry(Arc::clone(name)).or_default() += 1;
        self.0.version.advance();
        Subscription { subscriber: self.clone(), name: Arc::clone(name) }
    }

    /// The listeners that are used.
    pub(super) fn names(&self) -> BTreeSet<Arc<str>> {
        self.counts().keys().cloned().collect()
    }

    /// Watches the listeners in use.
    pub(super) fn watch(&self) -> Watch {
        self.0.version.watch()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut counts = self.subscriber.counts();
        if let Some(count) = counts.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.name);
            }
        }
        drop(counts);
        self.subscriber.0.version.advance();
    }
}

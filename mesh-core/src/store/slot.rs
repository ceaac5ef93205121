//! Places for what comes and goes under a name.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
};

use arc_swap::ArcSwapOption;

/// The place of a resource: there from the first mention of its name, filled and refilled by updates.
#[derive(Debug)]
pub struct Slot<N, T> {
    name: N,
    value: ArcSwapOption<T>,
}

impl<N, T> Slot<N, T> {
    /// An empty place that belongs to no store, for what is used on its own.
    #[must_use]
    pub fn new(name: N) -> Self {
        Self { name, value: ArcSwapOption::empty() }
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &N {
        &self.name
    }

    /// The resource as it is now; `None` = it does not exist.
    #[must_use]
    pub fn load(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    /// Puts a resource here, or takes it away.
    pub fn store(&self, value: Option<Arc<T>>) {
        self.value.store(value);
    }

    fn is_empty(&self) -> bool {
        self.value.load().is_none()
    }
}

/// Slots by name. A name that is neither mentioned any more nor has a value is forgotten in time.
#[derive(Debug)]
pub(super) struct Slots<N, T>(RwLock<Interned<N, T>>);

#[derive(Debug)]
struct Interned<N, T> {
    by_name: HashMap<N, Arc<Slot<N, T>>>,
    /// Size at which unused slots are looked for; doubling makes that a constant share of each insertion.
    sweep_at: usize,
}

impl<N, T> Default for Slots<N, T> {
    fn default() -> Self {
        Self(RwLock::new(Interned { by_name: HashMap::new(), sweep_at: Self::MIN_SWEEP_AT }))
    }
}

impl<N, T> Slots<N, T> {
    const MIN_SWEEP_AT: usize = 64;
}

impl<N: Clone + Eq + Hash + Borrow<str>, T> Slots<N, T> {
    pub(super) fn find(&self, name: &str) -> Option<Arc<Slot<N, T>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
    }

    pub(super) fn intern(&self, name: &N) -> Arc<Slot<N, T>> {
        if let Some(slot) = self.find(name.borrow()) {
            return slot;
        }
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if slots.by_name.len() >= slots.sweep_at {
            slots.by_name.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_empty());
            slots.sweep_at = (slots.by_name.len() * 2).max(Self::MIN_SWEEP_AT);
        }
        // Another thread may have been faster.
        let slot = slots.by_name.entry(name.clone()).or_insert_with(|| Arc::new(Slot::new(name.clone())));
        Arc::clone(slot)
    }

    /// Every value there is, in no particular order.
    pub(super) fn values(&self) -> Vec<Arc<T>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.by_name.values().filter_map(|slot| slot.load()).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.len()
    }
}

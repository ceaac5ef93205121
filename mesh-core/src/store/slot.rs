//! Places for what comes and goes under a name.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock, Weak},
};

use arc_swap::ArcSwapOption;

use super::{Version, Watch};

/// The place of a resource: there from the first mention of its name, filled and refilled by updates.
#[derive(Debug)]
pub struct Slot<N, T> {
    name: N,
    value: ArcSwapOption<T>,
    version: Version,
}

impl<N, T> Slot<N, T> {
    /// An empty place that belongs to no store, for what is used on its own.
    #[must_use]
    pub fn new(name: N) -> Self {
        Self { name, value: ArcSwapOption::empty(), version: Version::new() }
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

    /// Reads the resource as it is now, without taking hold of it.
    pub fn read<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        read(self.value.load().as_deref())
    }

    /// Follows the resource: changes whenever it is put here, replaced or taken away. The watch holds the slot.
    #[must_use]
    pub fn watch(self: &Arc<Self>) -> Watch
    where
        N: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        self.version.watch_holding(Some(Arc::<Self>::clone(self)))
    }

    /// Puts a resource here, or takes it away.
    pub fn store(&self, value: Option<Arc<T>>) {
        self.value.store(value);
        self.version.advance();
    }
}

/// Slots by name. One is remembered while somebody holds it or its resource exists.
#[derive(Debug)]
pub(super) struct Slots<N, T>(RwLock<Interned<N, T>>);

#[derive(Debug)]
struct Interned<N, T> {
    by_name: HashMap<N, Place<N, T>>,
    /// Size at which names that nobody uses are forgotten; doubling makes that a constant share of each insertion.
    sweep_at: usize,
}

#[derive(Debug)]
struct Place<N, T> {
    slot: Weak<Slot<N, T>>,
    /// Holds the slot while the resource exists.
    existing: Option<Arc<Slot<N, T>>>,
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
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name)?.slot.upgrade()
    }

    pub(super) fn intern(&self, name: &N) -> Arc<Slot<N, T>> {
        // Most names are known, and readers do not wait for each other.
        self.find(name.borrow()).unwrap_or_else(|| self.0.write().unwrap_or_else(PoisonError::into_inner).intern(name))
    }

    /// The slot of a resource that exists from now on, and whether it did before.
    pub(super) fn keep(&self, name: &N) -> (Arc<Slot<N, T>>, bool) {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.intern(name);
        let before = slots.by_name.get_mut(name.borrow()).and_then(|place| place.existing.replace(Arc::clone(&slot)));
        (slot, before.is_some())
    }

    /// Takes a resource away, except from those who hold its slot: they keep it until they let go or it comes back.
    /// Yields the slot if the resource existed.
    pub(super) fn retire(&self, name: &str) -> Option<Arc<Slot<N, T>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).by_name.get_mut(name)?.existing.take()
    }

    /// Every value there is, in no particular order.
    pub(super) fn values(&self) -> Vec<Arc<T>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.by_name.values().filter_map(|place| place.slot.upgrade()?.load()).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.len()
    }
}

impl<N: Clone + Eq + Hash + Borrow<str>, T> Interned<N, T> {
    fn intern(&mut self, name: &N) -> Arc<Slot<N, T>> {
        if let Some(slot) = self.by_name.get(name.borrow()).and_then(|place| place.slot.upgrade()) {
            return slot;
        }
        if self.by_name.len() >= self.sweep_at {
            self.by_name.retain(|_, place| place.slot.strong_count() > 0);
            self.sweep_at = (self.by_name.len() * 2).max(Slots::<N, T>::MIN_SWEEP_AT);
        }
        let slot = Arc::new(Slot::new(name.clone()));
        self.by_name.insert(name.clone(), Place { slot: Arc::downgrade(&slot), existing: None });
        slot
    }
}

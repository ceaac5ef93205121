//! Slots: references to named resources that may change or not exist.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock, Weak},
};

use arc_swap::ArcSwapOption;

use super::{Version, Watch};

/// A reference to a named resource. It exists from the first reference to the name, and is filled by updates.
#[derive(Debug)]
pub struct Slot<N, T> {
    name: N,
    value: ArcSwapOption<T>,
    version: Version,
}

impl<N, T> Slot<N, T> {
    /// Creates an empty slot that does not belong to a store.
    #[must_use]
    pub fn new(name: N) -> Self {
        Self { name, value: ArcSwapOption::empty(), version: Version::new() }
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &N {
        &self.name
    }

    /// The current resource, if it exists.
    #[must_use]
    pub fn load(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    /// Reads the current resource without incrementing its reference count.
    pub fn read<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        read(self.value.load().as_deref())
    }

    /// Observes the resource. The watch changes when the resource is added, replaced or removed. It holds the slot.
    #[must_use]
    pub fn watch(self: &Arc<Self>) -> Watch
    where
        N: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        self.version.watch_holding(Some(Arc::<Self>::clone(self)))
    }

    /// Sets or removes the resource.
    pub fn store(&self, value: Option<Arc<T>>) {
        self.value.store(value);
        self.version.advance();
    }
}

/// Slots by name. A slot is kept while there are references to it or its resource exists.
#[derive(Debug)]
pub(crate) struct Slots<N, T>(RwLock<Interned<N, T>>);

#[derive(Debug)]
struct Interned<N, T> {
    by_name: HashMap<N, Place<N, T>>,
    /// Size at which unreferenced slots are removed. It doubles with the size, so the amortized cost is constant.
    sweep_at: usize,
}

#[derive(Debug)]
struct Place<N, T> {
    slot: Weak<Slot<N, T>>,
    /// A reference to the slot while the resource exists.
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
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Slot<N, T>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name)?.slot.upgrade()
    }

    pub(crate) fn intern(&self, name: &N) -> Arc<Slot<N, T>> {
        // Most names are known, and finding one takes only a read lock.
        self.find(name.borrow()).unwrap_or_else(|| self.0.write().unwrap_or_else(PoisonError::into_inner).intern(name))
    }

    /// The slot of a resource that is added, and whether it existed before.
    pub(crate) fn keep(&self, name: &N) -> (Arc<Slot<N, T>>, bool) {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.intern(name);
        let before = slots.by_name.get_mut(name.borrow()).and_then(|place| place.existing.replace(Arc::clone(&slot)));
        (slot, before.is_some())
    }

    /// Removes a resource, which references to its slot keep. Returns the slot if the resource existed.
    pub(crate) fn retire(&self, name: &str) -> Option<Arc<Slot<N, T>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).by_name.get_mut(name)?.existing.take()
    }

    /// All resources, in no particular order.
    pub(crate) fn values(&self) -> Vec<Arc<T>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.by_name.values().filter_map(|place| place.slot.upgrade()?.load()).collect()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
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

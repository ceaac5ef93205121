//! Places for what comes and goes under a name.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;

/// The place of a resource: there from the first mention of its name, filled and refilled by updates.
#[derive(Debug)]
pub struct Slot<N, T> {
    name: N,
    value: ArcSwapOption<T>,
    /// The resource was removed, but whoever holds the slot goes on with what was here last.
    is_retired: AtomicBool,
}

impl<N, T> Slot<N, T> {
    /// An empty place that belongs to no store, for what is used on its own.
    #[must_use]
    pub fn new(name: N) -> Self {
        Self { name, value: ArcSwapOption::empty(), is_retired: AtomicBool::new(false) }
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

    /// Puts a resource here, or takes it away.
    pub fn store(&self, value: Option<Arc<T>>) {
        self.value.store(value);
        self.is_retired.store(false, Ordering::Release);
    }

    fn is_unused(&self) -> bool {
        self.is_retired.load(Ordering::Acquire) || self.value.load().is_none()
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
            slots.by_name.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_unused());
            slots.sweep_at = (slots.by_name.len() * 2).max(Self::MIN_SWEEP_AT);
        }
        // Another thread may have been faster.
        let slot = slots.by_name.entry(name.clone()).or_insert_with(|| Arc::new(Slot::new(name.clone())));
        Arc::clone(slot)
    }

    /// Takes a resource away, except from those who hold its slot: they keep it until they let go or it comes back.
    pub(super) fn retire(&self, name: &str) {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match slots.by_name.get(name) {
            Some(slot) if Arc::strong_count(slot) > 1 => slot.is_retired.store(true, Ordering::Release),
            Some(_) => drop(slots.by_name.remove(name)),
            None => {}
        }
    }

    /// Every value there is, in no particular order.
    pub(super) fn values(&self) -> Vec<Arc<T>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.by_name.values().filter(|slot| !slot.is_unused()).filter_map(|slot| slot.load()).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.len()
    }
}

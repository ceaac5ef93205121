//! How many faults are under way.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// Counts faults against `max_active_faults`. Clones are one count.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActiveFaults(Arc<AtomicU32>);

/// A fault under way, until dropped.
#[derive(Debug)]
pub(crate) struct ActiveFault(ActiveFaults);

impl ActiveFaults {
    /// Begins a fault; `None` if `max` are under way.
    pub(crate) fn start(&self, max: Option<NonZeroU32>) -> Option<ActiveFault> {
        let max = max.map_or(u32::MAX, NonZeroU32::get);
        let count = |active| (active < max).then(|| active + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).ok()?;
        Some(ActiveFault(self.clone()))
    }
}

impl Drop for ActiveFault {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

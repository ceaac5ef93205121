//! Selection of the members of a list in turn, by weight.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::schedule::Schedule;
use crate::{endpoint::Health, rng::Rng};

/// A cyclic schedule and the position in it.
#[derive(Debug)]
pub(super) struct Turns {
    /// `None` = each member once per cycle.
    schedule: Option<Schedule>,
    len: usize,
    cursor: Arc<AtomicUsize>,
}

impl Turns {
    pub(super) fn new(weights: impl ExactSizeIterator<Item = u64> + Clone, cursor: Arc<AtomicUsize>) -> Self {
        let len = weights.len();
        Self { schedule: Schedule::new(weights), len, cursor }
    }

    /// The next member. The list must not be empty.
    pub(super) fn next(&self) -> usize {
        let turn = self.cursor.fetch_add(1, Ordering::Relaxed);
        match &self.schedule {
            Some(schedule) => schedule.at(turn % schedule.len()),
            None => turn % self.len,
        }
    }
}

/// Which list a position belongs to: priority, health (`None` = all, in panic), locality.
pub(super) type ListKey = (u32, Option<Health>, ListLocality);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListLocality {
    /// The endpoints of all localities.
    All,
    /// The localities themselves.
    Choice,
    /// The endpoints of one locality, by its position in the configuration.
    One(usize),
}

/// Positions in lists. They outlive the pickers, so that round robin continues after an update.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    positions: Vec<(ListKey, Arc<AtomicUsize>)>,
}

impl Cursors {
    /// The position in a list. A new position is random, so that many clients do not all start at the same endpoint.
    pub(super) fn position(&mut self, key: ListKey, rng: &mut impl Rng) -> Arc<AtomicUsize> {
        if let Some((_, cursor)) = self.positions.iter().find(|(known, _)| *known == key) {
            return Arc::clone(cursor);
        }
        let cursor = Arc::new(AtomicUsize::new(rng.index(1 << 30)));
        self.positions.push((key, Arc::clone(&cursor)));
        cursor
    }

    /// Removes the positions that neither the picker in use nor the one just built refers to.
    pub(super) fn sweep(&mut self) {
        self.positions.retain(|(_, cursor)| Arc::strong_count(cursor) > 1);
    }
}

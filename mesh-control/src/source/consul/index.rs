//! The index of a blocking query.
//!
//! Source: Consul's documentation of blocking queries: a client starts again from nothing if the index goes backwards, as after
//! the servers were restored from a backup, and never waits for index 0, which would not block.

/// The index up to which the answer of a query is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(Option<u64>);

impl Index {
    /// The index to wait for a change of; `None` for the answer at once.
    pub(super) fn poll_query(self) -> Option<u64> {
        self.0
    }

    /// The agent has answered with this index, if any. Whether the answer may be another one than the last.
    pub(super) fn handle_answer(&mut self, index: Option<u64>) -> bool {
        let new = index.map(|index| index.max(1));
        let is_changed = new.is_none() || new != self.0;
        let is_backwards = self.0.zip(new).is_some_and(|(old, new)| new < old);
        self.0 = new.filter(|_| !is_backwards);
        is_changed
    }

    /// The query has failed: the agent may be another one.
    pub(super) fn handle_failure(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_starts_again() {
        let mut index = Index::default();
        assert_eq!(index.poll_query(), None, "the first answer comes at once");
        for (answer, is_changed, next) in [
            (Some(7), true, Some(7)),
            (Some(7), false, Some(7)),
            (Some(9), true, Some(9)),
            (Some(3), true, None),
            (Some(0), true, Some(1)),
            (None, true, None),
            (Some(4), true, Some(4)),
        ] {
            assert_eq!((index.handle_answer(answer), index.poll_query()), (is_changed, next), "{answer:?}");
        }
        index.handle_failure();
        assert_eq!(index.poll_query(), None);
    }
}

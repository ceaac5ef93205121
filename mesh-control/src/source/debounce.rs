//! Combines changes that follow each other closely.

use std::time::Duration;

use tokio::time::Instant;

/// Time without a change after which the sources are considered complete.
const QUIET: Duration = Duration::from_millis(100);
/// Longest time by which changes can delay reading.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// When changes are read. After the first change, it is the time of the last one and [`QUIET`], but not later than the time
/// of the first one and [`MAX_DELAY`].
#[derive(Debug, Default)]
pub(super) struct Debounce {
    deadline: Option<Instant>,
    due: Option<Instant>,
}

impl Debounce {
    /// There is a change.
    pub(super) fn handle_change(&mut self, now: Instant) {
        let deadline = *self.deadline.get_or_insert(now + MAX_DELAY);
        self.due = Some(deadline.min(now + QUIET));
    }

    /// The changes were read, and are complete.
    pub(super) fn handle_read(&mut self) {
        *self = Self::default();
    }

    /// When to read; `None` if nothing has changed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether changes have delayed reading for so long that it waits no longer for completeness.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When changes at these times are read, in milliseconds, and whether that is overdue.
    fn read_at(changes_at: &[u64]) -> (u64, bool) {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        for at in changes_at {
            let at = start + Duration::from_millis(*at);
            if debounce.poll_timeout().is_some_and(|due| due <= at) {
                break;
            }
            debounce.handle_change(at);
        }
        let due = debounce.poll_timeout().unwrap();
        (u64::try_from((due - start).as_millis()).unwrap(), debounce.is_overdue(due))
    }

    #[test]
    fn waits_for_quiet_up_to_a_limit() {
        let steady: Vec<u64> = (0..200).map(|i| i * 90).collect();
        for (changes_at, expected) in [
            (&[0][..], (100, false)),
            (&[0, 50, 149], (249, false)),
            (&[0, 150], (100, false)),
            (&steady, (10_000, true)),
        ] {
            assert_eq!(read_at(changes_at), expected, "{changes_at:?}");
        }
        assert_eq!(Debounce::default().poll_timeout(), None);
    }
}

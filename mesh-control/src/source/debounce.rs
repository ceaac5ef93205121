//! Combines changes that follow each other closely.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Time without a change after which the files are considered complete.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// Longest time by which changes can delay reading.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Why waiting has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// There was no change for [`QUIET`].
    Quiet,
    /// There were changes for [`MAX_DELAY`].
    Overdue,
    /// The watch has ended.
    Closed,
}

/// Waits for a change, and then until no other follows it.
pub(super) async fn settled(changes: &mut mpsc::Receiver<()>) -> Settled {
    if changes.recv().await.is_none() {
        return Settled::Closed;
    }
    let deadline = Instant::now() + MAX_DELAY;
    loop {
        let quiet_at = (Instant::now() + QUIET).min(deadline);
        match timeout_at(quiet_at, changes.recv()).await {
            Ok(Some(())) => {}
            Ok(None) => return Settled::Closed,
            Err(_) if quiet_at == deadline => return Settled::Overdue,
            Err(_) => return Settled::Quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When `settled` returns, in milliseconds, if changes come at these times.
    async fn settled_after(changes_at: Vec<u64>) -> (Settled, u64) {
        let (sender, mut receiver) = mpsc::channel(1);
        let start = Instant::now();
        let changes = async {
            for at in changes_at {
                tokio::time::sleep_until(start + Duration::from_millis(at)).await;
                let _ = sender.try_send(());
            }
            std::future::pending::<()>().await;
        };
        let settled = tokio::select! {
            () = changes => unreachable!("it never ends"),
            settled = settled(&mut receiver) => settled,
        };
        (settled, u64::try_from(start.elapsed().as_millis()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_quiet_up_to_a_limit() {
        let steady = (0..200).map(|i| i * 90).collect();
        for (changes_at, expected) in [
            (vec![0], (Settled::Quiet, 100)),
            (vec![0, 50, 149], (Settled::Quiet, 249)),
            (vec![0, 150], (Settled::Quiet, 100)),
            (steady, (Settled::Overdue, 10_000)),
        ] {
            let found = settled_after(changes_at.clone()).await;
            // Timers have a resolution of a millisecond.
            let is_close = found.1.abs_diff(expected.1) <= 2;
            assert!(found.0 == expected.0 && is_close, "{changes_at:?} gave {found:?}, expected {expected:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_with_the_watcher() {
        let (sender, mut receiver) = mpsc::channel(1);
        drop(sender);
        assert_eq!(settled(&mut receiver).await, Settled::Closed);
    }
}

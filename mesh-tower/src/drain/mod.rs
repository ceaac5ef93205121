//! Ending connections without failing requests.
//!
//! ```text
//! Serving ──begin()──► Draining ──close_idle()──► Closing ──abort()──► Closed
//!          no new connections,    idle connections         all connections
//!          responses have         are closed               are cut
//!          "connection: close",
//!          GOAWAY on HTTP/2
//! ```
//!
//! Between *Draining* and *Closing* an idle keep-alive connection stays open, because a client may just be sending a
//! request, which would be lost. Its response has `connection: close`. The phase is an atomic, so reading it for each
//! request is cheap. A connection is woken once for each change.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::{Instant, sleep_until},
};

#[cfg(test)]
mod tests;

/// The phase of draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not draining.
    Serving,
    /// No new connections; open ones end after their next response.
    Draining,
    /// Idle connections are closed.
    Closing,
    /// All connections are cut.
    Closed,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Serving, Self::Draining, Self::Closing, Self::Closed];
}

/// The time limits of draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTimes {
    /// From *Draining* to *Closing*: how long an idle keep-alive connection may still receive a request. Default 1 s.
    pub idle_grace: Duration,
    /// From *Draining* to *Closed*: how long an active request may take. Default 600 s. Envoy `--drain-time-s`.
    pub drain_time: Duration,
}

impl Default for DrainTimes {
    fn default() -> Self {
        Self { idle_grace: Duration::from_secs(1), drain_time: Duration::from_secs(600) }
    }
}

/// A group of connections that can be drained together. Clones are handles to the same group.
#[derive(Clone, Default)]
pub struct Drain {
    group: Arc<Group>,
}

#[derive(Default)]
struct Group {
    phase: AtomicU8,
    members: AtomicUsize,
    phase_changed: Arc<Notify>,
    emptied: Notify,
}

/// The membership of a connection in a group. Dropping it leaves the group.
pub struct DrainWatch {
    group: Arc<Group>,
    seen: Phase,
    changed: Pin<Box<OwnedNotified>>,
    waker: Option<Waker>,
}

impl Drain {
    /// Creates a group that is not draining.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.group.phase()
    }

    /// Whether responses should ask clients to close the connection.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// The number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.group.members.load(Ordering::Acquire)
    }

    /// Joins the group until the result is dropped.
    #[must_use]
    pub fn watch(&self) -> DrainWatch {
        self.group.members.fetch_add(1, Ordering::AcqRel);
        DrainWatch {
            group: Arc::clone(&self.group),
            seen: Phase::Serving,
            changed: Box::pin(Arc::clone(&self.group.phase_changed).notified_owned()),
            waker: None,
        }
    }

    /// Enters *Draining*. Has no effect in a later phase.
    pub fn begin(&self) {
        self.group.advance(Phase::Draining);
    }

    /// Enters *Closing*. Has no effect in a later phase.
    pub fn close_idle(&self) {
        self.group.advance(Phase::Closing);
    }

    /// Enters *Closed*.
    pub fn abort(&self) {
        self.group.advance(Phase::Closed);
    }

    /// Waits until the group is in `phase` or a later one.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let changed = self.group.phase_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.phase() >= phase {
                return;
            }
            changed.await;
        }
    }

    /// Waits until there is no open connection.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.group.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.connections() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Goes through the phases. Returns when there is no open connection, at the latest after `drain_time`.
    ///
    /// # Cancel safety
    /// The group stays in the phase it has reached.
    pub async fn run(&self, times: DrainTimes) {
        let start = Instant::now();
        self.begin();
        tokio::select! {
            () = self.emptied() => return,
            () = sleep_until(start + times.idle_grace.min(times.drain_time)) => self.close_idle(),
        }
        tokio::select! {
            () = self.emptied() => {}
            () = sleep_until(start + times.drain_time) => self.abort(),
        }
    }
}

impl Group {
    fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire))]
    }

    fn advance(&self, phase: Phase) {
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.phase_changed.notify_waiters();
        }
    }
}

impl DrainWatch {
    /// Polls for a phase other than the last one that was returned.
    pub fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        let registered = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !registered {
            self.waker = Some(cx.waker().clone());
            while self.changed.as_mut().poll(cx).is_ready() {
                self.renew();
            }
        }
        // Read after the waker is registered, because the phase may have changed just before.
        let phase = self.group.phase();
        if phase == self.seen {
            return Poll::Pending;
        }
        self.seen = phase;
        self.renew();
        self.waker = None;
        Poll::Ready(phase)
    }

    /// Waits for a phase other than the last one that was returned.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Phase {
        poll_fn(|cx| self.poll_change(cx)).await
    }

    /// Waits until the group is in `phase` or a later one.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        while self.changed().await < phase {}
    }

    /// Whether responses should ask clients to close the connection.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.group.phase() != Phase::Serving
    }

    /// The group.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain { group: Arc::clone(&self.group) }
    }

    fn renew(&mut self) {
        self.changed.set(Arc::clone(&self.group.phase_changed).notified_owned());
    }
}

impl Drop for DrainWatch {
    fn drop(&mut self) {
        if self.group.members.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.group.emptied.notify_waiters();
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("phase", &self.phase()).field("connections", &self.connections()).finish()
    }
}

impl fmt::Debug for DrainWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainWatch").field("seen", &self.seen).finish_non_exhaustive()
    }
}

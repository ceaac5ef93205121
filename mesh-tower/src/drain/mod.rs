//! Ending connections without failing requests.
//!
//! ```text
//! Serving ──begin()──► Draining ──close_idle()──► Closing ──abort()──► Closed
//!          accept stops,          idle connections         everything else is cut
//!          answers say            are closed
//!          "connection: close",
//!          GOAWAY on HTTP/2
//! ```
//!
//! Between *Draining* and *Closing* a keep-alive connection is left open although it is idle: a client may be writing a
//! request onto it at this very moment, and closing would lose that request. It gets its answer, with
//! `connection: close`. The phase is an atomic that the request path may read for the price of a load; a connection is
//! woken once per change.

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

/// How far draining has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Business as usual.
    Serving,
    /// No new connections; those that are open end with their next answer.
    Draining,
    /// Connections without a request are closed.
    Closing,
    /// Connections are cut.
    Closed,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Serving, Self::Draining, Self::Closing, Self::Closed];
}

/// How long draining may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTimes {
    /// From *Draining* to *Closing*: how long an idle keep-alive connection may still bring a request. Default 1 s.
    pub idle_grace: Duration,
    /// From *Draining* to *Closed*: how long a request in flight may take. Default 600 s, Envoy's `--drain-time-s`.
    pub drain_time: Duration,
}

impl Default for DrainTimes {
    fn default() -> Self {
        Self { idle_grace: Duration::from_secs(1), drain_time: Duration::from_secs(600) }
    }
}

/// Tells a group of connections that they are to end, and knows when they have. Clones are handles to the same group.
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

/// A connection's membership in a [`Drain`]'s group; dropping it leaves.
pub struct DrainWatch {
    group: Arc<Group>,
    seen: Phase,
    changed: Pin<Box<OwnedNotified>>,
    waker: Option<Waker>,
}

impl Drain {
    /// A group that is serving.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the group stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.group.phase()
    }

    /// Whether answers should tell clients to go.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Connections that have not ended.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.group.members.load(Ordering::Acquire)
    }

    /// Joins the group, for as long as the result lives.
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

    /// Serving → Draining; nothing if that has happened.
    pub fn begin(&self) {
        self.group.advance(Phase::Draining);
    }

    /// → Closing; nothing if that has happened.
    pub fn close_idle(&self) {
        self.group.advance(Phase::Closing);
    }

    /// → Closed.
    pub fn abort(&self) {
        self.group.advance(Phase::Closed);
    }

    /// Resolves when the group has reached `phase`.
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

    /// Resolves when no connection is left.
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

    /// Goes through the phases; returns as soon as no connection is left, after `drain_time` at the latest.
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
    /// The phase, if it is another than the last one returned here; else the task is woken when it changes.
    pub fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        let registered = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !registered {
            self.waker = Some(cx.waker().clone());
            while self.changed.as_mut().poll(cx).is_ready() {
                self.renew();
            }
        }
        // The notification may have come before it was registered, so the phase is read after that.
        let phase = self.group.phase();
        if phase == self.seen {
            return Poll::Pending;
        }
        self.seen = phase;
        self.renew();
        self.waker = None;
        Poll::Ready(phase)
    }

    /// The next phase other than the last one returned here.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Phase {
        poll_fn(|cx| self.poll_change(cx)).await
    }

    /// Whether answers should tell clients to go.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.group.phase() != Phase::Serving
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

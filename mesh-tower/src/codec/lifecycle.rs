//! When a connection ends: draining, idle timeout, maximum duration, maximum of requests.
//!
//! The timer is armed once per connection and checked only when it has fired; a request only stores the time of its
//! end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::{ConnectionInfo, io::Protocol};
use crate::{
    drain::{DrainWatch, Phase},
    telemetry::HttpStats,
};

/// The limits on the lifetime of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_connection_duration: Option<Duration>,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Finish the active requests, take no more, and close.
    Graceful,
    /// Close at once.
    Abrupt,
}

/// Decides when a connection is to end. The driver of its protocol polls it.
pub(super) struct Lifecycle {
    info: Arc<ConnectionInfo>,
    stats: Arc<HttpStats>,
    lifetime: Lifetime,
    drain: DrainWatch,
    protocol: Protocol,
    timer: Option<Pin<Box<Sleep>>>,
    timer_is_armed: bool,
    is_ending: bool,
}

impl Lifecycle {
    pub(super) fn new(
        info: Arc<ConnectionInfo>,
        stats: Arc<HttpStats>,
        lifetime: Lifetime,
        drain: DrainWatch,
        protocol: Protocol,
    ) -> Self {
        let mut lifecycle =
            Self { info, stats, lifetime, drain, protocol, timer: None, timer_is_armed: false, is_ending: false };
        lifecycle.timer = lifecycle.deadline().map(|at| Box::pin(tokio::time::sleep_until(at)));
        lifecycle
    }

    /// What the requests of the connection share.
    pub(super) fn info(&self) -> &Arc<ConnectionInfo> {
        &self.info
    }

    /// The statistics of the listener.
    pub(super) fn stats(&self) -> &Arc<HttpStats> {
        &self.stats
    }

    /// Ready when the connection is to end. It may be ready several times; [`Ending::Abrupt`] may follow
    /// [`Ending::Graceful`]. The task is registered to be woken in either case.
    pub(super) fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let mut ends = false;
        while let Poll::Ready(phase) = self.drain.poll_change(cx) {
            match phase {
                // The client of an idle HTTP/1 connection may be sending a request; the next response closes it.
                Phase::Draining if self.protocol == Protocol::Http1 => {}
                Phase::Closed => return Poll::Ready(Ending::Abrupt),
                _ => {
                    self.stats.downstream_cx_drain_close.inc();
                    ends = true;
                }
            }
        }
        while self.poll_timer(cx) {
            ends |= self.handle_timeout();
        }
        // An HTTP/1 connection is closed by the last response.
        ends |= self.protocol == Protocol::Http2 && self.info.takes_no_more() && !self.is_ending;
        if !ends {
            return Poll::Pending;
        }
        self.is_ending = true;
        self.timer = None;
        Poll::Ready(Ending::Graceful)
    }

    /// Whether the timer has fired. Once polled, it wakes the task, so that later only its state is checked.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(timer) = &mut self.timer else { return false };
        if self.timer_is_armed {
            return timer.is_elapsed();
        }
        self.timer_is_armed = true;
        timer.as_mut().poll(cx).is_ready()
    }

    /// Whether the connection is to end. Otherwise the timer is set again.
    fn handle_timeout(&mut self) -> bool {
        let now = Instant::now();
        let is_old = self.lifetime.max_connection_duration.is_some_and(|max| self.info.start() + max <= now);
        let is_idle = self.lifetime.idle_timeout.is_some_and(|timeout| self.info.idle_until(timeout) <= now);
        if is_old {
            self.stats.downstream_cx_max_duration_reached.inc();
        } else if is_idle {
            self.stats.downstream_cx_idle_timeout.inc();
        }
        if is_old || is_idle {
            self.timer = None;
            return true;
        }
        if let (Some(at), Some(timer)) = (self.deadline(), &mut self.timer) {
            timer.as_mut().reset(at);
            self.timer_is_armed = false;
        }
        false
    }

    fn deadline(&self) -> Option<Instant> {
        let idle = self.lifetime.idle_timeout.map(|timeout| self.info.idle_until(timeout));
        let old = self.lifetime.max_connection_duration.map(|max| self.info.start() + max);
        match (idle, old) {
            (Some(idle), Some(old)) => Some(idle.min(old)),
            (idle, old) => idle.or(old),
        }
    }
}

//! PINGs on an HTTP/2 connection. Envoy `http2_protocol_options.connection_keepalive`.
//!
//! ```text
//!          interval elapses, or a request after an idle time
//!   Waiting ────────────────────────────────────────────────────────► Sent ──timeout──► the connection is closed
//!      ▲                                                                │
//!      └───────────────────────────── PONG ─────────────────────────────┘
//! ```

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use h2::{Ping, PingPong};
use mesh_core::model::Http2Keepalive;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::rng::ThreadRng;

/// The keepalive of a connection, which the task of the connection polls.
#[derive(Debug)]
pub(crate) struct Keepalive {
    settings: Http2Keepalive,
    pings: PingPong,
    /// Time of the next PING, or the deadline of the PONG if a PING is sent; `None` = the next PING is sent on request only.
    timer: Option<Pin<Box<Sleep>>>,
    is_sent: bool,
    ping_request: Arc<PingRequest>,
}

/// Requests a PING from the task of a connection.
#[derive(Debug, Default)]
pub(crate) struct PingRequest {
    is_requested: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl PingRequest {
    pub(crate) fn request(&self) {
        self.is_requested.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    /// Whether a PING has been requested since the last call. If not, the task is woken by the next request.
    fn take(&self, cx: &mut Context<'_>) -> bool {
        *self.waker.lock() = Some(cx.waker().clone());
        self.is_requested.swap(false, Ordering::AcqRel)
    }
}

impl Keepalive {
    pub(crate) fn new(settings: Http2Keepalive, pings: PingPong) -> Self {
        let mut keepalive = Self { settings, pings, timer: None, is_sent: false, ping_request: Arc::default() };
        keepalive.wait();
        keepalive
    }

    /// The handle to request a PING.
    pub(crate) fn ping_request(&self) -> Arc<PingRequest> {
        Arc::clone(&self.ping_request)
    }

    /// Ready when no PONG has arrived within the timeout. Poll this before the connection, because the connection sends the PING.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_sent {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => self.wait(),
                    // The connection has ended. Its own future reports this.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => return self.poll_timer(cx),
                }
            }
            if !self.ping_request.take(cx) && self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
            self.send();
        }
    }

    fn wait(&mut self) {
        self.is_sent = false;
        let next = self.settings.next_interval(&mut ThreadRng);
        self.timer = next.map(|interval| Box::pin(tokio::time::sleep_until(Instant::now() + interval)));
    }

    fn send(&mut self) {
        // This fails if the connection has ended, which `poll_pong` reports.
        let _ = self.pings.send_ping(Ping::opaque());
        self.is_sent = true;
        self.timer = Some(Box::pin(tokio::time::sleep(self.settings.timeout)));
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}

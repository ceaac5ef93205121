//! PINGs on an HTTP/2 connection to an endpoint. Envoy `http2_protocol_options.connection_keepalive`.
//!
//! ```text
//!              interval is over, or a request after a long silence
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
pub(super) struct Keepalive {
    settings: Http2Keepalive,
    pings: PingPong,
    /// When the next PING is sent, or the latest must have been answered; `None` = not before it is asked for.
    timer: Option<Pin<Box<Sleep>>>,
    is_sent: bool,
    asked: Arc<AskedPing>,
}

/// Asks the task of a connection for a PING.
#[derive(Debug, Default)]
pub(super) struct AskedPing {
    is_asked: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl AskedPing {
    pub(super) fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    /// Whether a PING was asked for since the last time. Until then, the task is registered to be woken.
    fn take(&self, cx: &mut Context<'_>) -> bool {
        *self.waker.lock() = Some(cx.waker().clone());
        self.is_asked.swap(false, Ordering::AcqRel)
    }
}

impl Keepalive {
    pub(super) fn new(settings: Http2Keepalive, pings: PingPong) -> Self {
        let mut keepalive = Self { settings, pings, timer: None, is_sent: false, asked: Arc::default() };
        keepalive.wait();
        keepalive
    }

    /// To ask for a PING.
    pub(super) fn asked(&self) -> Arc<AskedPing> {
        Arc::clone(&self.asked)
    }

    /// Ready when a PING was not answered in time. Poll it before the connection, which sends the PING.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_sent {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => self.wait(),
                    // The connection has ended, and says so itself.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => return self.poll_timer(cx),
                }
            }
            if !self.asked.take(cx) && self.poll_timer(cx).is_pending() {
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
        // It fails if the connection has ended, which `poll_pong` reports.
        let _ = self.pings.send_ping(Ping::opaque());
        self.is_sent = true;
        self.timer = Some(Box::pin(tokio::time::sleep(self.settings.timeout)));
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}

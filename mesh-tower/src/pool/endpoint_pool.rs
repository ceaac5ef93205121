//! The connections of one worker to one endpoint.
//!
//! ```text
//!              ready connection? ──yes──► used
//!                     │ no
//!     max_pending_requests? ──full──► overflow
//!                     │
//!              FIFO queue ◄─── a connection is made, comes back, or has room for another stream
//!                     │                              ▲
//!                     └─ fewer connecting than needed and max_connections not reached
//! ```
//!
//! As in Envoy a request does not own the connection that is made for it: whichever is ready first serves whoever waits
//! longest, and one that cannot be made fails everybody who waits, so that they can try another endpoint. Unlike Envoy's,
//! `max_connections` is never exceeded; at the limit an unused connection elsewhere is given up: to another endpoint of the
//! cluster, or of another worker. A connection that becomes unused there later is noticed by the next sweep.
//!
//! No connection is dropped under the lock: dropping one takes it.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use mesh_core::{cluster::ClusterStats, resilience::breaker::Permit};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::{
    Connection, OwnedTarget, Protocol, ResetReason, Target, TransportError, connecting, http1::Http1Connection,
    http2::Http2Connection,
};
use crate::timer::now;

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub(super) struct EndpointPool {
    state: Mutex<State>,
    /// Requests that wait for an HTTP/2 stream: lets streams end without taking the lock.
    http2_waiting: AtomicUsize,
    /// The last attempt to connect has failed.
    is_unreachable: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Unused HTTP/1 connections, the latest used last: it is used first, so that the others can grow old.
    #[expect(clippy::vec_box, reason = "a connection travels with its response in this very box")]
    idle: Vec<Box<Http1Connection>>,
    shared: Vec<Arc<Http2Connection>>,
    http1: Queue,
    http2: Queue,
}

/// Requests waiting for a connection, and connections being made for them.
#[derive(Debug, Default)]
struct Queue {
    connecting: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    target: OwnedTarget,
    reply: oneshot::Sender<Result<Connection, TransportError>>,
}

enum Step {
    Idle(Box<Http1Connection>),
    Ready(Connection),
    Wait(Wait),
}

impl EndpointPool {
    /// Notes whether a connection could be made; returns whether that is news. An endpoint is taken to be reachable.
    pub(super) fn note_reachable(&self, is_reachable: bool) -> bool {
        self.is_unreachable.swap(!is_reachable, Ordering::Relaxed) == is_reachable
    }

    /// A connection that can take a request at once; waits for one if need be.
    pub(super) async fn connection(
        self: &Arc<Self>,
        target: &Target<'_>,
        protocol: Protocol,
    ) -> Result<Connection, TransportError> {
        loop {
            match self.ready_or_wait(target, protocol)? {
                Step::Ready(connection) => return Ok(connection),
                Step::Wait(wait) => return wait.await,
                Step::Idle(mut connection) => {
                    if poll_fn(|cx| Poll::Ready(connection.is_usable(now(), cx))).await {
                        return Ok(Connection::from(connection));
                    }
                }
            }
        }
    }

    fn ready_or_wait(self: &Arc<Self>, target: &Target<'_>, protocol: Protocol) -> Result<Step, TransportError> {
        let mut state = self.state.lock();
        match protocol {
            Protocol::Http1 => {
                if let Some(connection) = state.idle.pop() {
                    return Ok(Step::Idle(connection));
                }
            }
            Protocol::Http2 => {
                let now = now();
                if let Some(stream) = state.shared.iter().find_map(|connection| connection.try_reserve(now)) {
                    let retired = state.take_retired();
                    drop((state, retired));
                    return Ok(Step::Ready(Connection::from(stream)));
                }
            }
        }
        let pending = target.try_pending()?;
        let (sender, reply) = oneshot::channel();
        state.queue(protocol).waiting.push_back(Waiting { target: target.owned(), reply: sender });
        self.connect(state, protocol);
        let (pool, stats) = (Arc::clone(self), Arc::clone(target.stats()));
        Ok(Step::Wait(Wait { pool, protocol, reply: Some(reply), stats, _pending: pending }))
    }

    /// Begins as many connections as the waiting requests need and the circuit breaker allows.
    fn connect<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, protocol: Protocol) {
        loop {
            self.http2_waiting.store(state.http2.waiting.len(), Ordering::Release);
            let queue = state.queue(protocol);
            let Some(target) = queue.unserved(protocol) else { return };
            if let Ok(permit) = target.cluster.try_connection(target.priority) {
                queue.connecting += 1;
                tokio::spawn(connecting::connect(Arc::clone(self), target, protocol, permit));
                continue;
            }
            drop(state);
            if !target.get().give_up_unused_connection(self) {
                return;
            }
            state = self.state.lock();
        }
    }

    /// A connection that was begun is there, or cannot be made.
    pub(super) fn connected(self: &Arc<Self>, protocol: Protocol, outcome: Result<NewConnection, TransportError>) {
        let mut state = self.state.lock();
        state.queue(protocol).connecting -= 1;
        match outcome {
            Ok(NewConnection::Http1(connection)) => {
                drop(state);
                self.offer(connection);
            }
            Ok(NewConnection::Http2(connection)) => {
                state.shared.push(Arc::clone(&connection));
                drop(state);
                self.serve(&connection);
                self.connect_for_waiting();
            }
            Err(error) => {
                let waiting = std::mem::take(&mut state.queue(protocol).waiting);
                self.http2_waiting.store(state.http2.waiting.len(), Ordering::Release);
                drop(state);
                for Waiting { target, reply } in waiting {
                    target.get().stats().upstream_rq_pending_failure_eject.inc();
                    // Nobody is left to tell if this request was given up.
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Hands an unused connection to whoever waits longest, or keeps it.
    pub(super) fn offer(&self, mut connection: Box<Http1Connection>) {
        loop {
            let mut state = self.state.lock();
            let Some(waiting) = state.http1.waiting.pop_front() else {
                connection.unused_since(now());
                state.idle.push(connection);
                return;
            };
            drop(state);
            match waiting.reply.send(Ok(Connection::from(connection))) {
                Err(Ok(back)) => match back.into_http1() {
                    Some(back) => connection = back,
                    None => return,
                },
                Ok(()) | Err(Err(_)) => return,
            }
        }
    }

    /// Gives the free streams of a connection to those who wait longest.
    pub(super) fn serve(&self, connection: &Arc<Http2Connection>) {
        while self.http2_waiting.load(Ordering::Acquire) > 0 {
            let mut state = self.state.lock();
            if state.http2.waiting.is_empty() {
                return;
            }
            let Some(stream) = connection.try_reserve(now()) else { return };
            let waiting = state.http2.waiting.pop_front();
            self.http2_waiting.store(state.http2.waiting.len(), Ordering::Release);
            drop(state);
            if let Some(waiting) = waiting {
                // If the request was given up, dropping the stream serves the next.
                let _ = waiting.reply.send(Ok(Connection::from(stream)));
            }
        }
    }

    /// Begins connections for those who wait, if there is room by now.
    pub(super) fn connect_for_waiting(self: &Arc<Self>) {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut state = self.state.lock();
            let next = state.queue(protocol).unserved(protocol);
            if next.is_some_and(|next| next.cluster.has_room_for_connection(next.priority)) {
                self.connect(state, protocol);
            }
        }
    }

    /// Takes an HTTP/2 connection out that will serve no more requests.
    pub(super) fn retire(&self, connection: &Arc<Http2Connection>) {
        let mut state = self.state.lock();
        let position = state.shared.iter().position(|other| Arc::ptr_eq(other, connection));
        let retired = position.map(|position| state.shared.swap_remove(position));
        drop((state, retired));
    }

    /// Closes one unused connection. False if there is none.
    pub(super) fn give_up_unused_connection(&self) -> bool {
        let mut state = self.state.lock();
        let unused = (!state.idle.is_empty()).then(|| state.idle.remove(0));
        let shared = state.shared.iter().position(|connection| connection.streams() == 0);
        let shared = shared.filter(|_| unused.is_none()).map(|position| state.shared.swap_remove(position));
        drop(state);
        unused.is_some() || shared.is_some()
    }

    /// Closes connections that were unused for too long or that their endpoint has closed, and tries again for those
    /// who wait for a place in the circuit breaker.
    pub(super) fn sweep(self: &Arc<Self>, now: Instant) {
        let mut state = self.state.lock();
        let mut cx = Context::from_waker(Waker::noop());
        let ended: Vec<_> = state.idle.extract_if(.., |connection| !connection.is_usable(now, &mut cx)).collect();
        let shared: Vec<_> = state.shared.extract_if(.., |connection| connection.is_over(now)).collect();
        drop(state);
        drop((ended, shared));
        self.make_room_for_waiting();
        self.connect_for_waiting();
    }

    /// Closes unused connections elsewhere if somebody here waits and `max_connections` is reached.
    fn make_room_for_waiting(self: &Arc<Self>) {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let next = self.state.lock().queue(protocol).unserved(protocol);
            if let Some(next) = next.filter(|next| !next.cluster.has_room_for_connection(next.priority)) {
                next.get().give_up_unused_connection(self);
            }
        }
    }

    /// Takes requests that were given up out of the queue.
    fn forget_given_up(&self, protocol: Protocol) {
        let mut state = self.state.lock();
        state.queue(protocol).waiting.retain(|waiting| !waiting.reply.is_closed());
        self.http2_waiting.store(state.http2.waiting.len(), Ordering::Release);
    }
}

/// What a connection attempt yields.
#[derive(Debug)]
pub(super) enum NewConnection {
    Http1(Box<Http1Connection>),
    Http2(Arc<Http2Connection>),
}

impl State {
    fn queue(&mut self, protocol: Protocol) -> &mut Queue {
        match protocol {
            Protocol::Http1 => &mut self.http1,
            Protocol::Http2 => &mut self.http2,
        }
    }

    fn take_retired(&mut self) -> Vec<Arc<Http2Connection>> {
        self.shared.extract_if(.., |connection| connection.is_closed()).collect()
    }
}

impl Queue {
    /// The target of the first request that no connection is being made for.
    fn unserved(&self, protocol: Protocol) -> Option<OwnedTarget> {
        let first = self.waiting.front()?;
        let capacity = match protocol {
            Protocol::Http1 => 1,
            Protocol::Http2 => first.target.get().max_concurrent_streams(),
        };
        (self.connecting.saturating_mul(capacity) < self.waiting.len()).then(|| first.target.clone())
    }
}

/// A place in the queue.
struct Wait {
    pool: Arc<EndpointPool>,
    protocol: Protocol,
    reply: Option<oneshot::Receiver<Result<Connection, TransportError>>>,
    stats: Arc<ClusterStats>,
    _pending: Permit,
}

impl Future for Wait {
    type Output = Result<Connection, TransportError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(reply) = &mut self.reply else { return Poll::Pending };
        let answer = std::task::ready!(Pin::new(reply).poll(cx));
        self.reply = None;
        Poll::Ready(answer.unwrap_or_else(|_| Err(TransportError::new(ResetReason::ConnectionTermination))))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(mut reply) = self.reply.take() {
            reply.close();
            self.pool.forget_given_up(self.protocol);
            // A connection that came just before finds its way back by being dropped.
            if reply.try_recv().is_err() {
                self.stats.upstream_rq_cancelled.inc();
            }
        }
    }
}

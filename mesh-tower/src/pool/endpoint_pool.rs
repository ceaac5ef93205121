//! The pool of one worker for one endpoint and one kind of connection.
//!
//! ```text
//!              ready connection? ──yes──► used
//!                     │ no
//!     max_pending_requests? ──full──► overflow
//!                     │
//!              FIFO queue ◄─── a connection is established, becomes idle, or has a free stream
//!                     │                              ▲
//!                     └─ too few are being made and max_connections is not reached
//! ```
//!
//! As in Envoy, a request does not own the connection that is made for it. The first connection that is ready serves the
//! request that has waited longest. If a connection cannot be made, all waiting requests fail, so that they can try
//! another endpoint.
//!
//! `max_connections` limits the connections of the cluster: those of all workers to all endpoints. A pool that has no
//! connection makes one even if the limit is reached, because nothing else could serve its requests. So the limit may be
//! exceeded by one connection for each pool, as in Envoy.
//!
//! A connection must not be dropped while the pool's lock is held, because dropping it takes the lock.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use mesh_core::{cluster::ClusterStats, resilience::breaker::Permit};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    Connection, OwnedTarget, ResetReason, Worker,
    connecting::Attempt,
    http1::Http1Connection,
    http2::{Http2Connection, Http2Stream},
};
use crate::{Protocol, Target, TransportError, timer::now};

/// The pool of one worker for one endpoint and one kind of connection.
#[derive(Debug)]
pub(super) struct EndpointPool {
    protocol: Protocol,
    state: Mutex<State>,
    /// The length of [`State::waiting`], so that an HTTP/2 stream can end without taking the lock.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// Idle HTTP/1.1 connections. The last one was used most recently and is used next, so that the others can reach
    /// their idle timeout.
    #[expect(clippy::vec_box, reason = "a connection travels with its response in this very box")]
    idle: Vec<Box<Http1Connection>>,
    /// HTTP/2 connections.
    shared: Vec<Arc<Http2Connection>>,
    /// Connections that are being made or whose byte stream is open.
    connections: usize,
    /// Connections that are being made.
    connecting: usize,
    waiting: VecDeque<Waiting>,
}

/// A request that waits for a connection.
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
    pub(super) fn new(protocol: Protocol) -> Arc<Self> {
        Arc::new(Self { protocol, state: Mutex::default(), waiting: AtomicUsize::new(0) })
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Waits for a connection that can take a request.
    pub(super) async fn connection(
        self: &Arc<Self>,
        worker: &Worker,
        target: &Target<'_>,
    ) -> Result<Connection, TransportError> {
        loop {
            match self.ready_or_wait(worker, target)? {
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

    fn ready_or_wait(self: &Arc<Self>, worker: &Worker, target: &Target<'_>) -> Result<Step, TransportError> {
        let mut state = self.state.lock();
        if let Some(connection) = state.idle.pop() {
            return Ok(Step::Idle(connection));
        }
        if let Some(stream) = state.reserve_stream() {
            return Ok(Step::Ready(Connection::from(stream)));
        }
        let pending = target.cluster.try_pending(target.priority);
        let pending = pending.map_err(|_| TransportError::new(ResetReason::Overflow))?;
        let stats = Arc::clone(target.cluster.stats());
        stats.upstream_rq_pending_total.inc();
        let (sender, reply) = oneshot::channel();
        state.waiting.push_back(Waiting { target: OwnedTarget::new(worker, target), reply: sender });
        self.note_waiting(&state);
        drop(state);
        self.connect();
        let pool = Arc::clone(self);
        Ok(Step::Wait(Wait { pool, reply: Some(reply), stats, _pending: pending }))
    }

    /// Removes the request that has waited longest from the queue.
    fn next_waiting(&self, state: &mut State) -> Option<Waiting> {
        let next = state.waiting.pop_front()?;
        self.note_waiting(state);
        Some(next)
    }

    /// Must be called after every change of the queue's length.
    fn note_waiting(&self, state: &State) {
        self.waiting.store(state.waiting.len(), Ordering::Release);
    }

    /// Starts to make as many connections as the waiting requests need and the circuit breaker allows.
    fn connect(self: &Arc<Self>) {
        while let Some(attempt) = self.begin_connection() {
            attempt.spawn();
        }
    }

    fn begin_connection(self: &Arc<Self>) -> Option<Attempt> {
        let mut state = self.state.lock();
        let target = self.unserved(&state)?;
        let permit = match state.connections {
            0 => target.cluster.first_connection(target.priority),
            _ => target.cluster.try_connection(target.priority).ok()?,
        };
        state.connecting += 1;
        state.connections += 1;
        drop(state);
        Some(Attempt::new(self, target, permit))
    }

    /// The target of the next connection, if the connections that are being made will not serve all waiting requests. It is
    /// the target of the newest request, which has the newest configuration.
    fn unserved(&self, state: &State) -> Option<OwnedTarget> {
        let latest = state.waiting.back()?;
        let capacity = match self.protocol {
            Protocol::Http1 | Protocol::Tcp => 1,
            Protocol::Http2 => latest.target.max_concurrent_streams(),
        };
        (state.connecting.saturating_mul(capacity) < state.waiting.len()).then(|| latest.target.clone())
    }

    /// Handles the outcome of an attempt to make a connection.
    pub(super) fn connected(self: &Arc<Self>, outcome: Result<NewConnection, TransportError>) {
        let mut state = self.state.lock();
        state.connecting -= 1;
        match outcome {
            Ok(NewConnection::Http1(connection)) => {
                drop(state);
                self.offer(connection);
            }
            Ok(NewConnection::Http2(connection)) => {
                state.shared.push(Arc::clone(&connection));
                drop(state);
                self.serve(&connection);
                self.connect();
            }
            Err(error) => {
                let waiting = std::mem::take(&mut state.waiting);
                self.note_waiting(&state);
                drop(state);
                for Waiting { target, reply } in waiting {
                    target.stats().upstream_rq_pending_failure_eject.inc();
                    // An error means that the request was cancelled.
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Gives an idle HTTP/1.1 connection to the request that has waited longest, or keeps it.
    pub(super) fn offer(&self, mut connection: Box<Http1Connection>) {
        loop {
            let mut state = self.state.lock();
            let Some(waiting) = self.next_waiting(&mut state) else {
                connection.unused_since(now());
                state.idle.push(connection);
                return;
            };
            drop(state);
            match waiting.take(connection.into()).err().and_then(Connection::into_http1) {
                Some(back) => connection = back,
                None => return,
            }
        }
    }

    /// Gives the free streams of a connection to the requests that have waited longest.
    pub(super) fn serve(&self, connection: &Arc<Http2Connection>) {
        while self.waiting.load(Ordering::Acquire) > 0 {
            let state = self.state.lock();
            let Some(stream) = connection.try_reserve(now()) else { return };
            drop(state);
            self.give(stream.into());
        }
    }

    /// Gives `connection` to the request that has waited longest; drops it if none is waiting.
    fn give(&self, mut connection: Connection) {
        loop {
            let mut state = self.state.lock();
            let next = self.next_waiting(&mut state);
            drop(state);
            let Some(waiting) = next else { return };
            match waiting.take(connection) {
                Ok(()) => return,
                Err(back) => connection = back,
            }
        }
    }

    /// Handles that a byte stream was closed or could not be made.
    pub(super) fn closed(self: &Arc<Self>) {
        self.state.lock().connections -= 1;
        self.connect();
    }

    /// Removes an HTTP/2 connection that takes no more requests.
    pub(super) fn retire(&self, connection: &Arc<Http2Connection>) {
        let mut state = self.state.lock();
        let position = state.shared.iter().position(|other| Arc::ptr_eq(other, connection));
        let retired = position.map(|position| state.shared.swap_remove(position));
        drop((state, retired));
    }

    /// Closes connections that have reached a time limit or that the endpoint has closed.
    pub(super) fn sweep(&self, now: Instant) {
        let mut state = self.state.lock();
        let mut cx = Context::from_waker(Waker::noop());
        let ended: Vec<_> = state.idle.extract_if(.., |connection| !connection.is_usable(now, &mut cx)).collect();
        let expired: Vec<_> = state.shared.extract_if(.., |connection| connection.is_expired(now)).collect();
        drop(state);
        drop((ended, expired));
    }

    /// Removes cancelled requests from the queue.
    fn remove_cancelled(&self) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| !waiting.reply.is_closed());
        self.note_waiting(&state);
    }
}

impl Waiting {
    /// Returns `connection` if the request was cancelled.
    fn take(self, connection: Connection) -> Result<(), Connection> {
        match self.reply.send(Ok(connection)) {
            Err(Ok(connection)) => Err(connection),
            Ok(()) | Err(Err(_)) => Ok(()),
        }
    }
}

/// A connection that was made.
#[derive(Debug)]
pub(super) enum NewConnection {
    Http1(Box<Http1Connection>),
    Http2(Arc<Http2Connection>),
}

impl State {
    fn reserve_stream(&self) -> Option<Http2Stream> {
        let now = now();
        self.shared.iter().find_map(|connection| connection.try_reserve(now))
    }
}

/// A place in the queue.
struct Wait {
    pool: Arc<EndpointPool>,
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
            self.pool.remove_cancelled();
            // A connection that was sent just before returns to the pool when it is dropped here.
            if reply.try_recv().is_err() {
                self.stats.upstream_rq_cancelled.inc();
            }
        }
    }
}

//! The connections of one worker to one endpoint, of one protocol.
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
//! As in Envoy, a request does not own the connection that is made for it: the first connection that is ready serves the
//! request that has waited longest, and a connection that cannot be made fails all requests that wait, so that they can try
//! another endpoint.
//!
//! `max_connections` limits the connections of a cluster, to all endpoints and of all workers. A pool that has no connection
//! makes one even at the limit, since nothing else could serve its requests: Envoy's rule. So there may be one connection
//! more than the limit for each pool.
//!
//! No connection is dropped under the lock: dropping one takes it.

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

/// The connections of one worker to one endpoint, of one protocol.
#[derive(Debug)]
pub(super) struct EndpointPool {
    protocol: Protocol,
    state: Mutex<State>,
    /// Requests that wait: lets HTTP/2 streams end without taking the lock.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// Unused HTTP/1 connections, the latest used last: it is used first, so that the others can grow old.
    #[expect(clippy::vec_box, reason = "a connection travels with its response in this very box")]
    idle: Vec<Box<Http1Connection>>,
    /// HTTP/2 connections.
    shared: Vec<Arc<Http2Connection>>,
    /// Connections that are being made, or whose byte stream is not closed yet.
    connections: usize,
    /// Those that are being made.
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

    /// A connection that can take a request at once; waits for one if need be.
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

    /// Takes the request that waits longest out of the queue.
    fn next_waiting(&self, state: &mut State) -> Option<Waiting> {
        let next = state.waiting.pop_front()?;
        self.note_waiting(state);
        Some(next)
    }

    /// To be called whenever the number of waiting requests has changed.
    fn note_waiting(&self, state: &State) {
        self.waiting.store(state.waiting.len(), Ordering::Release);
    }

    /// Begins to make as many connections as the waiting requests need and the circuit breaker allows.
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

    /// The target of the next connection to make, if more requests wait than the connections being made will serve: that of
    /// the latest request, which has the newest configuration.
    fn unserved(&self, state: &State) -> Option<OwnedTarget> {
        let latest = state.waiting.back()?;
        let capacity = match self.protocol {
            Protocol::Http1 => 1,
            Protocol::Http2 => latest.target.max_concurrent_streams(),
        };
        (state.connecting.saturating_mul(capacity) < state.waiting.len()).then(|| latest.target.clone())
    }

    /// Takes a connection that was made, or the reason why it could not be made.
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
                    // Fails if the request was given up.
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Hands an unused HTTP/1 connection to the request that has waited longest, or keeps it.
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
            self.hand(stream.into());
        }
    }

    /// Hands a connection with room to the request that has waited longest; drops it if none waits.
    fn hand(&self, mut connection: Connection) {
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

    /// The byte stream of a connection is closed, or could not be made.
    pub(super) fn closed(self: &Arc<Self>) {
        self.state.lock().connections -= 1;
        self.connect();
    }

    /// Takes an HTTP/2 connection out that will serve no more requests.
    pub(super) fn retire(&self, connection: &Arc<Http2Connection>) {
        let mut state = self.state.lock();
        let position = state.shared.iter().position(|other| Arc::ptr_eq(other, connection));
        let retired = position.map(|position| state.shared.swap_remove(position));
        drop((state, retired));
    }

    /// Closes connections that were unused for too long or that their endpoint has closed.
    pub(super) fn sweep(&self, now: Instant) {
        let mut state = self.state.lock();
        let mut cx = Context::from_waker(Waker::noop());
        let ended: Vec<_> = state.idle.extract_if(.., |connection| !connection.is_usable(now, &mut cx)).collect();
        let over: Vec<_> = state.shared.extract_if(.., |connection| connection.is_over(now)).collect();
        drop(state);
        drop((ended, over));
    }

    /// Takes requests that were given up out of the queue.
    fn forget_given_up(&self) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| !waiting.reply.is_closed());
        self.note_waiting(&state);
    }
}

impl Waiting {
    /// Gives `connection` back if the request was given up.
    fn take(self, connection: Connection) -> Result<(), Connection> {
        match self.reply.send(Ok(connection)) {
            Err(Ok(connection)) => Err(connection),
            Ok(()) | Err(Err(_)) => Ok(()),
        }
    }
}

/// What a connection attempt yields.
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
            self.pool.forget_given_up();
            // A connection that came just before finds its way back by being dropped.
            if reply.try_recv().is_err() {
                self.stats.upstream_rq_cancelled.inc();
            }
        }
    }
}

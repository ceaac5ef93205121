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
//! As in Envoy a request does not own the connection that is made for it: whichever is ready first serves whoever waits
//! longest, and one that cannot be made fails everybody who waits, so that they can try another endpoint.
//!
//! Unlike Envoy's, `max_connections` is never exceeded. At the limit a request uses the connection of another worker to
//! its endpoint, if that has room; else its pool joins the cluster's line for connections
//! ([`mesh_core::resilience::connection_line`]). For a pool that has no connection, or whose connections come free for
//! nobody, one is urgent: any that is or becomes unused is closed for it, wherever it leads and whose it is, and those in
//! use stop taking requests after a while ([`Lifetime::is_turn_over`]). For others one is closed that was unused for a
//! while.
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
    time::{Duration, Instant},
};

use mesh_core::{
    cluster::ClusterStats,
    resilience::{
        breaker::Permit,
        connection_line::{AwaitConnection, PlaceInLine},
    },
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    Connection, OwnedTarget, Protocol, ResetReason, Target, TransportError, connecting,
    http1::Http1Connection,
    http2::{Http2Connection, Http2Stream},
    lifetime::Lifetime,
};
use crate::timer::now;

/// The connections of one worker to one endpoint, of one protocol.
#[derive(Debug)]
pub(super) struct EndpointPool {
    protocol: Protocol,
    state: Mutex<State>,
    /// Requests that wait: lets HTTP/2 streams end without taking the lock.
    waiting: AtomicUsize,
    /// The last attempt to connect has failed.
    is_unreachable: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Unused HTTP/1 connections, the latest used last: it is used first, so that the others can grow old.
    #[expect(clippy::vec_box, reason = "a connection travels with its response in this very box")]
    idle: Vec<Box<Http1Connection>>,
    /// HTTP/2 connections.
    shared: Vec<Arc<Http2Connection>>,
    /// Connections that are there or are being made.
    connections: usize,
    connecting: usize,
    waiting: VecDeque<Waiting>,
    /// While more connections are needed than `max_connections` allow.
    place_in_line: Option<PlaceInLine>,
    /// Sweeps that found somebody waiting, since somebody was served.
    sweeps_unserved: u32,
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
        Arc::new(Self {
            protocol,
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
            is_unreachable: AtomicBool::new(false),
        })
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Notes whether a connection could be made; returns whether that is news. An endpoint is taken to be reachable.
    pub(super) fn note_reachable(&self, is_reachable: bool) -> bool {
        self.is_unreachable.swap(!is_reachable, Ordering::Relaxed) == is_reachable
    }

    /// A connection that can take a request at once; waits for one if need be.
    pub(super) async fn connection(self: &Arc<Self>, target: &Target<'_>) -> Result<Connection, TransportError> {
        loop {
            match self.ready_or_wait(target)? {
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

    fn ready_or_wait(self: &Arc<Self>, target: &Target<'_>) -> Result<Step, TransportError> {
        let mut state = self.state.lock();
        if let Some(connection) = state.idle.pop() {
            return Ok(Step::Idle(connection));
        }
        if let Some(stream) = state.reserve_stream() {
            let retired = state.take_retired();
            drop((state, retired));
            return Ok(Step::Ready(Connection::from(stream)));
        }
        let pending = target.try_pending()?;
        let (sender, reply) = oneshot::channel();
        state.waiting.push_back(Waiting { target: target.owned(), reply: sender });
        self.note_waiting(&mut state);
        drop(state);
        self.connect();
        let (pool, stats) = (Arc::clone(self), Arc::clone(target.stats()));
        Ok(Step::Wait(Wait { pool, reply: Some(reply), stats, _pending: pending }))
    }

    /// Takes the request that waits longest out of the queue.
    fn next_waiting(&self, state: &mut State) -> Option<Waiting> {
        let next = state.waiting.pop_front()?;
        state.sweeps_unserved = 0;
        self.note_waiting(state);
        Some(next)
    }

    /// To be called whenever the number of those who wait has changed.
    fn note_waiting(&self, state: &mut State) {
        self.waiting.store(state.waiting.len(), Ordering::Release);
        if state.waiting.is_empty() {
            state.place_in_line = None;
        }
    }

    /// Gets connections for those who wait: new ones, another worker's, or the place of one elsewhere.
    fn connect(self: &Arc<Self>) {
        while let Some(target) = self.begin_connections() {
            if let Some(connection) = target.get().borrow_connection(self) {
                self.hand(connection);
                continue;
            }
            target.get().stats().upstream_cx_overflow.inc();
            // Who stands in the line already has looked for what is unused, and is offered what becomes free.
            if !self.join_line() || !self.make_room(&target) {
                return;
            }
        }
    }

    /// Closes a connection that is unused elsewhere. False if there is none, and no room.
    fn make_room(&self, target: &OwnedTarget) -> bool {
        let unused = if self.state.lock().is_urgent() { Duration::ZERO } else { Lifetime::TURN };
        target.cluster.has_room_for_connection(target.priority) || target.get().give_up_unused_connection(unused)
    }

    /// Begins as many connections as the waiting requests need and the circuit breaker allows; returns the target of one
    /// that it does not allow.
    fn begin_connections(self: &Arc<Self>) -> Option<OwnedTarget> {
        loop {
            let mut state = self.state.lock();
            let target = self.unserved(&state)?;
            let Ok(permit) = target.cluster.try_connection(target.priority) else { return Some(target) };
            state.connecting += 1;
            state.connections += 1;
            drop(state);
            let lifetime = Lifetime::new(self, &target.get(), permit);
            let runtime = target.runtime.clone();
            runtime.spawn(connecting::connect(Arc::clone(self), target, lifetime));
        }
    }

    /// Whom a connection is to be made for, if there are more who wait than connections being made. The latest to come,
    /// since it has the newest configuration.
    fn unserved(&self, state: &State) -> Option<OwnedTarget> {
        let latest = state.waiting.back()?;
        let capacity = match self.protocol {
            Protocol::Http1 => 1,
            Protocol::Http2 => latest.target.get().max_concurrent_streams(),
        };
        (state.connecting.saturating_mul(capacity) < state.waiting.len()).then(|| latest.target.clone())
    }

    /// Joins the cluster's line for connections, if more are needed. False if it stands there, or need not.
    fn join_line(self: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        let Some(target) = self.unserved(&state).filter(|_| state.place_in_line.is_none()) else { return false };
        let me: Arc<dyn AwaitConnection> = Arc::<Self>::clone(self);
        let place = target.cluster.await_connection(target.priority, Arc::downgrade(&me), state.is_urgent());
        state.place_in_line = Some(place);
        true
    }

    /// A connection that was begun is there, or cannot be made.
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
                self.note_waiting(&mut state);
                drop(state);
                for Waiting { target, reply } in waiting {
                    target.get().stats().upstream_rq_pending_failure_eject.inc();
                    // Nobody is left to tell if this request was given up.
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Hands an unused HTTP/1 connection to whoever waits longest, or keeps it. Closes it if others need its place more.
    pub(super) fn offer(&self, mut connection: Box<Http1Connection>) {
        while !connection.lifetime().is_turn_over() {
            let mut state = self.state.lock();
            let Some(waiting) = self.next_waiting(&mut state) else {
                if !connection.lifetime().is_needed() {
                    connection.unused_since(now());
                    state.idle.push(connection);
                    return;
                }
                break;
            };
            drop(state);
            match waiting.take(connection.into()).err().and_then(Connection::into_http1) {
                Some(back) => connection = back,
                None => return,
            }
        }
    }

    /// Gives the free streams of a connection to those who wait longest. Closes it if it is unused and others need its
    /// place more.
    pub(super) fn serve(&self, connection: &Arc<Http2Connection>) {
        while self.waiting.load(Ordering::Acquire) > 0 {
            let state = self.state.lock();
            let Some(stream) = connection.try_reserve(now()) else { break };
            drop(state);
            self.hand(stream.into());
        }
        if connection.streams() == 0 && connection.lifetime().is_needed() {
            self.retire(connection);
        }
    }

    /// Hands a connection with room to whoever waits longest. If nobody does, it goes back where it came from.
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

    /// A connection with room for a request of another worker.
    pub(super) fn lend(&self) -> Option<Connection> {
        loop {
            let mut state = self.state.lock();
            let Some(mut connection) = state.idle.pop() else { return state.reserve_stream().map(Connection::from) };
            drop(state);
            if connection.is_usable(now(), &mut Context::from_waker(Waker::noop())) {
                return Some(connection.into());
            }
        }
    }

    /// A connection has ended, or could not be made.
    pub(super) fn ended(&self) {
        let mut state = self.state.lock();
        state.connections -= 1;
        state.note_urgency();
    }

    /// Takes an HTTP/2 connection out that will serve no more requests.
    pub(super) fn retire(&self, connection: &Arc<Http2Connection>) {
        let mut state = self.state.lock();
        let position = state.shared.iter().position(|other| Arc::ptr_eq(other, connection));
        let retired = position.map(|position| state.shared.swap_remove(position));
        drop((state, retired));
    }

    /// Closes one connection that has been unused for `unused` or longer. False if there is none.
    pub(super) fn give_up_unused_connection(&self, unused: Duration) -> bool {
        let now = now();
        let mut state = self.state.lock();
        let has_idle = state.idle.first().is_some_and(|longest_unused| longest_unused.unused(now) >= unused);
        let idle = has_idle.then(|| state.idle.remove(0));
        let is_unused = |connection: &Arc<Http2Connection>| connection.unused(now).is_some_and(|time| time >= unused);
        let shared = state.shared.iter().position(is_unused).filter(|_| idle.is_none());
        let shared = shared.map(|position| state.shared.swap_remove(position));
        drop(state);
        idle.is_some() || shared.is_some()
    }

    /// Closes connections that were unused for too long or that their endpoint has closed, and tries again for those
    /// who wait: limits may have changed, and a connection whose turn was over may take requests again.
    pub(super) fn sweep(self: &Arc<Self>, now: Instant) {
        let mut state = self.state.lock();
        let mut cx = Context::from_waker(Waker::noop());
        let ended: Vec<_> = state.idle.extract_if(.., |connection| !connection.is_usable(now, &mut cx)).collect();
        let over: Vec<_> = state.shared.extract_if(.., |connection| connection.is_over(now)).collect();
        let shared = if state.waiting.is_empty() { Vec::new() } else { state.shared.clone() };
        state.sweeps_unserved = if state.waiting.is_empty() { 0 } else { state.sweeps_unserved.saturating_add(1) };
        state.note_urgency();
        drop(state);
        drop((ended, over));
        shared.iter().for_each(|connection| self.serve(connection));
        self.connect();
        let unserved = self.unserved(&self.state.lock());
        if let Some(target) = unserved {
            self.make_room(&target);
        }
    }

    /// Takes requests that were given up out of the queue.
    fn forget_given_up(&self) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| !waiting.reply.is_closed());
        self.note_waiting(&mut state);
    }
}

impl AwaitConnection for EndpointPool {
    fn offer_place(self: Arc<Self>) -> bool {
        let mut state = self.state.lock();
        state.place_in_line = None;
        let next = self.unserved(&state);
        drop(state);
        let has_room = next.is_some_and(|next| next.cluster.has_room_for_connection(next.priority));
        if has_room {
            self.begin_connections();
        }
        self.join_line();
        has_room
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
    /// Whether requests wait that no connection comes free for.
    fn is_urgent(&self) -> bool {
        !self.waiting.is_empty() && (self.connections == 0 || self.sweeps_unserved > 1)
    }

    /// To be called whenever it may have become urgent.
    fn note_urgency(&self) {
        if self.is_urgent()
            && let Some(place) = &self.place_in_line
        {
            place.set_urgent();
        }
    }

    fn reserve_stream(&self) -> Option<Http2Stream> {
        let now = now();
        self.shared.iter().find_map(|connection| connection.try_reserve(now))
    }

    fn take_retired(&mut self) -> Vec<Arc<Http2Connection>> {
        self.shared.extract_if(.., |connection| connection.is_closed()).collect()
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

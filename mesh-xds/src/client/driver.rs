//! Moves messages and time between an [`Machine`], a [`Transport`] and a [`Sink`].

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time;

use super::applier::{Applier, ApplyReport, Change};
use super::{Disconnected, Event, Interest, Machine, Request, Stream, Transport};
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use crate::resource::{ResourceError, ResourceType};

/// How long opening a stream may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests that may wait for a control plane that does not read; then its responses wait, too.
const MAX_UNSENT: usize = 64;

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who asks.
    pub node: Node,
    /// The listeners wanted.
    pub listeners: Interest,
    /// The clusters wanted.
    pub clusters: ClusterInterest,
}

/// How a client comes to its clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterInterest {
    /// All that the control plane has for the node, as proxies ask.
    Everything,
    /// Those that its routes name, as proxyless clients ask.
    ByName,
}

/// Takes what the client finds out.
pub trait Sink: Send {
    /// Makes a change, at once.
    fn apply(&mut self, change: Change, now: Instant);

    /// Tells about progress and trouble.
    fn notice(&mut self, notice: Notice);
}

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A stream to the control plane is open.
    Connected,
    /// The stream ended or could not be opened. What is in force stays.
    Disconnected(Disconnected),
    /// A response was taken, at least in part.
    Applied(ApplyReport),
    /// An accepted resource could not be put into force; its predecessor stays.
    NotApplied(ResourceError),
    /// A resource that was asked for does not exist, or not yet.
    Missing {
        /// The kind of resource.
        resource_type: ResourceType,
        /// Its name.
        name: Arc<str>,
    },
    /// Everything that the control plane has said is in force. Comes after the first complete configuration and after
    /// every change of it.
    Settled,
}

/// Follows a control plane for as long as the future is polled.
pub async fn run<T: Transport, S: Sink>(transport: T, options: Options, sink: S) {
    let now = time::Instant::now().into_std();
    let mut state = Machine::new(options.node, now);
    state.subscribe(ResourceType::Listener, options.listeners, now);
    let applier = match options.clusters {
        ClusterInterest::Everything => {
            state.subscribe(ResourceType::Cluster, Interest::Everything, now);
            Applier::with_all_clusters()
        }
        ClusterInterest::ByName => Applier::with_clusters_by_name(),
    };
    Driver { state, applier, transport, sink, stream: None, unsent: VecDeque::new(), is_settled: true }.run().await;
}

struct Driver<T, S> {
    state: Machine,
    applier: Applier,
    transport: T,
    sink: S,
    stream: Option<Stream>,
    unsent: VecDeque<Request>,
    is_settled: bool,
}

enum Input {
    Response(DiscoveryResponse),
    Disconnected(Disconnected),
    Sent,
    Timeout,
}

impl<T: Transport, S: Sink> Driver<T, S> {
    async fn run(mut self) {
        loop {
            let now = time::Instant::now().into_std();
            self.state.handle_timeout(now);
            self.applier.handle_timeout(now);
            self.drain(now).await;
            match self.input().await {
                Input::Response(response) => {
                    self.is_settled = false;
                    self.state.handle_response(response);
                }
                Input::Disconnected(reason) => self.disconnect(reason),
                Input::Sent | Input::Timeout => {}
            }
        }
    }

    /// Acts on every output of the two state machines.
    async fn drain(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.state.poll_event() {
                self.act(event, now).await;
            } else if let Some(change) = self.applier.poll_change() {
                self.sink.apply(change, now);
            } else if let Some((kind, interest)) = self.applier.poll_interest() {
                self.state.subscribe(kind, interest, now);
            } else {
                break;
            }
        }
        if !self.is_settled && self.applier.is_settled() && self.state.is_answered() {
            self.is_settled = true;
            self.sink.notice(Notice::Settled);
        }
    }

    async fn act(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connect => self.connect().await,
            Event::Send(request) => self.unsent.push_back(request),
            Event::Update(update) => {
                let report = self.applier.handle_update(update, now);
                self.sink.notice(Notice::Applied(report));
            }
            Event::Missing { resource_type, name } => {
                self.is_settled = false;
                self.applier.handle_missing(resource_type, Arc::clone(&name), now);
                self.sink.notice(Notice::Missing { resource_type, name });
            }
        }
    }

    async fn connect(&mut self) {
        let too_slow = |_| Err(Disconnected { reason: format!("no connection within {CONNECT_TIMEOUT:?}") });
        let connected = time::timeout(CONNECT_TIMEOUT, self.transport.connect()).await;
        match connected.unwrap_or_else(too_slow) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.state.handle_stream_up(time::Instant::now().into_std());
                self.sink.notice(Notice::Connected);
            }
            Err(reason) => self.disconnect(reason),
        }
    }

    fn disconnect(&mut self, reason: Disconnected) {
        self.stream = None;
        self.unsent.clear();
        let random = RandomState::new().hash_one(());
        self.state.handle_stream_down(time::Instant::now().into_std(), random);
        self.sink.notice(Notice::Disconnected(reason));
    }

    async fn input(&mut self) -> Input {
        let timeouts = [self.state.poll_timeout(), self.applier.poll_timeout()];
        let deadline = timeouts.into_iter().flatten().min().map(time::Instant::from_std);
        let timeout = async {
            match deadline {
                Some(deadline) => time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let Some(Stream { requests, responses }) = &mut self.stream else {
            timeout.await;
            return Input::Timeout;
        };
        tokio::select! {
            input = send(requests, &mut self.unsent), if !self.unsent.is_empty() => input,
            response = responses.recv(), if self.unsent.len() < MAX_UNSENT => match response {
                Some(Ok(response)) => Input::Response(response),
                Some(Err(reason)) => Input::Disconnected(reason),
                None => Input::Disconnected(closed()),
            },
            () = timeout => Input::Timeout,
        }
    }
}

/// Sends the first of the waiting requests; nothing is lost if the future is dropped before that.
async fn send(requests: &mpsc::Sender<Request>, unsent: &mut VecDeque<Request>) -> Input {
    match requests.reserve().await {
        Ok(permit) => {
            if let Some(request) = unsent.pop_front() {
                permit.send(request);
            }
            Input::Sent
        }
        Err(_) => Input::Disconnected(closed()),
    }
}

fn closed() -> Disconnected {
    Disconnected { reason: "it closed the stream".to_owned() }
}

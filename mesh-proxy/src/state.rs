//! The state that the parts of the process share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_admin::{ConfigDump, Phase};
use mesh_core::store::Store;
use mesh_tower::{server::ListenerStatus, telemetry::Telemetry};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{args::Args, logging::LogLevelHandle};

/// Shared by the admin endpoint and the main loop.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) args: Args,
    pub(crate) node: Node,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) log_level: LogLevelHandle,
    pub(crate) store: Arc<Store>,
    pub(crate) telemetry: Telemetry,
    pub(crate) config_dump: Mutex<ConfigDump>,
    listeners: Mutex<Vec<ListenerStatus>>,
    requests: mpsc::UnboundedSender<Request>,
}

/// The identity of this proxy towards a control plane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) cluster: String,
}

/// A request of the admin endpoint to the main loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Drain, then exit.
    Quit,
    /// Stop accepting connections on all listeners.
    DrainListeners,
    /// Stop accepting connections on inbound listeners.
    DrainInboundListeners,
}

impl State {
    /// Creates the state of a process, and the receiver of the requests to its main loop.
    pub(crate) fn new(
        args: Args,
        node: Node,
        log_level: LogLevelHandle,
        telemetry: Telemetry,
    ) -> (Self, mpsc::UnboundedReceiver<Request>) {
        let (requests, received) = mpsc::unbounded_channel();
        let state = Self {
            args,
            node,
            lifecycle: Lifecycle::new(),
            log_level,
            store: Arc::default(),
            telemetry,
            config_dump: Mutex::default(),
            listeners: Mutex::default(),
            requests,
        };
        (state, received)
    }

    /// Sends a request to the main loop.
    pub(crate) fn request(&self, request: Request) {
        // Fails only if the main loop, and with it the process, has ended.
        let _ = self.requests.send(request);
    }

    /// Whether the process ends if a listener cannot be started with it. Those of a control plane are retried.
    pub(crate) fn must_start(&self, listener: &str) -> bool {
        self.config_dump.lock().must_start(listener)
    }

    /// The listeners that are up.
    pub(crate) fn up_listeners(&self) -> Vec<ListenerStatus> {
        self.listeners.lock().clone()
    }

    /// Sets the listeners that are up.
    pub(crate) fn set_listeners(&self, listeners: Vec<ListenerStatus>) {
        *self.listeners.lock() = listeners;
    }
}

/// The phase and the uptime of the process.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    start: Instant,
    phase: AtomicU8,
    health_check_failed: AtomicBool,
}

impl Lifecycle {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            phase: AtomicU8::new(Phase::PreInitializing as u8),
            health_check_failed: AtomicBool::new(false),
        }
    }

    /// The phase, which is [`Phase::Draining`] while health checks are failed on request.
    pub(crate) fn phase(&self) -> Phase {
        match Phase::ALL[usize::from(self.phase.load(Ordering::Acquire))] {
            Phase::Live if self.health_check_failed.load(Ordering::Acquire) => Phase::Draining,
            phase => phase,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn fail_health_check(&self, failed: bool) {
        self.health_check_failed.store(failed, Ordering::Release);
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}

//! What the parts of the running process share: its phase, its node identity, what it serves, and the way to ask for
//! its end.

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

/// Who this proxy is towards a control plane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) cluster: String,
}

/// What the admin endpoint asks of the main loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Drain, then exit.
    Quit,
    /// Stop accepting on every listener.
    DrainListeners,
    /// Stop accepting on listeners towards the workload.
    DrainInboundListeners,
}

impl State {
    /// The state of a process that begins, and what is asked of its main loop.
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

    /// Asks something of the main loop.
    pub(crate) fn request(&self, request: Request) {
        // The main loop that receives it ends with the process.
        let _ = self.requests.send(request);
    }

    /// The listeners that are up.
    pub(crate) fn up_listeners(&self) -> Vec<ListenerStatus> {
        self.listeners.lock().clone()
    }

    /// Tells which listeners are up.
    pub(crate) fn set_listeners(&self, listeners: Vec<ListenerStatus>) {
        *self.listeners.lock() = listeners;
    }
}

/// The process's phase.
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

    /// The phase as it is told to the outside.
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

//! What an admin endpoint tells of.

use std::{sync::Arc, time::Duration};

use mesh_core::store::Store;
use mesh_tower::{server::ListenerStatus, telemetry::Telemetry};
use serde_json::Value;

use crate::ConfigDump;

/// A process that runs the mesh's layers.
pub trait Process: Send + Sync + 'static {
    /// Its clusters, routes and listeners.
    fn store(&self) -> &Arc<Store>;

    /// Its metrics.
    fn telemetry(&self) -> &Telemetry;

    /// How far it is.
    fn phase(&self) -> Phase;

    /// Time since it began.
    fn uptime(&self) -> Duration;

    /// Threads that serve requests.
    fn concurrency(&self) -> usize;

    /// The listeners that are up, as far as it is the process that opened them.
    fn listeners(&self) -> Vec<ListenerStatus>;

    /// Where its configuration comes from.
    fn config_dump(&self) -> ConfigDump;

    /// What `/server_info` says under `command_line_options`. Envoy `admin.v3.CommandLineOptions`.
    fn command_line_options(&self) -> Value;

    /// What `/server_info` says under `node`. Envoy `core.v3.Node`.
    fn node(&self) -> Value;
}

/// How far a process is. Envoy `admin.v3.ServerInfo.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Serving.
    Live,
    /// Ending, or told to fail health checks.
    Draining,
    /// Before the configuration is known.
    PreInitializing,
    /// Waiting for the first complete configuration.
    Initializing,
}

impl Phase {
    /// All phases, each at the place of its number.
    pub const ALL: [Self; 4] = [Self::Live, Self::Draining, Self::PreInitializing, Self::Initializing];

    /// Envoy's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }

    /// Envoy's number, the gauge `server.state`.
    #[must_use]
    pub fn number(self) -> u64 {
        self as u64
    }
}

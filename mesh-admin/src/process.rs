//! The process that an admin endpoint describes.

use std::{sync::Arc, time::Duration};

use mesh_core::store::Store;
use mesh_tower::{server::ListenerStatus, telemetry::Telemetry};
use serde_json::Value;

use crate::ConfigDump;

/// A process with an admin endpoint.
pub trait Process: Send + Sync + 'static {
    /// Its clusters, routes and listeners.
    fn store(&self) -> &Arc<Store>;

    /// Its metrics.
    fn telemetry(&self) -> &Telemetry;

    /// Its phase.
    fn phase(&self) -> Phase;

    /// Time since it was started.
    fn uptime(&self) -> Duration;

    /// Number of threads that serve requests.
    fn concurrency(&self) -> usize;

    /// The listeners that it has opened and that are up.
    fn listeners(&self) -> Vec<ListenerStatus>;

    /// Its configuration.
    fn config_dump(&self) -> ConfigDump;

    /// The value of `command_line_options` in `/server_info`. Envoy `admin.v3.CommandLineOptions`.
    fn command_line_options(&self) -> Value;

    /// The value of `node` in `/server_info`. Envoy `core.v3.Node`.
    fn node(&self) -> Value;
}

/// The phase of a process. Envoy `admin.v3.ServerInfo.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It serves requests.
    Live,
    /// It is shutting down, or fails health checks on request.
    Draining,
    /// It has no configuration yet.
    PreInitializing,
    /// It waits for its first complete configuration.
    Initializing,
}

impl Phase {
    /// All phases in the order of their numbers.
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

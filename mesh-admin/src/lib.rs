//! The admin endpoint, with the paths and responses of Envoy's, so that tools for Envoy work.
//!
//! [`Admin`] is a tower service, which the program serves where it likes. It has no authentication, as in Envoy: bind it
//! to loopback. Responses are made from the current state of a [`Process`]; nothing is cached. A program can add commands
//! of its own.

mod admin;
mod answer;
mod clusters;
mod command;
mod config_dump;
mod config_stats;
mod listeners;
mod process;
mod redact;
mod server_info;
mod stats;

pub use admin::Admin;
pub use answer::{Answer, Query};
pub use command::Command;
pub use config_dump::ConfigDump;
pub use process::{Phase, Process};
pub use server_info::version;

//! The admin endpoint: Envoy's paths with Envoy's answers, so that its users and tools find their way.
//!
//! Answers are made from what is live at the moment of the request; nothing is prepared or cached. [`Admin`] is a tower
//! service; where it is served is for the program to say. It has no authentication, as in Envoy: bind it to loopback.
//! What a process has to tell it says through [`Process`]; what it lets others do to it, it adds as commands of its own.

mod admin;
mod answer;
mod clusters;
mod command;
mod config_dump;
mod listeners;
mod process;
mod server_info;
mod stats;

pub use admin::Admin;
pub use answer::{Answer, Query};
pub use command::Command;
pub use config_dump::{ConfigDump, Translation};
pub use process::{Phase, Process};
pub use server_info::version;

//! The control plane of a mesh: what Pilot and Galley did.
//!
//! [`config`] reads a directory of Istio resources and says what is wrong with it, [`registry`] makes services of them,
//! [`translate`] turns services and rules into the xDS resources of a node. These are pure functions; [`source`] follows a
//! directory as it changes, and [`server`] brings each change to the clients.

pub mod config;
pub mod diagnostic;
pub mod host;
pub mod registry;
pub mod rules;
pub mod server;
pub mod source;
pub mod translate;

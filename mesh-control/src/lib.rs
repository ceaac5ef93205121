//! The control plane of a mesh: what Pilot and Galley did.
//!
//! [`config`] reads a directory of Istio resources and says what is wrong with it, [`registry`] makes services of them,
//! [`translate`] turns services and rules into the xDS resources of a node.
//! Everything here is a pure function of the configuration; only the directory watch touches files and time.

pub mod config;
pub mod diagnostic;
pub mod host;
pub mod registry;
pub mod rules;
pub mod translate;

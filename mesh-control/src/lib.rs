//! The control plane of a mesh: what Pilot and Galley did.
//!
//! [`config`] reads Istio resources, [`registry`] makes services of them, [`rules`] finds the policy of each, and [`load`]
//! takes a directory through all three and says what is wrong with it. [`translate`] turns services and rules into the
//! xDS resources of a node. These are pure functions; [`source`] follows a directory as it changes, and [`server`] brings
//! each change to the clients.

pub mod config;
pub mod diagnostic;
pub mod host;
pub mod load;
pub mod name;
pub mod registry;
pub mod rules;
pub mod server;
pub mod source;
pub mod translate;
mod validate;

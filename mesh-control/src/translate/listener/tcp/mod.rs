//! Connections that are passed on as bytes: what is TCP to the mesh, and TLS that it does not end.
//!
//! For requests a listener names routes, which are another resource. For connections the routing is in the listener: each
//! rule of a VirtualService is a filter chain that ends in a TCP proxy, and what the rule matches is what the chain
//! matches.

mod chains;
mod gateway;
mod proxy;
mod service;

pub(super) use chains::{Chain, Chains};
pub(super) use gateway::{passthrough_chains, tcp_chains};
pub(super) use proxy::{to_unknown, to_workload};
pub(super) use service::add_service;

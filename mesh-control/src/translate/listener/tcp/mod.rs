//! Filter chains for connections that are forwarded as bytes: TCP, and TLS that the mesh does not end.
//!
//! Routes of requests are resources of their own, which listeners name. Routes of connections are in the listener: each
//! rule of a VirtualService becomes a filter chain with the rule's match, which ends in a TCP proxy.

mod chains;
mod gateway;
mod proxy;
mod service;

pub(super) use chains::{Chain, Chains, tls_inspector};
pub(super) use gateway::{add_auto_passthrough, add_passthrough, tcp_chains, tcp_filters};
pub(super) use proxy::{to_unknown, to_workload};
pub(super) use service::add_service;

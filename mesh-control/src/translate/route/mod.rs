//! Virtual hosts and routes.

mod action;
mod gateway;
mod headers;
mod matcher;
mod retry;
mod rules;
mod virtual_host;

pub(super) use gateway::routes as gateway_routes;
pub(super) use virtual_host::{UnknownHosts, inbound, library, sidecar};

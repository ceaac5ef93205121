//! The control plane of a mesh, in the role of istiod.
//!
//! [`load`] reads a directory of Istio resources and reports its mistakes. It yields a [`mesh::Mesh`]: the resources
//! ([`config`]), the services that they declare ([`registry`]) and the policies of the services
//! ([`destination_rules`]). [`translate`] turns a mesh into the xDS resources of one node. All this is without I/O, except
//! that `load` reads files. [`source`] follows a directory or a registry as it changes, and [`server`] sends each change to
//! the clients.
//!
//! # Features
//!
//! - `watch` (default): `source::Directory`, a directory of files that is followed.
//! - `consul`: `source::consul`, the catalog of Consul.
//! - `kubernetes`: `source::kubernetes`, the API server of Kubernetes.
//! - `ca` (default): the module `ca`, a certificate authority for workloads.
//! - `serve` (default): the module `serve`, the control plane on sockets.
//! - `cli` (default): the program `mesh-control`. A library that depends on this crate does not need it.

#[cfg(feature = "ca")]
pub mod ca;
pub mod config;
pub mod destination_rules;
pub mod diagnostic;
mod document;
mod ext_authz_providers;
pub mod gateway_api;
pub mod identities;
pub mod load;
pub mod mesh;
pub mod peer_authentications;
pub mod registry;
#[cfg(feature = "serve")]
pub mod serve;
pub mod server;
pub mod source;
pub mod translate;
mod validate;

pub use mesh_core::{host, name};

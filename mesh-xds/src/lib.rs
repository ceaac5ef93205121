//! xDS for the mesh: Envoy's protobuf API, and everything that turns it into values of `mesh-core`.
//!
//! - [`proto`]: the generated messages and their descriptors;
//! - [`json`]: protobuf-JSON and Envoy's YAML, in both directions.
//! - [`bootstrap`]: Envoy's bootstrap file;
//! - [`resource`]: listeners, routes, clusters and endpoints as model values;
//! - [`node`]: the member of a mesh that a client of a control plane is;
//! - [`client`]: the client of a control plane, in process or remote.
//!
//! Protobuf types stop here: what leaves this crate are model values and reports.

pub mod bootstrap;
pub mod client;
mod decode;
mod filter;
pub mod json;
pub mod node;
pub mod proto;
pub mod resource;

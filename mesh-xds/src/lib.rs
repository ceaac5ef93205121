//! xDS for the mesh: Envoy's protobuf API, and everything that turns it into values of `mesh-core`.
//!
//! - [`proto`]: the generated messages and their descriptors;
//! - `json`: protobuf-JSON and Envoy's YAML, in both directions (feature `json`);
//! - [`bootstrap`]: Envoy's bootstrap file;
//! - [`descriptor`], [`unknown`]: names of messages, and fields that the generated messages do not have;
//! - `validate`: the rules by which Envoy refuses messages;
//! - [`extensions`]: the extensions that Envoy publishes, and which of them are supported;
//! - [`resource`]: listeners, routes, clusters and endpoints as model values;
//! - `secrets`: secrets in files, for bootstraps (feature `json`);
//! - [`node`]: the xDS form of a node, a member of a mesh;
//! - [`client`]: the client of a control plane, in process or remote;
//! - [`status`]: what became of the configuration, for operators.
//!
//! Protobuf types stop here: other crates get model values and reports.

pub mod bootstrap;
pub mod client;
mod decode;
pub mod descriptor;
pub mod extensions;
mod filter;
#[cfg(feature = "json")]
pub mod json;
pub mod node;
pub mod proto;
pub mod resource;
#[cfg(feature = "json")]
pub mod secrets;
pub mod status;
pub mod unknown;
mod validate;

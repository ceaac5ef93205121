//! xDS for the mesh: Envoy's protobuf API, and everything that turns it into values of `mesh-core`.
//!
//! - [`proto`]: the generated messages and their descriptors;
//! - [`json`]: protobuf-JSON and Envoy's YAML, in both directions.
//!
//! Protobuf types stop here: what leaves this crate are model values and reports.

pub mod json;
pub mod proto;

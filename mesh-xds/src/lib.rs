//! xDS for the mesh: Envoy's protobuf API, and everything that turns it into values of `mesh-core`.
//!
//! - [`proto`]: the generated messages and their descriptors.
//!
//! Protobuf types stop here: what leaves this crate are model values and reports.

pub mod proto;

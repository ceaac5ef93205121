//! Access logs, metrics and traces: what is recorded about a request and how it is written.
//!
//! * [`Attributes`]: the attributes of one request, which access logs, header values, metrics and policies read.
//! * [`Missing`], [`Value`], [`write_json`]: evaluation of Envoy's `%COMMAND%` language.
//! * [`ResponseFlags`], [`details`]: why a request ended as it did.
//! * [`labels`]: names and values of Istio's metric labels.
//! * [`Counter`], [`Gauge`]: atomic statistics.
//! * [`peer_metadata`]: encoding of the workload metadata that both ends of a request exchange.
//! * [`trace_context`]: W3C trace headers.

mod attributes;
pub(crate) mod cluster_stats;
pub mod details;
mod flags;
mod format;
pub mod labels;
mod metric;
pub mod peer_metadata;
mod tls_stats;
pub mod trace_context;

pub use attributes::Attributes;
pub use flags::ResponseFlags;
pub use format::{Missing, Value, write_json};
pub use metric::{Counter, Gauge};
pub use tls_stats::TlsStats;

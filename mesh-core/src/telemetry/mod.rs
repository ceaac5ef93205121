//! What is told about requests.
//!
//! * [`Attributes`]: the facts of one request, filled once and read by access logs, header values, metrics and policies.
//! * [`Missing`], [`Value`], [`write_json`]: what Envoy's `%COMMAND%` language makes of them.
//! * [`ResponseFlags`], [`details`]: what happened beyond the status.
//! * [`labels`]: names and rules of Istio's metric labels.
//! * [`Counter`], [`Gauge`]: what is counted.
//! * [`peer_metadata`]: how workloads introduce themselves to each other.
//! * [`trace_context`]: W3C trace headers.

mod attributes;
pub mod details;
mod flags;
mod format;
pub mod labels;
mod metric;
pub mod peer_metadata;
pub mod trace_context;

pub use crate::model::format::{DEFAULT_TEXT, Format};
pub use attributes::Attributes;
pub use flags::ResponseFlags;
pub use format::{Missing, Value, write_json};
pub use metric::{Counter, Gauge};

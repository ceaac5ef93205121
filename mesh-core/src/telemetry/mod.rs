//! What is told about requests.
//!
//! * [`Attributes`]: the facts of one request, filled once and read by access logs, header values, metrics and policies.
//! * [`Format`]: Envoy's `%COMMAND%` language over them.
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

pub use attributes::Attributes;
pub use flags::ResponseFlags;
pub use format::{
    Command, DEFAULT_TEXT, Fact, FieldSource, Format, FormatError, GrpcStatusStyle, HeaderSource, ISTIO_TEXT, Missing,
    Operator, Part, PathSource, TimeFormat, Value, write_json,
};
pub use metric::{Counter, Gauge};

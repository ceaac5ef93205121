//! Retries.
//!
//! `repeat` is the loop that sends a request until there is a result that is not retried. The pipeline's upstream and
//! [`RetryLayer`] both run it. Request bodies are streamed and buffered up to a limit; a request whose body exceeds the
//! limit is not retried.

mod layer;
mod repeat;
mod replay;
mod reset_reason;
#[cfg(test)]
mod tests;
mod tried;

pub use layer::RetryLayer;
pub(crate) use repeat::{Attempt, Outcome, Retries, repeat};
pub(crate) use replay::Replay;
pub(crate) use reset_reason::reset_reason;
pub(crate) use tried::TriedEndpoints;

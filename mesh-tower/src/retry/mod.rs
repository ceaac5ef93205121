//! Trying again.
//!
//! [`repeat`] is the loop that sends a request until there is a response, or retrying does not help or is not allowed; the
//! pipeline's upstream and [`RetryLayer`] both run it. Bodies are streamed: what may have to be sent again is kept, up to a
//! bound, and a request whose body exceeds it is no longer retried.

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

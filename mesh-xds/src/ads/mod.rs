//! The ADS client: one stream over which all resources come.
//!
//! [`AdsState`] is the protocol without I/O: what to request, what to acknowledge, when to give up waiting and when to
//! reconnect. A [`Transport`] carries its messages, in process ([`in_process`]) or over a network, and [`run`] moves
//! messages and time between the two and hands what was accepted to [`apply`](crate::apply).
//!
//! The variant spoken is state-of-the-world: a response for clusters or listeners is the whole truth about them, one
//! for endpoints or routes is about the resources it names. A resource that is refused does not keep the others of its
//! response from being taken; the response is then answered with a NACK that says why (gRFC A46, A57).

mod driver;
pub mod in_process;
mod request;
mod state;
mod transport;

pub use driver::{ClusterInterest, Notice, Options, Sink, run};
pub use request::Request;
pub use state::{AdsState, Event, Interest, RESOURCE_TIMEOUT, Update};
pub use transport::{Disconnected, Stream, Transport};

#[cfg(test)]
mod tests;

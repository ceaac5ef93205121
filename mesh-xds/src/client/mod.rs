//! The client of a control plane: one ADS stream over which all resources come.
//!
//! [`Machine`] is the protocol without I/O: what to request, what to acknowledge, when to give up waiting and when to
//! reconnect. A [`Transport`] carries its messages, in process ([`transport::in_process`]) or over a network, and [`run`]
//! moves messages and time between the two. What was accepted goes through the [`applier`], which puts it into force in an
//! order that breaks nothing.
//!
//! The variant spoken is state-of-the-world: a response for clusters or listeners is the whole truth about them, one
//! for endpoints or routes is about the resources it names. A resource that is refused does not keep the others of its
//! response from being taken; the response is then answered with a NACK that says why (gRFC A46, A57).

pub mod applier;
mod driver;
mod machine;
mod request;
pub mod transport;

pub use driver::{ClusterInterest, Notice, Options, Sink, run};
pub use machine::{Event, Interest, Machine, RESOURCE_TIMEOUT, Update};
pub use request::Request;
pub use transport::{Disconnected, Stream, Transport};

#[cfg(test)]
mod tests;

//! What HTTP/2 connections to clients and to endpoints have in common. The frames and the state of streams are h2's.

mod frame_scanner;
mod incoming;
mod io;
mod keepalive;
mod outgoing;

pub(crate) use incoming::Incoming;
pub(crate) use io::{Flusher, Http2Io, Traffic};
pub(crate) use keepalive::{Keepalive, PingRequest};
pub(crate) use outgoing::{Outgoing, Payload, SendBody, reason_of};

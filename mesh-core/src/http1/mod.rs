//! HTTP/1 messages on the wire (RFC 9112), without a socket and without a clock.
//!
//! ```text
//! bytes received ──► RequestReader  ──► head ► data ► data ► trailers ► end      (the side of a server)
//! bytes received ──► ResponseReader ──► head ► data ► data ► trailers ► end      (the side of a client)
//!                                          │ error: the local reply to the client, or the reset of the request
//! head, body     ──► write_request, write_response, BodyWriter ──► bytes to send
//! ```
//!
//! A reader takes bytes from the front of a buffer that the caller fills. Heads and data are slices of that buffer: header
//! values and body data are not copied. All that a peer can make large has a bound: heads and trailers in bytes and in number of
//! headers ([`Limits`]), the size line of a chunk with its extensions ([`MAX_CHUNK_LINE`]). Data is bounded by the
//! buffer. Time limits and the number of pipelined requests belong to the caller.
//!
//! What is accepted is what Envoy accepts. Where RFC 9112 leaves a choice, the strict one is taken: the framing of a
//! message is never guessed, and a message that two readers could understand differently is refused.

mod body;
mod chunked;
mod error;
mod fields;
mod head;
mod request;
mod response;
mod spelling;
mod target;
mod write;

pub use body::{BodyLength, BodyPart};
pub use chunked::MAX_CHUNK_LINE;
pub use error::Error;
pub use head::Limits;
pub use request::{RequestHead, RequestReader};
pub use response::{ResponseHead, ResponseReader};
pub use spelling::ReceivedNames;
pub use write::{
    BodyWriter, Framing, WrongLength, write_interim, write_request, write_response, write_tunnel_request,
    write_tunnel_response,
};

#[cfg(test)]
mod tests;

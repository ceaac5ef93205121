//! Transport security, by rustls.
//!
//! ```text
//! TlsContext + secrets ► ServerTls / ClientTls ► handshake ► byte stream and TlsInfo
//! ```
//!
//! A [`ServerTls`] or [`ClientTls`] belongs to one context of the configuration. It holds the slots of its secrets, and makes the
//! configuration of rustls when it is first used, and again when a secret has changed. So a rotated certificate is used by the
//! next handshake, and connections are not affected. Sessions are resumed only within one such configuration: a
//! peer that an authority no longer vouches for is verified again.
//!
//! All workers share them: [`ServerContexts`], [`ClientContexts`].
//!
//! There is no cryptography here: rustls and webpki verify signatures and chains. [`verify`] adds what Envoy and SPIFFE verify
//! beyond them.

mod certificate;
mod client;
mod contexts;
mod error;
mod provider;
mod secrets;
mod server;
mod verify;

pub(crate) use client::{ClientTls, TlsEndpoint};
pub(crate) use contexts::{ClientContexts, ServerContexts};
pub(crate) use error::TlsError;
pub(crate) use server::{ServerTls, TlsServerStream};

#[cfg(test)]
mod spiffe_vectors;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

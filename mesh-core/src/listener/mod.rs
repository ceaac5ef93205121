//! How a listener decides about a connection before it is served: what its first bytes are, and which filter chain
//! takes it.
//!
//! ```text
//! accepted ► listener filters: tls_inspector, http_inspector ► ConnectionFacts ► FilterChainIndex ► a filter chain
//! ```

mod client_hello;
mod facts;
mod filter_chains;
mod http_inspector;
mod networks;

pub use client_hello::{ClientHello, inspect_tls};
pub use facts::{ConnectionFacts, Inspection};
pub use filter_chains::{FilterChainIndex, OverlappingFilterChains};
pub use http_inspector::{InspectedHttp, MAX_REQUEST_LINE, inspect_http};

#[cfg(test)]
mod tests;

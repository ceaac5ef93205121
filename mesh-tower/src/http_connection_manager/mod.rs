//! What a listener does with each request, from its first byte to the last of its answer.
//!
//! ```text
//! canonical form ► client and trust ► request id ► route ► upgrade allowed? ► http filters ► what the route says
//!                                                                                ├ redirect, direct response
//!                                                                                └ the service: upstream or the user's
//! response headers ◄ hop-by-hop, server, via, x-request-id ◄─────────────────────┘
//! body ► its end: statistics, Istio's metrics, access log
//! ```
//!
//! The route is found before the filters run, because it configures them. What the service at the end does is not known
//! here: the proxy puts an upstream there, a library server the user's service.

mod access_log;
mod body;
mod canonical;
mod direct;
mod filter;
mod listener;
mod manager;
mod patience;
mod pipeline;
mod recorder;
mod respond;
mod response;
mod unserved;

pub use body::ResponseBody;
pub use listener::ListenerConfigError;
pub use manager::ConnectionManager;
pub use respond::{Respond, ServiceResponder};

#[cfg(test)]
mod tests;

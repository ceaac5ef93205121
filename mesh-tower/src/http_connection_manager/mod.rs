//! HTTP connection managers: the pipeline that every request passes, and the edge of listeners with sockets.
//!
//! ```text
//! edge: canonical form ► client and trust ► request id
//!   pipeline: route ► upgrade allowed? ► http filters ► the route's own response, or the service
//! edge: hop-by-hop, server, via, x-request-id ► body ► its end: statistics, Istio's metrics, access log
//! ```
//!
//! The route is found before the filters run, because it configures them. The service at the end is an upstream in a proxy
//! and in a channel, and the program's own service in a library server.

mod canonical;
mod listener;
mod manager;
mod pipeline;
mod respond;
mod response;
mod unserved;

pub use listener::ListenerConfigError;
pub(crate) use listener::{HttpListener, ListenerFacts};
pub use manager::ConnectionManager;
pub(crate) use pipeline::Served;
pub use respond::{RequestContext, Respond, ServiceResponder};

#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod tests;

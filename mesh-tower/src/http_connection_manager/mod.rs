//! HTTP connection managers: the pipeline of requests, and the connections of listeners with sockets.
//!
//! ```text
//! connection: canonical form ► forwarded headers ► request id
//!   pipeline: route ► upgrade allowed? ► HTTP filters ► the route's own response, or the service
//! connection: hop-by-hop headers, server, via, x-request-id ► body ► end of body: statistics, Istio's metrics, access log
//! ```
//!
//! The route is chosen before the filters run, because it configures them. The service is an upstream in a proxy and in a
//! channel, and the program's own service in a library server.

mod canonical;
mod context;
mod listener;
mod manager;
mod pipeline;
mod respond;
mod response;
mod unserved;

pub use context::ListenerContext;
pub use listener::ListenerConfigError;
pub(crate) use listener::{HttpListener, ListenerFacts};
pub use manager::ConnectionManager;
pub(crate) use pipeline::Served;
pub use respond::{RequestContext, Respond, ServiceResponder};

#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod http1_request_tests;
#[cfg(test)]
mod http1_tests;
#[cfg(test)]
mod http2_proxy_tests;
#[cfg(test)]
mod http2_slow_tests;
#[cfg(test)]
mod http2_tests;
#[cfg(test)]
mod rbac_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;

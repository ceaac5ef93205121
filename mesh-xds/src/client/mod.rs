//! The client of a control plane: one ADS stream over which all resources come, and what is made of them.
//!
//! ```text
//! control plane ◄─► Transport ◄─► Agent ─► Store
//!                                  │ time, messages
//!                              ClientState
//!                        Machine ───────► Applier
//!                  requests, responses     order of changes
//! ```
//!
//! - [`Agent`] is what programs use: built from a transport, a node, a scope and a store, it keeps the store as the
//!   control plane says, reports [`Notice`]s, and signals whenever everything is in force. It does the I/O and decides
//!   nothing.
//! - [`ClientState`] decides, without I/O. It joins two state machines:
//!   - [`Machine`] is the protocol: what to request, what to acknowledge, when to give up waiting, when to connect;
//!   - [`Applier`](applier::Applier) puts what was accepted into force in an order that breaks nothing, and knows what is
//!     referred to and therefore has to be requested.
//! - [`transport`] carries the messages. There is one within the process; one over gRPC belongs beside it.
//!
//! Proxies ask for everything that the control plane has for them, libraries for what they use ([`Scope`]): a
//! [`Subscription`] to a listener brings its routes, their clusters and the endpoints of these. The routes go with the last
//! subscription, clusters that no route names any more [`UNUSED_CLUSTER_TIME`] later.

mod agent;
pub mod applier;
mod back_off;
mod interest;
mod machine;
mod notice;
mod request;
mod state;
mod subscription;
#[cfg(test)]
mod testing;
pub mod transport;

pub use agent::Agent;
pub use interest::Interest;
pub use machine::{CONNECT_TIMEOUT, Event, Machine, RESOURCE_TIMEOUT, Update};
pub use notice::{ApplyReport, Notice};
pub use request::Request;
pub use state::{ClientState, Output, Scope, UNUSED_CLUSTER_TIME};
pub use subscription::{Subscriber, Subscription};
pub use transport::{Disconnected, Stream, Transport};

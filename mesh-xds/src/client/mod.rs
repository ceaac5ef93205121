//! The client of a control plane: one ADS stream for all resources, and their application.
//!
//! ```text
//! control plane ◄─► Transport ◄─► Agent ─► Store
//!                                  │ time, messages
//!                              ClientState
//!                        Machine ───────► Applier
//!                  requests, responses     order of changes
//! ```
//!
//! - [`Agent`] is the interface for programs: built from a transport, a node, a scope and a store, it keeps the store up
//!   to date with the control plane, reports [`Notice`]s, and signals whenever everything is in force. It does the I/O
//!   and makes no decisions.
//! - [`ClientState`] decides, without I/O. It combines two state machines:
//!   - [`Machine`] is the protocol: requests, acknowledgements, timeouts and connection attempts;
//!   - [`Applier`](applier::Applier) applies accepted resources in an order that breaks no request, and collects the
//!     names that they refer to, which are requested next.
//! - [`ClientStatus`] has what became of the resources, for the admin endpoint and metrics.
//! - [`transport`] carries the messages. There are some within the process, over gRPC, and from files.
//!
//! Resources may name other sources than the stream for all types. Each resource from there has a stream of its own
//! (`elsewhere.rs`), whose events enter the same [`ClientState`].
//!
//! Proxies subscribe to everything that the control plane has for them, libraries to what they use ([`Scope`]): a
//! [`Subscription`] to a listener includes its routes, their clusters and the endpoints of these. The routes are
//! removed with the last subscription, clusters that no route names any more [`UNUSED_CLUSTER_TIME`] later.

mod agent;
pub mod applier;
mod elsewhere;
mod interest;
mod link;
pub mod load;
mod machine;
mod notice;
mod proxyless;
mod request;
mod response;
mod state;
mod status;
mod subscription;
mod summary;
#[cfg(test)]
mod testing;
pub mod transport;

pub use agent::Agent;
pub use elsewhere::{AnyTransport, MakeTransport};
pub use interest::Interest;
pub use machine::{
    CONNECT_TIMEOUT, Event, LONG_RESOURCE_TIMEOUT, Machine, RESOURCE_TIMEOUT, Rejected, ServerOptions, Update,
};
pub use notice::{ApplyReport, Notice};
pub use request::{Changes, Request};
pub use response::Response;
pub use state::{ClientState, Output, Scope, UNUSED_CLUSTER_TIME};
pub use status::{Accepted, ClientStatus, Failure, Refused, ResourceStatus, TypeStatus, Updates, Waiting};
pub use subscription::{Subscriber, Subscription};
pub use transport::{Disconnected, Stream, Transport};

//! From accepted resources to what the data plane uses, in an order that breaks nothing.
//!
//! [`Applier`] knows what the control plane wants and what is in force, and yields the [`Change`]s that lead from one
//! to the other. It never lets a request see a route to a cluster that is still on its way:
//!
//! - a new or changed EDS cluster waits for its endpoints;
//! - a route configuration waits for the clusters it names;
//! - a listener waits for its route configuration;
//! - removals come last: a cluster goes when no route in force names it any more, a route configuration when no
//!   listener does.
//!
//! Nothing waits longer than [`RESOURCE_TIMEOUT`](super::RESOURCE_TIMEOUT), nor for what the control plane says
//! does not exist. The cost of an update is in proportion to what it changes and to what is waiting: an update of
//! endpoints touches its clusters only.
//!
//! Like all state machines here it does no I/O: [`Applier::handle_update`] and [`Applier::handle_timeout`] are its
//! inputs, [`Applier::poll_change`] its output.

mod change;
mod cluster;
mod route;
mod state;
mod store;

pub use change::Change;
pub use state::{Applier, ApplyReport};
pub use store::{StoreSink, apply};

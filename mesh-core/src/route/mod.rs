//! Compiled routes: finding the route of a request and evaluating it.
//!
//! [`RouteTable::compile`] compiles a `RouteConfiguration` into an index. [`RouteTable::route`] finds the route of a
//! request without allocating, in time that does not grow with the number of routes whose path cannot match. Domains and
//! path prefixes are kept in radix trees, regular expressions by their literal prefix. Routes with the same path and
//! different headers, and regular expressions with the same prefix, are tried in configured order. The result is that of
//! a linear first-match scan, which the tests use as the model.
//!
//! Not supported: URI templates and matcher trees (`matcher`); the decoder refuses them.

mod domain_index;
mod entry;
mod filter_overrides;
mod literal_prefix;
mod matcher;
mod path_index;
mod redirect;
mod rewrite;
mod shared;
mod stats;
mod table;
mod trie;

pub use entry::{ChosenCluster, ClusterChoice, RouteEntry};
pub use redirect::https_location;
pub use rewrite::AuthorityRewrite;
pub use stats::{RequestCounters, RequestPart, RequestScope, RequestStats, RequestStatsRegistry};
pub use table::{RouteHandle, RouteRef, RouteResult, RouteTable, RouteTableError};

#[cfg(test)]
mod tests;

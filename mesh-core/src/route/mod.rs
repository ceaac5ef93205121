//! Which route takes a request, and what the route says.
//!
//! [`RouteTable::compile`] turns a `RouteConfiguration` into an index; [`RouteTable::route`] answers a request from it
//! without allocating and in time that does not grow with the number of routes that cannot match: domains and path
//! prefixes lie in radix trees, regular expressions are filed under the text they begin with. Routes that share a path
//! and differ in headers, and regular expressions that begin alike, are tried in configured order. The answer is always
//! that of a linear first-match scan, which the tests use as the model.
//!
//! Deliberately absent: URI templates and matcher trees (`matcher` API); the decoder refuses them by name.

mod domain_index;
mod entry;
mod filter_overrides;
mod literal_prefix;
mod matcher;
mod path_index;
mod redirect;
mod rewrite;
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

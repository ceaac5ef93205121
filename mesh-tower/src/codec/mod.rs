//! Downstream HTTP connections: protocol detection, and one connection from its first byte to its end.
//!
//! hyper's connections are driven directly, one task per connection, so that a request is read, routed, sent and
//! responded to without changing tasks.

mod builders;
mod connection;
mod head_timer;
mod io;

pub(crate) use builders::Codecs;
pub(crate) use connection::{Connection, ConnectionInfo, Lifetime, Unserved};
pub(crate) use head_timer::HeadLimit;

//! The mesh's model and every decision it makes.
//!
//! Nothing here performs I/O, reads a clock, draws from a global random generator or spawns a task: time is an
//! argument (`now: Instant`), randomness is an argument (`rng: &mut impl Rng`). The same code therefore decides in the
//! library, in the proxy, in offline explanations and in tests that run a week of ejections in a millisecond.
//!
//! * [`model`]: immutable, validated configuration values, one file per xDS concept.
//! * everything else: what is compiled from them, and the state machines that act on them.

pub mod balance;
pub mod causes;
pub mod cluster;
mod endpoint;
pub mod filter;
pub mod grpc;
pub mod health;
pub mod host;
pub mod http1;
pub mod identity;
mod json;
pub mod listener;
pub mod local_reply;
pub mod model;
pub mod name;
pub mod nearest;
pub mod node;
pub mod plural;
pub mod policy;
pub mod request;
pub mod resilience;
pub mod retry;
pub mod rng;
pub mod route;
pub mod slot;
pub mod store;
pub mod target;
pub mod telemetry;
pub mod tls;
mod value;
pub mod xxhash;

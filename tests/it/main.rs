//! The facade as its users see it: real sockets, real files, the whole path from YAML to a response.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like the tests themselves")]

mod admin;
mod ads;
mod authorization;
mod control_plane;
mod directory;
mod from_code;
mod grpc;
mod grpc_failures;
mod layer;
mod logging;
mod mutual_tls;
mod runtimes;
mod serve;
mod support;
mod telemetry;
mod wrappers;
mod xds;

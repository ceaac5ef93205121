//! The program from outside: real processes, real sockets, real signals.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod authorization;
mod connections;
mod control_plane;
mod cors;
mod custom_authorization;
mod draining;
mod external_authorization;
mod istio;
mod mutual_tls;
mod operator;
mod process;
mod request_authentication;
mod start;

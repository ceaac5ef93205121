//! A sidecar and gateway: the layers of mesh-tower with the configuration of mesh-xds, Envoy's command-line flags and
//! Envoy's admin endpoint.
//!
//! The main thread reads configuration, serves the admin endpoint and waits for signals. Workers serve requests and share
//! only the store.

mod admin;
mod args;
mod bootstrap;
mod control_plane;
mod istio;
mod logging;
mod run;
mod signal;
mod state;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use crate::args::Args;

/// Runs the program with these command-line arguments, the program's name first. Returns when the process has drained.
///
/// Programs that embed the proxy call this function instead of shipping a second binary.
#[expect(clippy::print_stderr, reason = "the reason for an exit must reach the operator whatever the log level is")]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are not errors. clap prints them to standard output.
            let is_error = error.use_stderr();
            let _ = error.print();
            return if is_error { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Diagnostics end with a line break of their own.
            eprintln!("error: {}", error.to_string().trim_end());
            ExitCode::FAILURE
        }
    }
}

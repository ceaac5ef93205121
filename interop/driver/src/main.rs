//! A client and a server of the gRPC service `rig.Echo`, configured by xDS: the program under test in the PSM interop cases of
//! gRPC, and in tests with other control planes. See the README beside it.
//!
//! The bootstrap is in `GRPC_XDS_BOOTSTRAP` or `GRPC_XDS_BOOTSTRAP_CONFIG`; `RUST_LOG` sets what is logged to standard error.

mod call;
mod codec;
mod serve;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
enum Command {
    /// Make unary calls, and print how they ended as a line of JSON.
    Call(call::Call),
    /// Serve until standard input ends; print the port as a line of JSON when the server is ready.
    Serve(serve::Serve),
}

/// Prints one line for the program that reads the output.
#[expect(clippy::print_stdout, reason = "the output of the program")]
fn print(line: &serde_json::Value) {
    println!("{line}");
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    let result = match Command::parse() {
        Command::Call(call) => call.run().await,
        Command::Serve(serve) => serve.run().await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

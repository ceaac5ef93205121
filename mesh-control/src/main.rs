//! `mesh-control`: checks a directory of Istio resources and prints its translation.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}

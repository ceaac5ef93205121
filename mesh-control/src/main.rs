//! `mesh-control`: checks a directory of Istio resources and shows what becomes of it.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}

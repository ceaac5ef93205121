//! The program `mesh-proxy`, implemented in the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_proxy::run(std::env::args_os())
}

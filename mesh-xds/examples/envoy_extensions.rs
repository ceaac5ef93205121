//! Writes the list of Envoy's extensions, or checks that a file has it:
//!
//!     envoy_extensions docs/envoy-extensions.md
//!     envoy_extensions --check docs/envoy-extensions.md

use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "a command line tool reports on the terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--check", path] => check(path),
        [path] => std::fs::write(path, mesh_xds::extensions::page()).map_err(|error| format!("{path}: {error}")),
        _ => Err("usage: envoy_extensions [--check] FILE".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &str) -> Result<(), String> {
    let found = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    if found == mesh_xds::extensions::page() {
        return Ok(());
    }
    Err(format!("{path} is out of date: run `cargo run --release -p mesh-xds --example envoy_extensions {path}`"))
}

//! Developer commands of this workspace: `cargo xtask <command>`.
//!
//! They are not needed to build or use the mesh. They check or regenerate files that are checked in. Each command has a
//! module.

mod arrows;
mod codegen;
mod external_types;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>

  codegen           write mesh-xds/src/proto/ and examples/generated/ from .proto files
  codegen --check   fail if the checked-in files differ from what would be written
  tidy              check what rustfmt and clippy cannot: file length, module docs, dependency direction
  external-types    check that public signatures name no types of crates that may change
  arrows CRATE      print which top-level modules of a crate use which others, and the circles among them
";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on the terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["codegen"] => codegen::run(&workspace_root(), codegen::write),
        ["codegen", "--check"] => codegen::run(&workspace_root(), codegen::check),
        ["tidy"] => tidy::run(&workspace_root()),
        ["external-types"] => external_types::run(&workspace_root()),
        ["arrows", name] => arrows::run(&workspace_root(), name),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The directory of the workspace's `Cargo.toml`, independent of the current directory.
fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace root").to_path_buf()
}

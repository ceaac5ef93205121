//! `mesh-control validate DIR`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use mesh_control::config::Strictness;
use mesh_control::diagnostic::{Severity, Style, report_all};
use mesh_control::load::Loaded;

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Directory with `*.yaml`, `*.yml` and `*.json` files, searched recursively.
    directory: PathBuf,
}

/// Exit code 0 if there is no error, 1 if there is.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match Loaded::from_directory(&arguments.directory, Strictness::Strict) {
        Err(error) => super::fail(&error),
        Ok(loaded) => {
            let verdict = if loaded.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            super::written(print(&loaded, &mut io::stdout().lock()), verdict)
        }
    }
}

fn print(loaded: &Loaded, out: &mut io::StdoutLock<'_>) -> io::Result<()> {
    let style = Style::of(out);
    out.write_all(report_all(&loaded.diagnostics, style).as_bytes())?;
    let counted = |severity, noun| match loaded.count(severity) {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    };
    let (errors, warnings) = (counted(Severity::Error, "error"), counted(Severity::Warning, "warning"));
    writeln!(out, "{} resources in {} files: {errors}, {warnings}", loaded.mesh.config.len(), loaded.sources.len())
}

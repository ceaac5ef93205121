//! `mesh-control validate DIR`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use mesh_control::config::DEFAULT_NAMESPACE;
use mesh_control::diagnostic::{Severity, Style, report_all};
use mesh_control::load::Loaded;
use mesh_core::plural::counted;

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Directory with `*.yaml`, `*.yml` and `*.json` files, searched recursively.
    directory: PathBuf,
    /// Namespace of resources that name none.
    #[arg(short, long, value_parser = super::parse_namespace, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    #[command(flatten)]
    reading: super::Reading,
}

/// Exit code 0 if there is no error, 1 if there is.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // Whether a mesh has a certificate authority is not said by its files.
    let options = arguments.reading.options(Some(&arguments.namespace)).with_certificates(true);
    match Loaded::from_directory(&arguments.directory, options) {
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
    for kind in &loaded.left_alone {
        writeln!(out, "{kind}")?;
    }
    if !loaded.left_alone.is_empty() {
        writeln!(out)?;
    }
    writeln!(
        out,
        "{} in {}: {}, {}",
        counted(loaded.mesh.config.len(), "resource"),
        counted(loaded.sources.len(), "file"),
        counted(loaded.count(Severity::Error), "error"),
        counted(loaded.count(Severity::Warning), "warning"),
    )
}

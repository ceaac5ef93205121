//! The command line: parses arguments and prints text; everything else is in the library.

#[cfg(feature = "ca")]
mod ca;
#[cfg(feature = "serve")]
mod serve;
mod translate;
mod validate;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_control::config::Options;
use mesh_control::name::Name;
use mesh_core::causes::with_causes;

/// Exit code when the arguments or the directory cannot be used; 1 means that the configuration has errors.
const EXIT_USAGE: u8 = 2;

/// The control plane of a mesh, on the command line.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks all resources of a directory and prints each mistake with file, line and column.
    Validate(validate::Arguments),
    /// Makes certificates for development: a root, and those of workloads.
    #[cfg(feature = "ca")]
    Ca(ca::Arguments),
    /// Serves Envoys, gRPC clients and programs of the mesh: xDS over gRPC.
    #[cfg(feature = "serve")]
    Serve(Box<serve::Arguments>),
    /// Prints the xDS resources that a node of the mesh gets, as protobuf-JSON.
    Translate(translate::Arguments),
}

/// How the files of the directory are read.
#[derive(Debug, clap::Args)]
struct Reading {
    /// Treat YAML that is no Kubernetes object, such as the values of a Helm chart, as an error. By default it is left alone.
    #[arg(long)]
    strict: bool,

    /// Allow RequestAuthentications to fetch keys from loopback and link-local addresses.
    #[arg(long)]
    allow_local_jwks_uri: bool,
}

impl Reading {
    /// The options of a configuration whose resources are in `namespace`, unless they name another one.
    fn options(&self, namespace: Option<&str>) -> Options {
        Options::default()
            .with_namespace(namespace)
            .with_refuse_others(self.strict)
            .with_allow_local_jwks_uri(self.allow_local_jwks_uri)
    }
}

/// Parses a namespace.
fn parse_namespace(text: &str) -> Result<String, String> {
    if Name::Namespace.admits(text) { Ok(text.to_owned()) } else { Err(format!("expected {}", Name::Namespace.rule())) }
}

/// Parses the arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Validate(arguments) => validate::run(&arguments),
        #[cfg(feature = "ca")]
        Command::Ca(arguments) => ca::run(&arguments),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::run(*arguments),
        Command::Translate(arguments) => translate::run(&arguments),
    }
}

/// The exit code of a command, or of the failure to write its output.
fn written(output: io::Result<()>, code: ExitCode) -> ExitCode {
    match output {
        // A closed pipe is no error, but a truncated file must not look complete.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error),
        _ => code,
    }
}

/// Prints an error with its causes.
#[expect(clippy::print_stderr, reason = "a command line tool reports on the terminal")]
fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("error: {}", with_causes(error));
    ExitCode::from(EXIT_USAGE)
}

//! `mesh-control ca init DIR` and `mesh-control ca issue`: certificates for development.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use mesh_control::ca::{Authority, CaError, DEFAULT_TTL, Identity, IssueError, Request};
use mesh_control::config::MeshConfig;

/// Arguments of `ca`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a root, and writes it and its key into a directory, with Istio's file names.
    Init {
        /// The directory, which is created. Files that are there are not overwritten.
        directory: PathBuf,
        /// The trust domain of the mesh.
        #[arg(long, default_value = MeshConfig::DEFAULT_TRUST_DOMAIN)]
        trust_domain: String,
    },
    /// Issues the certificate of a workload.
    Issue {
        /// The directory of the authority: ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem.
        #[arg(long)]
        dir: PathBuf,
        /// The workload, as spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT.
        #[arg(long, value_parser = Identity::parse)]
        identity: Identity,
        /// The directory for cert-chain.pem, key.pem and root-cert.pem. Files that are there are not overwritten.
        #[arg(long)]
        out: PathBuf,
        /// Lifetime in hours, at most 2160.
        #[arg(long, default_value_t = DEFAULT_TTL.as_secs() / 3600)]
        ttl_hours: u64,
    },
}

/// Why no certificate is made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    File(#[from] mesh_control::ca::FileError),
    #[error(transparent)]
    Identity(#[from] mesh_control::ca::IdentityError),
}

/// Exit code 0 if the files have been written.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let done = match &arguments.command {
        Command::Init { directory, trust_domain } => init(directory, trust_domain),
        Command::Issue { dir, identity, out, ttl_hours } => issue(dir, identity, out, *ttl_hours),
    };
    match done {
        Ok(message) => super::written(writeln!(io::stdout().lock(), "{message}"), ExitCode::SUCCESS),
        Err(error) => super::fail(&error),
    }
}

fn init(directory: &std::path::Path, trust_domain: &str) -> Result<String, Error> {
    // A root of a trust domain that no identity can have would be of no use.
    Identity::new(trust_domain, "default", "default")?;
    let (_, files) = Authority::generate(trust_domain, SystemTime::now())?;
    files.write(directory)?;
    Ok(format!("a root for {trust_domain} is in {}; keep ca-key.pem secret", directory.display()))
}

fn issue(directory: &std::path::Path, identity: &Identity, out: &std::path::Path, hours: u64) -> Result<String, Error> {
    let now = SystemTime::now();
    let authority = Authority::open(directory, now)?;
    let ttl = Duration::from_secs(hours.saturating_mul(3600));
    let issued = authority.issue(Request::new(identity, "mesh-control ca issue").with_ttl(ttl), now)?;
    issued.write(authority.roots(), out)?;
    Ok(format!("certificate {} of {identity} is in {}", issued.serial, out.display()))
}

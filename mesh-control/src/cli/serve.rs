//! `mesh-control serve --config DIR`.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use mesh_control::serve::{Addresses, DEFAULT_DNS_NAMES, Server, Settings};
use mesh_control::source::OpenError;
use mesh_control::{diagnostic::Style, serve};
use tracing_subscriber::EnvFilter;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Directory with `*.yaml`, `*.yml` and `*.json` files, searched recursively and followed as it changes.
    #[arg(long, value_name = "DIR")]
    config: PathBuf,
    /// Address of ADS in plain text, or `none`. Clients prove nothing there, and get no secrets.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15010", value_parser = parse_address)]
    grpc_addr: Address,
    /// Address of ADS with TLS, or `none`. Clients need a certificate of the authority.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:15012", value_parser = parse_address)]
    secure_grpc_addr: Address,
    /// Address of /ready and /metrics, or `none`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15014", value_parser = parse_address)]
    http_addr: Address,
    /// Directory of the authority: ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem. By default a new root in memory,
    /// with which certificates of before a restart are worthless.
    #[arg(long, value_name = "DIR", env = "ROOT_CA_DIR")]
    ca_dir: Option<PathBuf>,
    /// A name of a host that the certificate of the TLS port is for; may be given several times.
    #[arg(long = "dns-name", value_name = "NAME", default_values = DEFAULT_DNS_NAMES)]
    dns_names: Vec<String>,
    /// Namespace of resources that name none.
    #[arg(short, long, value_parser = super::parse_namespace)]
    namespace: Option<String>,
    #[command(flatten)]
    reading: super::Reading,
    /// What is logged to stderr: error, warn, info, debug, or directives such as `mesh_control=debug`.
    #[arg(long, default_value = "info")]
    log_level: EnvFilter,
}

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug)]
struct Address(Option<SocketAddr>);

fn parse_address(text: &str) -> Result<Address, String> {
    if text == "none" {
        return Ok(Address(None));
    }
    let invalid = |_| format!("{text:?} is not IP:PORT or \"none\"");
    text.parse().map(|address| Address(Some(address))).map_err(invalid)
}

/// Exit code 1 if the configuration has errors, 2 if nothing can be served.
pub(super) fn run(arguments: Arguments) -> ExitCode {
    let is_terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).with_ansi(is_terminal);
    log.with_env_filter(arguments.log_level.clone()).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return super::fail(&error),
    };
    match runtime.block_on(serve(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(serve::Error::Source(error @ OpenError::Invalid(_))) => {
            let mut out = io::stderr().lock();
            let _ = writeln!(out, "{}", error.report(Style::of(&out)));
            ExitCode::FAILURE
        }
        Err(error) => super::fail(&error),
    }
}

async fn serve(arguments: Arguments) -> Result<(), serve::Error> {
    let mut settings = Settings::new(arguments.config);
    settings.reading = arguments.reading.options(arguments.namespace.as_deref());
    settings.grpc_addr = arguments.grpc_addr.0;
    settings.secure_grpc_addr = arguments.secure_grpc_addr.0;
    settings.http_addr = arguments.http_addr.0;
    settings.ca_dir = arguments.ca_dir;
    settings.dns_names = arguments.dns_names;
    let server = Server::bind(settings).await?;
    tell(server.addresses());
    tokio::select! {
        result = server.run() => result,
        () = stopped() => Ok(()),
    }
}

/// Prints the addresses as one line of JSON, for programs that have asked for port 0.
fn tell(addresses: Addresses) {
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let line = serde_json::json!({
        "grpc": text(addresses.grpc),
        "secure_grpc": text(addresses.secure_grpc),
        "http": text(addresses.http),
    });
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Ends when the program is told to.
async fn stopped() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = interrupted.await;
}

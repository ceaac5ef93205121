//! `mesh-control serve --config DIR`.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use mesh_control::ca::{Lifetimes, TokenSettings};
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
    /// Address of ADS and of the authority with TLS, or `none`. Clients need a certificate of the authority or a token.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:15012", value_parser = parse_address)]
    secure_grpc_addr: Address,
    /// Address of /ready, /metrics and, for clients of this machine, /debug; or `none`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15014", value_parser = parse_address)]
    http_addr: Address,
    /// Directory of the authority: ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem. By default a new root in memory,
    /// with which certificates of before a restart are worthless.
    #[arg(long, value_name = "DIR", env = "ROOT_CA_DIR")]
    ca_dir: Option<PathBuf>,
    /// A name of a host that the certificate of the TLS port is for; may be given several times.
    #[arg(long = "dns-name", value_name = "NAME", default_values = DEFAULT_DNS_NAMES)]
    dns_names: Vec<String>,
    /// File with the public keys of tokens of service accounts: a JSON Web Key Set, or PEM such as sa.pub of Kubernetes. Without it,
    /// only certificates prove an identity.
    #[arg(long, value_name = "FILE", requires = "token_issuer")]
    token_keys: Option<PathBuf>,
    /// Issuer of these tokens.
    #[arg(long, value_name = "ISSUER", requires = "token_keys")]
    token_issuer: Option<String>,
    /// Audiences of these tokens, separated by commas; a token needs one of them.
    #[arg(
        long = "token-audiences",
        value_name = "AUDIENCES",
        env = "TOKEN_AUDIENCES",
        value_delimiter = ',',
        default_value = TokenSettings::DEFAULT_AUDIENCE
    )]
    token_audiences: Vec<String>,
    /// Lifetime of certificates for clients that ask for none, such as 24h or 90m.
    #[arg(long, value_name = "DURATION", env = "DEFAULT_WORKLOAD_CERT_TTL", default_value = "24h", value_parser = parse_duration)]
    default_workload_cert_ttl: Duration,
    /// Longest lifetime of certificates that clients may ask for.
    #[arg(long, value_name = "DURATION", env = "MAX_WORKLOAD_CERT_TTL", default_value = "2160h", value_parser = parse_duration)]
    max_workload_cert_ttl: Duration,
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

/// A duration as Go writes it, in whole units: `1h30m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration such as 24h, 90m or 1h30m0s");
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(invalid)?;
        let (digits, unit) = rest.split_at(end);
        let seconds = match unit.as_bytes().first() {
            Some(b'h') => 3600,
            Some(b'm') => 60,
            Some(b's') => 1,
            _ => return Err(invalid()),
        };
        let number = digits.parse::<u32>().map_err(|_| invalid())?;
        total += Duration::from_secs(u64::from(number) * seconds);
        rest = &unit[1..];
    }
    if total.is_zero() { Err(invalid()) } else { Ok(total) }
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
    let lifetimes = match Lifetimes::new(arguments.default_workload_cert_ttl, arguments.max_workload_cert_ttl) {
        Ok(lifetimes) => lifetimes,
        Err(error) => return super::fail(&error),
    };
    match runtime.block_on(serve(arguments, lifetimes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(serve::Error::Source(error @ OpenError::Invalid(_))) => {
            let mut out = io::stderr().lock();
            let _ = writeln!(out, "{}", error.report(Style::of(&out)));
            ExitCode::FAILURE
        }
        Err(error) => super::fail(&error),
    }
}

async fn serve(arguments: Arguments, lifetimes: Lifetimes) -> Result<(), serve::Error> {
    let mut settings = Settings::new(arguments.config);
    settings.reading = arguments.reading.options(arguments.namespace.as_deref());
    settings.grpc_addr = arguments.grpc_addr.0;
    settings.secure_grpc_addr = arguments.secure_grpc_addr.0;
    settings.http_addr = arguments.http_addr.0;
    settings.ca_dir = arguments.ca_dir;
    settings.dns_names = arguments.dns_names;
    settings.lifetimes = lifetimes;
    settings.tokens = arguments.token_keys.zip(arguments.token_issuer).map(|(keys, issuer)| {
        let mut tokens = TokenSettings::new(keys, issuer);
        tokens.audiences = arguments.token_audiences;
        tokens
    });
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

/// Completes when the process receives SIGINT or SIGTERM.
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

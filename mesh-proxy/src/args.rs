//! Command-line flags. Flags that Envoy has too have the same names, so scripts and Istio's agent can start this program
//! instead of Envoy.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// A sidecar and gateway configured by an Envoy bootstrap or by a directory of Istio resources.
#[derive(Clone, Debug, Parser)]
#[command(name = "mesh-proxy", version, about, disable_help_subcommand = true)]
#[command(group(clap::ArgGroup::new("source").required(true).multiple(true).args(["config_path", "config_yaml", "istio"])))]
pub(crate) struct Args {
    /// Envoy bootstrap file: YAML, JSON or protobuf by its extension.
    #[arg(short = 'c', long, value_name = "FILE", conflicts_with = "istio")]
    pub(crate) config_path: Option<PathBuf>,

    /// Envoy bootstrap as YAML; merged into the one of --config-path.
    #[arg(long, value_name = "YAML", conflicts_with = "istio")]
    pub(crate) config_yaml: Option<String>,

    /// Directory of Istio resources (*.yaml, *.yml, *.json), reloaded when it changes.
    #[arg(long, value_name = "DIR")]
    pub(crate) istio: Option<PathBuf>,

    /// Directory of a certificate authority, with Istio's file names: ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem.
    /// The workload gets its certificate from it. `mesh-control ca init` makes one.
    #[arg(long, value_name = "DIR", requires = "istio")]
    pub(crate) ca: Option<PathBuf>,

    /// Lifetime of the workload's certificate, which is renewed at about half of it.
    #[arg(long, value_name = "SECONDS", requires = "ca", default_value_t = 24 * 3600,
          value_parser = clap::value_parser!(u64).range(1..=90 * 24 * 3600))]
    pub(crate) certificate_ttl_s: u64,

    /// Service account of the workload, for its certificate; defaults to that of its endpoints.
    #[arg(long, value_name = "NAME", requires = "istio")]
    pub(crate) service_account: Option<String>,

    /// The service of the workload.
    #[arg(long, value_name = "NAME[.NAMESPACE]", requires = "istio")]
    pub(crate) service: Option<String>,

    /// Role of the proxy in the mesh.
    #[arg(long, value_enum, default_value_t = Role::Sidecar)]
    pub(crate) role: Role,

    /// Label of the workload, by which Gateway and Sidecar resources select it; repeatable. The default of a gateway is
    /// istio=ingressgateway.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,

    /// Namespace of the workload, in which short names are resolved, and of resources that name none; defaults to that of
    /// the service for the workload, and to `default`.
    #[arg(long)]
    pub(crate) namespace: Option<String>,

    /// Allow RequestAuthentications to fetch keys from loopback and link-local addresses.
    #[arg(long)]
    pub(crate) allow_local_jwks_uri: bool,

    /// Address of the admin endpoint; overrides the bootstrap's.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) admin: Option<SocketAddr>,

    /// File to which the address of the admin endpoint is written.
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_address_path: Option<PathBuf>,

    /// Serve requests, or only validate the configuration.
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    pub(crate) mode: Mode,

    /// Number of worker threads, each with its own listening sockets and upstream connections; defaults to the number of
    /// CPUs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) concurrency: Option<u32>,

    /// Minimum level of the messages that are logged.
    #[arg(short = 'l', long, value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,

    /// ID of this node, for control planes; overrides the bootstrap's.
    #[arg(long, value_name = "ID")]
    pub(crate) service_node: Option<String>,

    /// Name of the cluster that this node belongs to; overrides the bootstrap's.
    #[arg(long, value_name = "NAME")]
    pub(crate) service_cluster: Option<String>,

    /// Seconds that active requests have to finish when the proxy shuts down or a listener is removed.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) drain_time_s: u64,

    /// Preferred address family.
    #[arg(long, value_enum, default_value_t = IpVersion::V4)]
    pub(crate) local_address_ip_version: IpVersion,

    /// Flags without effect.
    #[command(flatten)]
    pub(crate) compatibility: Compatibility,
}

/// Flags that scripts and Istio's agent pass to Envoy and that have no effect here: there is no hot restart and no shared
/// memory, and log files are flushed every second.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Accepted for compatibility, without effect")]
#[expect(clippy::struct_excessive_bools, reason = "one per flag of Envoy")]
pub(crate) struct Compatibility {
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub(crate) parent_shutdown_time_s: u64,
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) base_id: u32,
    #[arg(long)]
    pub(crate) use_dynamic_base_id: bool,
    #[arg(long)]
    pub(crate) disable_hot_restart: bool,
    #[arg(long, value_name = "STRATEGY", default_value = "gradual")]
    pub(crate) drain_strategy: String,
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000)]
    pub(crate) file_flush_interval_msec: u64,
    #[arg(long, value_name = "NAME:LEVEL,...")]
    pub(crate) component_log_level: Option<String>,
    #[arg(long)]
    pub(crate) skip_deprecated_logs: bool,
    #[arg(long)]
    pub(crate) allow_unknown_static_fields: bool,
}

/// The role of a proxy in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// The proxy of one workload.
    Sidecar,
    /// A proxy at the edge, with the ports of the Gateway resources that select it.
    Gateway,
}

/// Whether the configuration is served or validated. Envoy `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Serve requests.
    Serve,
    /// Validate the configuration and exit with 0 if it is valid, 1 if not.
    Validate,
}

/// Envoy's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// All messages.
    Trace,
    /// Details for debugging.
    Debug,
    /// Changes of the configuration.
    Info,
    /// Possible problems.
    #[value(alias = "warning")]
    Warn,
    /// Errors.
    #[value(alias = "err")]
    Error,
    /// Errors that end the process.
    Critical,
    /// No messages.
    Off,
}

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Args {
    /// Number of worker threads.
    pub(crate) fn workers(&self) -> usize {
        let default = || std::thread::available_parallelism().map_or(1, usize::from);
        self.concurrency.map_or_else(default, |n| n as usize)
    }

    /// Time that active requests have to finish.
    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_time_s)
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_command_lines_of_envoy_and_of_istios_agent_are_accepted() {
        let envoy = "mesh-proxy -c e.yaml --concurrency 1 --disable-hot-restart -l warning";
        let args = parse(envoy).unwrap();
        assert_eq!((args.log_level, args.workers(), args.mode), (LogLevel::Warn, 1, Mode::Serve));
        let agent = "mesh-proxy -c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate \
                     --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart \
                     --allow-unknown-static-fields -l warning --component-log-level misc:error --concurrency 2";
        assert_eq!(parse(agent).unwrap().drain_time(), Duration::from_secs(45));
    }

    #[test]
    fn a_bootstrap_or_a_directory_is_required() {
        for line in ["mesh-proxy", "mesh-proxy -c a --istio b", "mesh-proxy --istio d --label novalue"] {
            assert!(parse(line).is_err(), "{line}");
        }
        let args = parse("mesh-proxy --istio d --role gateway --label a=b --label c=d=e").unwrap();
        assert_eq!(args.labels, [("a".into(), "b".into()), ("c".into(), "d=e".into())]);
    }
}

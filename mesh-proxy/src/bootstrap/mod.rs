//! `-c envoy.yaml`: reads an Envoy bootstrap, checks it and applies it to the store.

mod check;
mod text;

use std::{fs, io, path::PathBuf, time::Instant};

use mesh_control::diagnostic::{Diagnostic, Style};
use mesh_core::{rng::SplitMix64, store::Store};
use mesh_xds::{
    bootstrap::{self, Bootstrap, BootstrapError},
    client::applier::apply_static,
    proto::envoy::config::bootstrap::v3::Bootstrap as ProtoBootstrap,
    resource::ResourceError,
};
use prost::Message as _;
use thiserror::Error;

use self::text::Text;
use crate::{args::Args, control_plane};

/// A bootstrap that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is not an encoded message.
    #[error("{}: not an encoded Bootstrap: {source}", path.display())]
    Malformed { path: PathBuf, source: prost::DecodeError },
    /// It is in protobuf's text format.
    #[error("{}: protobuf's text format is not supported; write the bootstrap as YAML, JSON or .pb", path.display())]
    TextFormat { path: PathBuf },
    /// Control planes ask for the identity of the process.
    #[error(
        "node id and cluster are required by the control planes of the bootstrap: set them in node, or with \
         --service-node and --service-cluster"
    )]
    NoNode,
    /// A secret in a file cannot be read.
    #[error("{0}")]
    Secret(String),
    /// It is invalid or inconsistent, or uses features that are not supported.
    #[error("the bootstrap has errors\n{}", report(.0))]
    Invalid(Vec<Diagnostic>),
}

fn report(diagnostics: &[Diagnostic]) -> String {
    let style = Style::of(&io::stderr());
    diagnostics.iter().map(|diagnostic| diagnostic.render(style)).collect()
}

/// A bootstrap: the message and its decoded form.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) proto: ProtoBootstrap,
    pub(crate) bootstrap: Bootstrap,
}

/// Reads the bootstrap that the flags name.
pub(crate) fn load(args: &Args) -> Result<Loaded, LoadError> {
    let mut proto = ProtoBootstrap::default();
    let mut texts = Vec::new();
    if let Some(path) = &args.config_path {
        let read = |source| LoadError::Read { path: path.clone(), source };
        if path.extension().is_some_and(|extension| extension == "pb") {
            let bytes = fs::read(path).map_err(read)?;
            proto = ProtoBootstrap::decode(&*bytes)
                .map_err(|source| LoadError::Malformed { path: path.clone(), source })?;
        } else if path.extension().is_some_and(|extension| extension == "pb_text") {
            return Err(LoadError::TextFormat { path: path.clone() });
        } else {
            texts.push(Text::parse(path.clone(), fs::read_to_string(path).map_err(read)?)?);
        }
    }
    if let Some(yaml) = &args.config_yaml {
        texts.push(Text::parse(PathBuf::from("--config-yaml"), yaml.clone())?);
    }
    for text in &mut texts {
        text.merge_into(&mut proto)?;
    }
    let invalid = |error: BootstrapError| {
        let mut diagnostics: Vec<_> = error.faults.iter().map(|fault| text::diagnostic(&texts, fault)).collect();
        diagnostics.sort_by_key(|diagnostic| (diagnostic.position.line, diagnostic.position.column));
        LoadError::Invalid(diagnostics)
    };
    let mut bootstrap = bootstrap::from_proto(&proto).map_err(invalid)?;
    check::routes(&proto, &bootstrap).map_err(invalid)?;
    check::secrets(&bootstrap).map_err(LoadError::Secret)?;
    if control_plane::is_needed(&bootstrap) {
        let node = &mut bootstrap.node;
        node.id = args.service_node.clone().unwrap_or_else(|| std::mem::take(&mut node.id));
        node.cluster = args.service_cluster.clone().unwrap_or_else(|| std::mem::take(&mut node.cluster));
        if node.id.is_empty() || node.cluster.is_empty() {
            return Err(LoadError::NoNode);
        }
    }
    bootstrap.ignored.extend(texts.iter().flat_map(Text::overridden));
    Ok(Loaded { proto, bootstrap })
}

impl Loaded {
    /// Puts clusters and listeners into `store`.
    pub(crate) fn apply(&self, store: &Store, rng: &mut SplitMix64) -> Result<(), ResourceError> {
        apply_static(store, self.bootstrap.resources.iter().cloned(), Instant::now(), rng)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const LISTENER: &str = "
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: up}}]}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
";

    fn load_yaml(yaml: &str) -> Result<Loaded, LoadError> {
        load(&Args::parse_from(["mesh-proxy", "--config-yaml", yaml]))
    }

    #[test]
    fn a_reference_to_an_unknown_cluster_is_refused() {
        let error = load_yaml(LISTENER).unwrap_err().to_string();
        let (place, field) = ("--> --config-yaml:12:", "routes[0].route.cluster of listener main");
        assert!(
            error.contains("there is no cluster \"up\"") && error.contains(place) && error.contains(field),
            "{error}"
        );
        let chain = "
    - filter_chain_match: {server_names: [a]}
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: t
          cluster: db
";
        let proxied = load_yaml(&format!("{}{chain}", LISTENER.trim_end())).unwrap_err().to_string();
        let field = "filter_chains[1].filters[0].typed_config.cluster of listener main";
        assert!(proxied.contains("there is no cluster \"db\"") && proxied.contains(field), "{proxied}");

        let whole = format!("{LISTENER}  clusters: [{{name: up, type: STATIC, connect_timeout: 1s}}]\n");
        let filter = "          http_filters:
          - name: authz
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              http_service: {server_uri: {uri: u, cluster: authz, timeout: 1s}}
";
        let asked = load_yaml(&whole.replace("          http_filters:\n", filter)).unwrap_err().to_string();
        let field = "http_filters[authz].typed_config.http_service.server_uri.cluster of listener main";
        assert!(asked.contains("there is no cluster \"authz\"") && asked.contains(field), "{asked}");

        let loaded = load_yaml(&whole).unwrap();
        let store = Store::new();
        loaded.apply(&store, &mut SplitMix64::new(1)).unwrap();
        assert!(store.cluster("up").is_some() && store.listeners().contains_key("main"));
    }

    #[test]
    fn errors_are_shown_with_their_position() {
        let file = std::env::temp_dir().join(format!("mesh-proxy-bootstrap-{}.yaml", std::process::id()));
        let check = |from: &str, to: &str, over: &str, expected: &[&str]| {
            let whole = format!("{LISTENER}  clusters: [{{name: up, type: STATIC, connect_timeout: 1s}}]\n");
            let text = whole.replacen(from, to, 1);
            assert!(from.is_empty() || text != whole, "{from:?} is not in the text");
            fs::write(&file, text).unwrap();
            let path = file.display().to_string();
            let error = load(&Args::parse_from(["mesh-proxy", "-c", &path, "--config-yaml", over])).unwrap_err();
            let lines: Vec<String> = error.to_string().lines().map(|line| line.trim().replace(&path, "FILE")).collect();
            for part in expected {
                assert!(lines.iter().any(|line| line == part), "{part:?} is not in {lines:#?}");
            }
        };
        let too_much = "clusters: [{name: b, outlierDetection: {maxEjectionPercent: 120}}, {name: up, type: STATIC";
        check(
            "clusters: [{name: up, type: STATIC",
            too_much,
            "{}",
            &[
                "error[MESH0005]: max_ejection_percent: 120 is not in 0..=100",
                "--> FILE:16:63",
                "= in: outlier_detection.max_ejection_percent of cluster b",
            ],
        );
        check(
            "prefix: /}",
            "prefix: /, cookies: [{name: a, string_match: {exact: b}}]}",
            "{}",
            &["error[MESH0005]: cookies: not supported"],
        );
        check("stat_prefix: in", "stat_prfix: in", "{}", &["--> FILE:11:11", "|           ^^^^^^^^^^"]);
        check(
            "address: 127.0.0.1",
            "address: [",
            "{}",
            &["error[MESH0002]: unexpected EOF while parsing an implicit flow mapping"],
        );
        let over = "static_resources: {clusters: [{name: c, type: STATIC}, {name: up}]}";
        check("", "", over, &["--> --config-yaml:1:63", "= in: name of cluster up"]);
        check("", "", "admin: {allow_paths: [{exact: x}]}", &["--> --config-yaml:1:9", "= in: admin.allow_paths"]);
        check("stat_prefix: in", "{}: in", "{}", &["error[MESH0002]: a key must be a string, found an object"]);
        check(
            "stat_prefix: in",
            "stat_prefix: ''",
            "node: {id: 1, cluster: 2}",
            &["--> --config-yaml:1:12", "--> --config-yaml:1:24"],
        );
        check(
            "stat_prefix: in",
            "stat_prefix: ''",
            "{}",
            &["error[MESH0005]: stat_prefix: must have at least 1 character", "--> FILE:11:24"],
        );
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn an_encoded_bootstrap_is_read_by_its_extension() {
        let file = |extension: &str| {
            std::env::temp_dir().join(format!("mesh-proxy-encoded-{}.{extension}", std::process::id()))
        };
        let load_file = |path: &std::path::Path, bytes: &[u8]| {
            fs::write(path, bytes).unwrap();
            let loaded = load(&Args::parse_from(["mesh-proxy", "-c", &path.display().to_string()]));
            fs::remove_file(path).unwrap();
            loaded.map(|loaded| loaded.bootstrap.resources.len()).map_err(|error| error.to_string())
        };
        let whole = format!("{LISTENER}  clusters: [{{name: up, type: STATIC, connect_timeout: 1s}}]\n");
        let bytes = load_yaml(&whole).unwrap().proto.encode_to_vec();
        assert_eq!(load_file(&file("pb"), &bytes), Ok(2));
        assert!(load_file(&file("pb"), b"node: {}").unwrap_err().contains("not an encoded Bootstrap"));
        assert!(load_file(&file("pb_text"), b"").unwrap_err().contains("text format is not supported"));
        assert!(load_file(&file("json"), b"node: {id: a}").unwrap_err().contains("must be JSON, found YAML"));
    }

    #[test]
    fn what_a_text_says_twice_is_reported() {
        let loaded = load_yaml("node: {id: a, id: b}\n---\nx").unwrap();
        let ignored: Vec<String> =
            loaded.bootstrap.ignored.iter().map(|(place, note)| format!("{place}: {note}")).collect();
        let twice = "--config-yaml:1:8: id: it is given again below, and the last one counts";
        assert_eq!(ignored, [twice, "--config-yaml:2:1: ---: only the first document of a file is read"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let args = Args::parse_from(["mesh-proxy", "-c", "/nonexistent/envoy.yaml"]);
        let error = load(&args).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nonexistent/envoy.yaml: No such file"), "{error}");
    }
}

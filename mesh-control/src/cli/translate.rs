//! `mesh-control translate DIR --service X`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use mesh_control::config::Labels;
use mesh_control::diagnostic::Style;
use mesh_control::load::Loaded;
use mesh_control::registry::Registry;
use mesh_control::translate::{self, Interception, Node, NodeError, Resources};
use mesh_xds::json;
use prost::{Message, Name};
use serde_json::{Map, Value};

/// Arguments of `translate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Directory with `*.yaml`, `*.yml` and `*.json` files, searched recursively.
    directory: PathBuf,
    /// The service that the node serves: NAME, NAME.NAMESPACE or a full host name. A gateway, or a program that only calls
    /// others, needs none.
    #[arg(long)]
    service: Option<String>,
    /// What the node is.
    #[arg(long, value_enum, default_value_t = Role::Library)]
    role: Role,
    /// A label of the workload, as KEY=VALUE; may be given several times. By default those that all endpoints of the
    /// service share, and `istio=ingressgateway` for a gateway.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Namespace of resources that name none, by default `default`; and namespace of the node, in which short names are looked
    /// up, by default that of the service.
    #[arg(short, long, value_parser = super::parse_namespace)]
    namespace: Option<String>,
    #[command(flatten)]
    reading: super::Reading,
    /// Translate for a mesh whose workloads get certificates from a certificate authority.
    #[arg(long)]
    mtls: bool,
    /// Print this type of resource only.
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// A proxy beside a workload, which listens on the ports of Sidecar resources.
    Sidecar,
    /// A proxy beside a workload whose traffic the kernel redirects.
    Intercepting,
    /// A proxy at the edge.
    Gateway,
    /// A program that is itself part of the mesh.
    Library,
    /// A program with a gRPC library alone.
    Grpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Listeners.
    Lds,
    /// Routes.
    Rds,
    /// Clusters.
    Cds,
    /// Endpoints.
    Eds,
    /// Secrets, without their private keys.
    Sds,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Exit code 0 if the configuration could be translated, 1 if it has errors.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let options = arguments.reading.options(arguments.namespace.as_deref()).with_certificates(arguments.mtls);
    let loaded = match Loaded::from_directory(&arguments.directory, options) {
        Ok(loaded) => loaded,
        Err(error) => return super::fail(&error),
    };
    if !loaded.is_valid() {
        let mut out = io::stderr().lock();
        let style = Style::of(&out);
        for diagnostic in &loaded.diagnostics {
            let _ = writeln!(out, "{}", diagnostic.render(style));
        }
        return ExitCode::FAILURE;
    }
    let node = match node(arguments) {
        Ok(node) => node,
        Err(error) => return super::fail(&error),
    };
    warn_of_unknown_service(&node, &loaded.mesh.registry);
    let mut resources = translate::translate(&loaded.mesh, &node);
    if matches!(arguments.role, Role::Grpc) {
        resources = translate::for_grpc(resources);
    }
    let text = serde_json::to_string_pretty(&to_json(&resources, arguments.kind)).unwrap_or_default();
    super::written(writeln!(io::stdout().lock(), "{text}"), ExitCode::SUCCESS)
}

/// A service that no file declares is allowed, but most likely misspelt.
fn warn_of_unknown_service(node: &Node, registry: &Registry) {
    let Some(host) = node.service.as_ref().filter(|host| registry.find(host, &node.namespace).is_none()) else {
        return;
    };
    let known: Vec<_> = registry.visible_to(&node.namespace).map(|service| service.host.to_string()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let _ = writeln!(io::stderr().lock(), "warning: there is no service {host}; there are: {known}");
}

/// Why the arguments do not describe a node.
#[derive(Debug, thiserror::Error)]
enum ArgumentsError {
    #[error("a sidecar needs --service NAME[.NAMESPACE]")]
    NoService,
    #[error(transparent)]
    Node(#[from] NodeError),
}

fn node(arguments: &Arguments) -> Result<Node, ArgumentsError> {
    let role = match arguments.role {
        Role::Sidecar => translate::Role::Sidecar(Interception::None),
        Role::Intercepting => translate::Role::Sidecar(Interception::Redirect),
        Role::Gateway => translate::Role::Gateway,
        Role::Library | Role::Grpc => translate::Role::Library,
    };
    if arguments.service.is_none() && matches!(role, translate::Role::Sidecar(_)) {
        return Err(ArgumentsError::NoService);
    }
    let labels: Labels = arguments.labels.iter().cloned().collect();
    Ok(Node::new(role, arguments.service.as_deref(), arguments.namespace.as_deref(), labels)?)
}

fn to_json(resources: &Resources, only: Option<Kind>) -> Value {
    let Resources { listeners, routes, clusters, endpoints, secrets } = resources;
    let secrets: Vec<_> = secrets.iter().map(translate::redacted).collect();
    let all = [
        (Kind::Lds, "listeners", list(listeners)),
        (Kind::Rds, "routes", list(routes)),
        (Kind::Cds, "clusters", list(clusters)),
        (Kind::Eds, "endpoints", list(endpoints)),
        (Kind::Sds, "secrets", list(&secrets)),
    ];
    let wanted = all.into_iter().filter(|(kind, ..)| only.is_none_or(|only| only == *kind));
    Value::Object(wanted.map(|(_, name, list)| (name.to_owned(), list)).collect())
}

fn list<M: Message + Name>(resources: &[M]) -> Value {
    let typed = |resource: &M| {
        let mut fields = Map::from_iter([("@type".to_owned(), Value::String(M::type_url()))]);
        if let Ok(Value::Object(own)) = serde_json::to_value(json::to_json(resource)) {
            fields.extend(own);
        }
        Value::Object(fields)
    };
    Value::Array(resources.iter().map(typed).collect())
}

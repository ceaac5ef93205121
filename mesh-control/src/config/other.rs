//! YAML that is no Kubernetes object, but is often in the same directory.

use std::path::Path;

use mesh_core::nearest::nearest;

use super::Kind;
use crate::document::{Node, Value};

/// What a file seems to be that has no Kubernetes object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Other {
    Kustomization,
    JsonPatch,
    HelmTemplate,
    HelmChart,
    HelmValues,
    EnvoyBootstrap,
    MeshConfig,
    Compose,
    OpenApi,
    Unknown,
}

/// Fields that a document of a kind has. The first that fits counts.
const FIELDS: [(&[&str], Other); 10] = [
    (&["static_resources"], Other::EnvoyBootstrap),
    (&["dynamic_resources"], Other::EnvoyBootstrap),
    (&["node", "admin"], Other::EnvoyBootstrap),
    (&["meshConfig"], Other::MeshConfig),
    (&["defaultConfig"], Other::MeshConfig),
    (&["outboundTrafficPolicy"], Other::MeshConfig),
    (&["accessLogFile"], Other::MeshConfig),
    (&["services"], Other::Compose),
    (&["openapi"], Other::OpenApi),
    (&["swagger"], Other::OpenApi),
];

impl Other {
    /// What a document is that has neither `apiVersion` nor `kind`, or no fields at all; `None` if it seems to be an object.
    pub(super) fn instead_of_object(node: &Node) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            let is_operation = |item: &Node| item.get("op").is_some() && item.get("path").is_some();
            let is_patch = matches!(&node.value, Value::Sequence(items) if items.first().is_some_and(is_operation));
            return Some(if is_patch { Self::JsonPatch } else { Self::Unknown });
        };
        let has = |name: &str| node.get(name).is_some();
        let has_body = has("metadata") || has("spec");
        let seems_object = match (has("apiVersion"), has("kind")) {
            (true, true) => true,
            (true, false) if has("name") && has("version") && !has_body => return Some(Self::HelmChart),
            (true, false) => {
                let is_near = |name: &str| nearest(name, std::iter::once("kind")).is_some();
                has_body || entries.iter().any(|(key, _)| is_near(&key.name))
            }
            (false, true) => has_body || node.get("kind").and_then(Node::text).is_some_and(is_like_kind),
            // Both may be misspelt.
            (false, false) => {
                let is_near = |name: &str| nearest(name, ["apiVersion", "kind"].into_iter()).is_some();
                has_body && entries.iter().any(|(key, _)| is_near(&key.name))
            }
        };
        let by_fields = || FIELDS.iter().find(|(fields, _)| fields.iter().all(|field| has(field)));
        (!seems_object).then(|| by_fields().map_or(Self::Unknown, |(_, other)| *other))
    }

    /// What the name of the file says, if the document itself does not. `is_in_chart`: whether it belongs to a Helm chart.
    pub(super) fn named(self, path: &Path, is_in_chart: bool) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match self {
            Self::HelmTemplate => self,
            _ if name == "kustomization" => Self::Kustomization,
            Self::Unknown if name == "chart" => Self::HelmChart,
            _ if name.starts_with("values") || name.ends_with("values") => Self::HelmValues,
            Self::Unknown if is_in_chart => Self::HelmValues,
            other => other,
        }
    }

    /// Whether a document has the values that Helm fills in, in strings.
    pub(super) fn has_template(node: &Node) -> bool {
        let mut is_found = false;
        node.for_each_text(&mut |text| is_found |= actions(text).any(is_of_helm));
        is_found || metadata_texts(node).any(is_templated)
    }

    /// Whether text that is not YAML is so because it is a template.
    pub(super) fn is_template(text: &str) -> bool {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.flat_map(actions).any(|action| is_of_helm(action) || is_of_go(action))
    }

    /// What it is, after "this seems to be".
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Kustomization => "a kustomization",
            Self::JsonPatch => "a JSON patch, as kustomizations have them",
            Self::HelmTemplate => "a Helm template",
            Self::HelmChart => "the description of a Helm chart",
            Self::HelmValues => "values of a Helm chart",
            Self::EnvoyBootstrap => "an Envoy bootstrap",
            Self::MeshConfig => "Istio's MeshConfig",
            Self::Compose => "a Compose file",
            Self::OpenApi => "an OpenAPI description",
            Self::Unknown => "something else than a Kubernetes object: it has no apiVersion and kind",
        }
    }

    /// How to get resources from it, or where else it can be used.
    pub(super) fn help(self) -> Option<&'static str> {
        match self {
            Self::Kustomization | Self::JsonPatch => {
                Some("`kubectl kustomize DIR` prints the resources that a kustomization makes")
            }
            Self::HelmTemplate | Self::HelmChart | Self::HelmValues => {
                Some("`helm template CHART` prints the resources that a chart makes")
            }
            Self::EnvoyBootstrap => Some("`mesh-proxy -c FILE` reads it"),
            Self::MeshConfig => {
                Some("the mesh has MeshConfig in `data.mesh` of the ConfigMap `istio` in `istio-system`")
            }
            Self::Compose | Self::OpenApi | Self::Unknown => None,
        }
    }
}

/// Whether text has a template's placeholder.
pub(super) fn is_templated(text: &str) -> bool {
    actions(text).next().is_some()
}

fn is_like_kind(kind: &str) -> bool {
    nearest(kind, Kind::ALL.iter().map(|kind| kind.as_str())).is_some()
}

/// Name and namespace.
fn metadata_texts(node: &Node) -> impl Iterator<Item = &str> {
    let metadata = node.get("metadata");
    ["name", "namespace"].into_iter().filter_map(move |name| metadata?.get(name)?.text())
}

/// What is between `{{` and `}}`.
fn actions(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("{{").skip(1);
    after.filter_map(|rest| rest.split_once("}}").map(|(action, _)| action.trim_matches(['-', ' ', '\t'])))
}

/// Whether an action uses what only Helm provides.
fn is_of_helm(action: &str) -> bool {
    const NAMES: [&str; 9] = [
        ".Values",
        ".Release",
        ".Chart",
        ".Capabilities",
        ".Template",
        ".Files",
        "include \"",
        "template \"",
        "define \"",
    ];
    NAMES.iter().any(|name| action.contains(name))
}

/// Whether an action is one of Go's templates: a keyword, a variable, a field or a comment.
fn is_of_go(action: &str) -> bool {
    const KEYWORDS: [&str; 7] = ["if", "else", "end", "range", "with", "block", "toYaml"];
    let word = action.split_whitespace().next().unwrap_or_default();
    KEYWORDS.contains(&word) || action.starts_with(['.', '$']) || action.starts_with("/*")
}

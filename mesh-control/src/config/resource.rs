//! Turns the documents of files into resources, by `apiVersion` and `kind`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::gaps::Gaps;
use super::metadata::Metadata;
use super::reader::{Context, Document, Located, Object, nearest};
use super::yaml::{self, Node, Value};
use super::{Config, DestinationRule, Gateway, Read, ServiceEntry, Sidecar, Strictness, VirtualService, WorkloadEntry};
use crate::diagnostic::{Code, Diagnostic, Position, Source};

/// The kinds that are implemented.
const KINDS: [&str; 6] = ["VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry", "Gateway", "Sidecar"];
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];
const GROUP: &str = "networking.istio.io";
/// Kinds that protect something: to go without would be worse than not to start.
const SECURITY_GROUP: &str = "security.istio.io";

/// Reads files one after the other.
#[derive(Debug)]
pub(super) struct Reader {
    strictness: Strictness,
    config: Config,
    diagnostics: Vec<Diagnostic>,
    gaps: Gaps,
    /// Kind, namespace and name of what was read, and where.
    declared: HashMap<(&'static str, String, String), Position>,
}

/// What the first fields of a resource say.
enum Header {
    /// `kind: List`, whose items are the resources.
    List,
    Resource(Metadata),
    /// A kind that is left out on purpose.
    LeftOut,
}

impl Reader {
    pub(super) fn new(strictness: Strictness) -> Self {
        Self {
            strictness,
            config: Config::default(),
            diagnostics: Vec::new(),
            gaps: Gaps::default(),
            declared: HashMap::new(),
        }
    }

    /// What was read.
    pub(super) fn finish(self) -> Read {
        let Self { config, diagnostics, gaps, .. } = self;
        Read { config, diagnostics, gaps }
    }

    pub(super) fn read(&mut self, source: &Arc<Source>) {
        match yaml::parse(source) {
            Ok(nodes) => nodes.iter().for_each(|node| self.read_node(node, source)),
            Err(diagnostic) => {
                self.diagnostics.push(*diagnostic);
                self.gaps.add_unknown();
            }
        }
    }

    fn read_node(&mut self, node: &Node, source: &Arc<Source>) {
        let mut document = self.document(source, String::new(), String::new());
        let header = read_header(node, Context::root(&document));
        self.diagnostics.append(document.diagnostics.get_mut());
        match header {
            None => self.gaps.add_unknown(),
            Some(Header::LeftOut) => {}
            Some(Header::List) => {
                for item in list_items(node) {
                    self.read_node(item, source);
                }
            }
            Some(Header::Resource(metadata)) => self.read_resource(node, metadata, source),
        }
    }

    fn read_resource(&mut self, node: &Node, metadata: Metadata, source: &Arc<Source>) {
        let identity = (metadata.kind, metadata.namespace.clone(), metadata.name.clone());
        if let Some(first) = self.declared.get(&identity) {
            let message = format!("{} is declared twice", metadata.resource());
            let diagnostic = Diagnostic::error(Code::Duplicate, metadata.position.clone(), message)
                .at(metadata.resource(), "metadata.name")
                .label("second declaration")
                .help(format!("the first declaration is at {first}"));
            self.diagnostics.push(diagnostic);
            return;
        }
        self.declared.insert(identity, metadata.position.clone());
        let mut document = self.document(source, metadata.resource(), metadata.namespace.clone());
        let kind = metadata.kind;
        let is_read = read_spec(node, metadata, Context::root(&document), &mut self.config).is_some();
        let found = document.diagnostics.get_mut();
        if is_read {
            self.gaps.add_read(kind, found);
        } else {
            self.gaps.add_missing(kind);
        }
        self.diagnostics.append(found);
    }

    fn document(&self, source: &Arc<Source>, resource: String, namespace: String) -> Document {
        let (source, strictness) = (Arc::clone(source), self.strictness);
        Document { source, resource, namespace, strictness, diagnostics: RefCell::default() }
    }
}

fn list_items(node: &Node) -> &[Node] {
    let Value::Mapping(entries) = &node.value else { return &[] };
    match entries.iter().find(|(key, _)| key.name == "items").map(|(_, items)| &items.value) {
        Some(Value::Sequence(items)) => items,
        _ => &[],
    }
}

fn read_header(node: &Node, cx: Context<'_>) -> Option<Header> {
    let object = Object::new(node, cx)?;
    let (api_version, kind) = (object.required("apiVersion"), object.required("kind"));
    let (Some(api_version), Some(kind)): (Option<Located<String>>, Option<Located<String>>) = (api_version, kind)
    else {
        // Most likely one of them is there, misspelt.
        object.ignored(&["metadata", "spec", "status", "items"]);
        object.finish();
        return None;
    };
    if kind.value == "List" {
        return Some(Header::List);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let known = KINDS.into_iter().find(|known| group == GROUP && *known == kind.value);
    if known.is_none() && KINDS.contains(&kind.value.as_str()) && !is_other_group(group) {
        let message = format!("{:?} is not the API of {}", api_version.value, kind.value);
        cx.field("apiVersion").refuse(
            api_version.position.clone(),
            message,
            format!("expected {GROUP}/{}", VERSIONS[0]),
        );
        return None;
    }
    let Some(known) = known else {
        let nearest = nearest(&kind.value, KINDS.into_iter()).filter(|_| group == GROUP);
        refuse_kind(group, &kind, nearest, cx);
        // A misspelt kind is not left out but missing.
        return nearest.is_none().then_some(Header::LeftOut);
    };
    if !VERSIONS.contains(&version) {
        let message = format!("{known} has no version {version:?}");
        let expected = format!("expected {GROUP}/ and one of {}", VERSIONS.join(", "));
        cx.field("apiVersion").refuse(api_version.position.clone(), message, expected);
    }
    Metadata::read(known, &object, cx).map(Header::Resource)
}

/// Whether some other API may have a kind of the same name, as Kubernetes' Gateway API has.
fn is_other_group(group: &str) -> bool {
    group.contains('.') && nearest(group, std::iter::once(GROUP)).is_none() && !GROUP.ends_with(group)
}

fn refuse_kind(group: &str, kind: &Located<String>, nearest: Option<&str>, cx: Context<'_>) {
    let name = if group.is_empty() || group.ends_with(".istio.io") {
        kind.value.clone()
    } else {
        format!("{} of {group}", kind.value)
    };
    let message = if group == SECURITY_GROUP {
        format!(
            "{name} is not supported yet: refusing to load a configuration whose security policy would not be enforced"
        )
    } else {
        format!("{name} is not supported yet")
    };
    cx.field("kind").unsupported_at(
        kind.position.clone(),
        message,
        Some(nearest.map_or_else(
            || format!("supported kinds: {}", KINDS.join(", ")),
            |nearest| format!("did you mean `{nearest}`?"),
        )),
    );
}

fn read_spec(node: &Node, metadata: Metadata, cx: Context<'_>, config: &mut Config) -> Option<()> {
    let object = Object::new(node, cx)?;
    object.ignored(&["apiVersion", "kind", "metadata", "status"]);
    let spec: Option<&Node> = object.node("spec");
    if spec.is_none() {
        object.missing("spec");
    }
    object.finish();
    let (spec, field) = (spec?, cx.field("spec"));
    match metadata.kind {
        "VirtualService" => config.virtual_services.push(VirtualService::read(metadata, spec, field)?),
        "DestinationRule" => config.destination_rules.push(DestinationRule::read(metadata, spec, field)?),
        "ServiceEntry" => config.service_entries.push(ServiceEntry::read(metadata, spec, field)?),
        "WorkloadEntry" => config.workload_entries.push(WorkloadEntry::read(metadata, spec, field)?),
        "Gateway" => config.gateways.push(Gateway::read(metadata, spec, field)?),
        _ => config.sidecars.push(Sidecar::read(metadata, spec, field)?),
    }
    Some(())
}

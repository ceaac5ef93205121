//! Turns the documents of files into resources, by `apiVersion` and `kind`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::completeness::Completeness;
use super::metadata::Metadata;
use super::{Config, Kind, Read, Strictness};
use mesh_core::nearest::nearest;

use crate::diagnostic::{Code, Diagnostic, Position, Source};
use crate::document::{Context, Document, Located, Node, Object, Value, parse};

/// The group of the kinds that protect workloads: a mesh must not start without enforcing them.
const SECURITY_GROUP: &str = "security.istio.io";

/// Reads files one after the other.
#[derive(Debug)]
pub(super) struct Reader {
    strictness: Strictness,
    config: Config,
    diagnostics: Vec<Diagnostic>,
    completeness: Completeness,
    /// Kind, namespace and name of each resource so far, and its position.
    declared: HashMap<(Kind, String, String), Position>,
}

/// The outcome of reading `apiVersion`, `kind` and `metadata`.
enum Header {
    /// `kind: List`, whose items are the resources.
    List,
    Resource(Metadata),
    /// A kind of Istio or of another API that this version does not implement.
    Unsupported,
}

impl Reader {
    pub(super) fn new(strictness: Strictness) -> Self {
        Self {
            strictness,
            config: Config::default(),
            diagnostics: Vec::new(),
            completeness: Completeness::default(),
            declared: HashMap::new(),
        }
    }

    /// What was read.
    pub(super) fn finish(self) -> Read {
        let Self { config, diagnostics, completeness, .. } = self;
        Read { config, diagnostics, completeness }
    }

    pub(super) fn read(&mut self, source: &Arc<Source>) {
        match parse(source) {
            Ok(nodes) => nodes.iter().for_each(|node| self.read_node(node, source)),
            Err(diagnostic) => {
                self.diagnostics.push(*diagnostic);
                self.completeness.lose_any();
            }
        }
    }

    fn read_node(&mut self, node: &Node, source: &Arc<Source>) {
        let mut document = self.document(source, String::new(), String::new());
        let header = read_header(node, Context::root(&document));
        self.diagnostics.append(document.diagnostics.get_mut());
        match header {
            None => self.completeness.lose_any(),
            Some(Header::Unsupported) => {}
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
            self.completeness.record(kind, found);
        } else {
            self.completeness.lose(kind);
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
        // Most likely the other one is misspelt.
        object.ignored(&["metadata", "spec", "status", "items"]);
        object.finish();
        return None;
    };
    if kind.value == "List" {
        return Some(Header::List);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let known = Kind::ALL.iter().copied().find(|known| known.as_str() == kind.value);
    let Some(known) = known.filter(|known| !is_other_group(group, known.api().group)) else {
        let names = Kind::ALL.iter().filter(|known| known.api().group == group).map(|known| known.as_str());
        let nearest = nearest(&kind.value, names);
        refuse_kind(group, &kind, nearest, cx);
        // A misspelt kind is one that other resources may refer to.
        return nearest.is_none().then_some(Header::Unsupported);
    };
    let api = known.api();
    if group != api.group {
        let message = format!("{:?} is not the API of {}", api_version.value, kind.value);
        let expected = format!("expected {}/{}", api.group, api.versions[0]);
        cx.field("apiVersion").refuse(api_version.position.clone(), message, expected);
        return None;
    }
    if !api.versions.contains(&version) {
        let message = format!("{} has no version {version:?}", kind.value);
        let expected = format!("expected {}/ and one of {}", api.group, api.versions.join(", "));
        cx.field("apiVersion").refuse(api_version.position.clone(), message, expected);
    }
    Metadata::read(known, &object, cx).map(Header::Resource)
}

/// Whether `group` is another API than `own`, which may have a kind of the same name, as Kubernetes' Gateway API has.
/// A group that resembles `own` is a misspelling of it.
fn is_other_group(group: &str, own: &str) -> bool {
    group.contains('.') && nearest(group, std::iter::once(own)).is_none() && !own.ends_with(group)
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
        Some(nearest.map_or_else(supported_kinds, |nearest| format!("did you mean `{nearest}`?"))),
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
    config.read(metadata, spec?, cx.field("spec"))
}

fn supported_kinds() -> String {
    let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!("supported kinds: {}", names.join(", "))
}

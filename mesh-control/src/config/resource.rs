//! Turns the documents of files into resources.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::completeness::Completeness;
use super::header::{self, Header};
use super::kind::Owner;
use super::left_alone;
use super::mesh_config::Holder;
use super::metadata::Metadata;
use super::other::Other;
use super::{Config, Kind, Options, Read};

use crate::diagnostic::{Code, Diagnostic, Position, Severity, Source};
use crate::document::{Context, Document, Node, Object, Part, parse, parse_part, parts};

/// Reads files one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    options: &'a Options,
    config: Config,
    diagnostics: Vec<Diagnostic>,
    completeness: Completeness,
    left_alone: left_alone::Counter,
    /// Kind, namespace and name of each resource so far, and its position.
    declared: HashMap<(Kind, String, String), Position>,
    /// Folders of Helm charts.
    charts: HashSet<PathBuf>,
    /// Files of which it has been reported what they seem to be.
    others: HashSet<PathBuf>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &[Arc<Source>], options: &'a Options) -> Self {
        let chart = |source: &Arc<Source>| {
            let is_chart = source.path.file_name().is_some_and(|name| name == "Chart.yaml");
            source.path.parent().filter(|_| is_chart).map(Path::to_owned)
        };
        Self {
            options,
            config: Config::default(),
            diagnostics: Vec::new(),
            completeness: Completeness::default(),
            left_alone: left_alone::Counter::default(),
            declared: HashMap::new(),
            charts: sources.iter().filter_map(chart).collect(),
            others: HashSet::new(),
        }
    }

    /// What was read.
    pub(super) fn finish(self) -> Read {
        let Self { config, diagnostics, completeness, left_alone, .. } = self;
        Read { config, diagnostics, completeness, left_alone: left_alone.finish() }
    }

    pub(super) fn read(&mut self, source: &Arc<Source>) {
        match parse(source) {
            Ok(nodes) => nodes.iter().for_each(|node| self.read_node(node, source)),
            Err(diagnostic) => self.read_parts(source, *diagnostic),
        }
    }

    /// Reads the documents of a file that is not valid as a whole.
    fn read_parts(&mut self, source: &Arc<Source>, of_whole: Diagnostic) {
        let mut is_broken = false;
        for part in parts(source) {
            match parse_part(part, source) {
                Ok(nodes) => nodes.iter().for_each(|node| self.read_node(node, source)),
                Err(diagnostic) => {
                    is_broken = true;
                    self.refuse_part(part, *diagnostic);
                }
            }
        }
        if !is_broken {
            // Only together the documents are too much.
            self.diagnostics.push(of_whole);
            self.completeness.lose_any();
        }
    }

    fn refuse_part(&mut self, part: Part<'_>, diagnostic: Diagnostic) {
        if Other::is_template(part.text) {
            self.note_other(Other::HelmTemplate, diagnostic.position);
        } else {
            self.completeness.lose_text(kind_of_text(part.text), part.text);
            self.diagnostics.push(diagnostic);
        }
    }

    fn read_node(&mut self, node: &Node, source: &Arc<Source>) {
        let mut document = self.document(source, String::new(), self.options.namespace.clone());
        let header = header::read(node, Context::root(&document));
        self.diagnostics.append(document.diagnostics.get_mut());
        match header {
            None => self.completeness.lose(node.get("kind").and_then(Node::text).and_then(Kind::meant), node),
            Some(Header::Unsupported) => {}
            Some(Header::Other(other)) => self.note_other(other, node.mark.in_source(source)),
            Some(Header::LeftAlone { kind, api_version }) => {
                self.left_alone.add(kind.value, api_version, kind.position);
            }
            Some(Header::List(items)) => {
                for item in &items {
                    self.read_node(item, source);
                }
            }
            Some(Header::MeshConfig(holder)) => self.read_mesh_config(holder, node, source),
            Some(Header::Resource(metadata)) => self.read_resource(node, &metadata, source),
        }
    }

    fn read_mesh_config(&mut self, holder: Holder, node: &Node, source: &Arc<Source>) {
        let mut document = self.document(source, holder.resource(node), self.options.namespace.clone());
        let read = holder.read(node, source, Context::root(&document));
        self.diagnostics.append(document.diagnostics.get_mut());
        let Some(mesh_config) = read else { return };
        if let (Some(first), Some(second)) = (&self.config.mesh_config.position, &mesh_config.position) {
            let message = "the settings of the mesh are there twice";
            let diagnostic = Diagnostic::error(Code::Duplicate, second.clone(), message);
            let help = format!("the first ones are at {first}");
            self.diagnostics.push(diagnostic.at(holder.resource(node), "").label("second MeshConfig").help(help));
            return;
        }
        self.config.mesh_config = mesh_config;
    }

    /// Reports once what a file seems to be that is no Kubernetes object.
    fn note_other(&mut self, other: Other, position: Position) {
        let path = &position.source.path;
        let other = other.named(path, path.ancestors().skip(1).any(|folder| self.charts.contains(folder)));
        if !self.others.insert(path.clone()) {
            return;
        }
        let message = format!("this seems to be {}", other.describe());
        let mut diagnostic = Diagnostic::error(Code::NoObject, position, message).label("expected a Kubernetes object");
        if !self.options.refuse_others {
            diagnostic.severity = Severity::Info;
            "left alone".clone_into(&mut diagnostic.label);
        }
        diagnostic.help.extend(other.help().map(str::to_owned));
        self.diagnostics.push(diagnostic);
    }

    fn read_resource(&mut self, node: &Node, metadata: &Metadata, source: &Arc<Source>) {
        let identity = (metadata.kind, metadata.namespace.clone(), metadata.name.clone());
        if let Some(first) = self.declared.get(&identity).filter(|_| !may_repeat(metadata)) {
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
        let is_read = read_body(node, metadata.clone(), Context::root(&document), &mut self.config).is_some();
        let found = document.diagnostics.get_mut();
        if is_read {
            self.completeness.record(metadata, node, found);
        } else {
            self.completeness.lose(Some(metadata.kind), node);
        }
        self.diagnostics.append(found);
    }

    fn document(&self, source: &Arc<Source>, resource: String, namespace: String) -> Document {
        let (source, strictness) = (Arc::clone(source), self.options.strictness);
        Document { source, resource, namespace, strictness, diagnostics: RefCell::default() }
    }
}

/// Whether there may be several resources of one name: several are made of one `generateName`, and of kinds that only give
/// labels all count, such as those of a base and its patches.
fn may_repeat(metadata: &Metadata) -> bool {
    let gives_more =
        matches!(metadata.kind, Kind::Service | Kind::Endpoints | Kind::EndpointSlice | Kind::Pod | Kind::Secret);
    let only_gives_labels = metadata.kind.api().owner == Owner::Kubernetes && !gives_more;
    only_gives_labels || metadata.name.ends_with('-')
}

/// The kind of a document that cannot be parsed, from the line that names it.
fn kind_of_text(text: &str) -> Option<Kind> {
    let mut names = text.lines().filter_map(|line| line.strip_prefix("kind:"));
    let name = names.next()?;
    if names.next().is_some() { None } else { Kind::meant(name.trim().trim_matches(['"', '\''])) }
}

fn read_body(node: &Node, metadata: Metadata, cx: Context<'_>, config: &mut Config) -> Option<()> {
    if metadata.kind.api().owner == Owner::Kubernetes {
        return config.read(metadata, node, cx);
    }
    let object = Object::new(node, cx)?;
    object.ignored(&["apiVersion", "kind", "metadata", "status"]);
    let spec: Option<&Node> = object.node("spec");
    if spec.is_none() {
        object.missing("spec");
    }
    object.finish();
    config.read(metadata, spec?, cx.field("spec"))
}

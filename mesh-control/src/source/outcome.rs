//! Records the outcome of reading sources in their [`SourceStatus`].

use std::collections::BTreeMap;
use std::time::SystemTime;

use mesh_core::causes::with_causes;
use mesh_core::plural::plural;
use mesh_xds::status::{RefusedResource, ResourceKind, SourceRefusal, SourceStatus};

use crate::config::Kind;
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::load::{LoadError, Loaded};

/// Most refused resources that are kept for display.
const MAX_RESOURCES: usize = 100;
/// Most errors of one resource that are kept for display.
const MAX_ERRORS: usize = 20;
/// Most bytes of a resource that are kept for display.
const MAX_CONFIGURATION_BYTES: usize = 64 * 1024;

/// Counts the valid and the invalid resources. `refused` are the errors of those that are not in `loaded`.
pub(super) fn count(status: &SourceStatus, loaded: &Loaded, refused: &[Diagnostic]) {
    let failed = by_resource(loaded.diagnostics.iter().chain(refused));
    let names = loaded.mesh.config.metadata().map(|metadata| (metadata.kind, metadata.resource()));
    for (kind, _) in names.filter(|(_, name)| !failed.contains_key(name.as_str())) {
        status.count_passed(resource_kind(kind));
    }
    for (name, errors) in failed {
        let kind = Kind::of_resource(name).map(resource_kind).unwrap_or_default();
        // A file without a known resource may have several errors; each is about another resource.
        let (counted, is_file) = if name.is_empty() { (&errors[..], true) } else { (&errors[..1], false) };
        counted.iter().for_each(|error| status.count_failed(kind.clone(), reason(error.code, is_file)));
    }
}

/// Records that changes have errors. They would have become `version`.
pub(super) fn refuse(status: &SourceStatus, diagnostics: &[Diagnostic], version: u64, at: SystemTime) {
    let mut resources: Vec<RefusedResource> = Vec::new();
    for (name, errors) in by_resource(diagnostics.iter()) {
        if name.is_empty() {
            resources.extend(errors.into_iter().map(file));
        } else {
            resources.push(resource(name, &errors));
        }
    }
    resources.truncate(MAX_RESOURCES);
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    status.refuse(SourceRefusal { version: version.to_string(), at, resources, errors });
}

/// Records that the directory cannot be read.
pub(super) fn unreadable(status: &SourceStatus, error: &LoadError, version: u64, at: SystemTime) {
    let (name, details) = (error.path().display().to_string(), with_causes(error).to_string());
    let directory = RefusedResource { type_url: String::new(), name, details, configuration: None };
    status.refuse(SourceRefusal { version: version.to_string(), at, resources: vec![directory], errors: 1 });
}

/// The errors by resource; those that are in none have the empty name.
fn by_resource<'a>(diagnostics: impl Iterator<Item = &'a Diagnostic>) -> BTreeMap<&'a str, Vec<&'a Diagnostic>> {
    let mut errors: BTreeMap<&str, Vec<&Diagnostic>> = BTreeMap::new();
    for error in diagnostics.filter(|diagnostic| diagnostic.severity == Severity::Error) {
        errors.entry(&error.resource).or_default().push(error);
    }
    errors
}

fn resource(name: &str, errors: &[&Diagnostic]) -> RefusedResource {
    let mut details: Vec<String> = errors.iter().take(MAX_ERRORS).map(ToString::to_string).collect();
    if errors.len() > MAX_ERRORS {
        details.push(format!("and {} more", errors.len() - MAX_ERRORS));
    }
    let type_url = Kind::of_resource(name).map(|kind| {
        let api = kind.api();
        format!("{}/{}/{}", api.group, api.versions[0], kind.as_str())
    });
    let configuration = errors.first().and_then(|error| error.position.document());
    RefusedResource {
        type_url: type_url.unwrap_or_default(),
        name: name.split_once(' ').map_or(name, |(_, name)| name).to_owned(),
        details: details.join("\n"),
        configuration: configuration.filter(|text| text.len() <= MAX_CONFIGURATION_BYTES).map(str::to_owned),
    }
}

fn file(error: &Diagnostic) -> RefusedResource {
    let name = error.position.source.path.display().to_string();
    RefusedResource { type_url: String::new(), name, details: error.to_string(), configuration: None }
}

fn resource_kind(kind: Kind) -> ResourceKind {
    let api = kind.api();
    ResourceKind {
        group: api.group.to_owned(),
        version: api.versions[0].to_owned(),
        resource: plural(&kind.as_str().to_ascii_lowercase()),
    }
}

/// Istio's name of the reason.
fn reason(code: Code, is_file: bool) -> &'static str {
    match code {
        Code::Syntax | Code::Unreadable => "yaml_decode_error",
        Code::Unsupported if is_file => "unknown_type",
        _ => "invalid_resource",
    }
}

//! What could not be read of a configuration.
//!
//! A resource that could not be read would be reported as missing, and one that was read in part as incomplete. Checks
//! between resources look here first, so that one mistake does not cause reports of others that do not exist, and still
//! hides none that do: a name counts as possibly declared only if a resource that could not be read contains it. Mistakes
//! in fields that no other resource refers to ([`Resource::LOCAL_FIELDS`]) prevent no check.
//!
//! [`Resource::LOCAL_FIELDS`]: super::kind::Resource::LOCAL_FIELDS

use std::collections::{HashMap, HashSet};

use mesh_core::nearest::nearest;

use super::Kind;
use super::metadata::Metadata;
use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Node;
use crate::host::Host;

/// What could not be read of a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Completeness {
    /// A file could not be read, so nothing is known of its resources.
    lost_any: bool,
    /// The words of resources that were not read whole, by kind; `None` if the kind is not known.
    words: HashMap<Option<Kind>, HashSet<String>>,
    /// Hosts that could not be read, by kind, as they are compared with others.
    unreadable_hosts: HashMap<Kind, Vec<String>>,
    partial: HashSet<(Kind, String, String)>,
}

impl Completeness {
    /// Whether a resource of one of the kinds that could not be read may declare the name.
    pub(crate) fn may_declare(&self, kinds: &[Kind], name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.lost_any || self.words_of(kinds).any(|words| words.contains(&name))
    }

    /// As [`Self::may_declare`], for a host, which a resource may also declare by its short name or a wildcard.
    pub(crate) fn may_declare_host(&self, kinds: &[Kind], host: &Host) -> bool {
        let short = host.kubernetes_service().map(|(name, _)| name);
        let dots = host.as_str().match_indices('.');
        let wildcards = dots.map(|(at, _)| format!("*{}", &host.as_str()[at..]));
        let mut names = std::iter::once(host.as_str()).chain(short).map(str::to_owned).chain(wildcards);
        names.any(|name| self.may_declare(kinds, &name)) || self.is_near_unreadable(kinds, host)
    }

    /// Whether the host is most likely one that could not be read.
    fn is_near_unreadable(&self, kinds: &[Kind], host: &Host) -> bool {
        let short = host.kubernetes_service().map(|(name, _)| name);
        let unreadable = kinds.iter().filter_map(|kind| self.unreadable_hosts.get(kind)).flatten();
        let near = |name: &str| nearest(&comparable(name), unreadable.clone().map(String::as_str)).is_some();
        near(host.as_str()) || short.is_some_and(near)
    }

    /// Whether the resource was read whole.
    pub(crate) fn is_whole(&self, metadata: &Metadata) -> bool {
        !self.partial.contains(&identity(metadata))
    }

    fn words_of<'a>(&'a self, kinds: &'a [Kind]) -> impl Iterator<Item = &'a HashSet<String>> {
        let of_kinds = kinds.iter().map(|kind| Some(*kind));
        of_kinds.chain([None]).filter_map(|kind| self.words.get(&kind))
    }

    /// A file could not be read.
    pub(crate) fn lose_any(&mut self) {
        self.lost_any = true;
    }

    /// Text that is not YAML; its kind may not be known.
    pub(super) fn lose_text(&mut self, kind: Option<Kind>, text: &str) {
        self.add_words(kind, text);
    }

    /// A resource could not be read; its kind may not be known.
    pub(super) fn lose(&mut self, kind: Option<Kind>, node: &Node) {
        node.for_each_text(&mut |text| self.add_words(kind, text));
    }

    /// A resource was read, with these diagnostics.
    pub(super) fn record(&mut self, metadata: &Metadata, node: &Node, diagnostics: &[Diagnostic]) {
        let is_local = |field: &str| metadata.kind.local_fields().iter().any(|local| field.starts_with(local));
        let mut errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        if errors.any(|error| !is_local(&error.field)) {
            self.partial.insert(identity(metadata));
            self.lose(Some(metadata.kind), node);
        }
        let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        if errors.into_iter().any(|error| error.field.starts_with("spec.host")) {
            let spec = node.get("spec");
            for hosts in ["hosts", "host"].into_iter().filter_map(|name| spec?.get(name)) {
                let unreadable = self.unreadable_hosts.entry(metadata.kind).or_default();
                hosts.for_each_text(&mut |text| unreadable.push(comparable(text)));
            }
        }
    }

    fn add_words(&mut self, kind: Option<Kind>, text: &str) {
        let words = self.words.entry(kind).or_default();
        let is_outside = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*'));
        for word in text.split(is_outside).filter(|word| !word.is_empty()) {
            let word = word.to_ascii_lowercase();
            if let Some((label, _)) = word.split_once('.') {
                words.insert(label.to_owned());
            }
            words.insert(word);
        }
    }
}

/// A host without the characters that are most often wrong.
fn comparable(host: &str) -> String {
    host.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn identity(metadata: &Metadata) -> (Kind, String, String) {
    (metadata.kind, metadata.namespace.clone(), metadata.name.clone())
}

//! Which units of a change are accepted.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Contents, Unit};
use crate::config::{Kind, Options};
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::load::Loaded;

/// Most times that a configuration is read again without the units that were refused. A unit can become invalid because
/// another one, to which it refers, was refused.
const MAX_ROUNDS: usize = 8;

/// What is accepted or refused together: a source, by its index, or one of its documents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Source(usize),
    Document(PathBuf),
}

/// The last good version of each unit.
#[derive(Debug, Default)]
pub(super) struct Admission {
    last_good: HashMap<Key, Vec<Arc<Source>>>,
}

/// The outcome of [`Admission::load`].
#[derive(Debug)]
pub(super) struct Admitted {
    /// What can be in force; or, if it has errors, why nothing of the change can.
    pub(super) loaded: Loaded,
    /// The errors of the units that were refused.
    pub(super) refused: Vec<Diagnostic>,
}

/// A unit as it is read.
struct Candidate {
    key: Key,
    documents: Vec<Arc<Source>>,
    unreadable: Vec<Diagnostic>,
}

impl Admission {
    /// Loads the contents of all sources, with the last good versions of units that have errors.
    pub(super) fn load(&mut self, sources: &[(Unit, Contents)], options: &Options) -> Admitted {
        let mut candidates: Vec<Candidate> = sources.iter().enumerate().flat_map(candidates_of).collect();
        let mut refused: Vec<Diagnostic> = Vec::new();
        let mut rounds = 0;
        loop {
            let documents = candidates.iter().flat_map(|candidate| &candidate.documents).cloned().collect();
            let unreadable = candidates.iter().flat_map(|candidate| &candidate.unreadable).cloned().collect();
            let loaded = Loaded::check(documents, unreadable, options);
            if loaded.is_valid() {
                self.last_good = candidates.into_iter().map(|candidate| (candidate.key, candidate.documents)).collect();
                return Admitted { loaded, refused };
            }
            rounds += 1;
            if rounds > MAX_ROUNDS || !self.substitute(&mut candidates, &loaded, &mut refused) {
                return Admitted { loaded, refused: Vec::new() };
            }
        }
    }

    /// Replaces the units that have errors by their last good versions, or leaves them out; false if nothing can be done.
    fn substitute(&self, candidates: &mut Vec<Candidate>, loaded: &Loaded, refused: &mut Vec<Diagnostic>) -> bool {
        let mut blamed: HashSet<Key> = HashSet::new();
        let mut indispensable: HashSet<Key> = HashSet::new();
        let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        for error in errors {
            let source = &error.position.source;
            let Some(candidate) = candidates.iter().find(|candidate| candidate.has(source)) else { return false };
            if !may_be_left_out(error) {
                indispensable.insert(candidate.key.clone());
            }
            blamed.insert(candidate.key.clone());
            refused.push(error.clone());
        }
        for key in blamed {
            let Some(index) = candidates.iter().position(|candidate| candidate.key == key) else { return false };
            let candidate = &mut candidates[index];
            match self.last_good.get(&key) {
                Some(last_good) if *last_good != candidate.documents => {
                    candidate.documents.clone_from(last_good);
                    candidate.unreadable.clear();
                }
                _ if matches!(key, Key::Source(_)) || indispensable.contains(&key) => return false,
                _ => drop(candidates.remove(index)),
            }
        }
        true
    }
}

impl Candidate {
    fn has(&self, source: &Arc<Source>) -> bool {
        let is_same = |own: &Arc<Source>| Arc::ptr_eq(own, source);
        self.documents.iter().any(is_same)
            || self.unreadable.iter().any(|diagnostic| is_same(&diagnostic.position.source))
    }
}

fn candidates_of((index, (unit, contents)): (usize, &(Unit, Contents))) -> Vec<Candidate> {
    match unit {
        Unit::Source => {
            let (documents, unreadable) = (contents.documents.clone(), contents.diagnostics.clone());
            vec![Candidate { key: Key::Source(index), documents, unreadable }]
        }
        Unit::Document => {
            let of_document = |document: &Arc<Source>| Candidate {
                key: Key::Document(document.path.clone()),
                documents: vec![Arc::clone(document)],
                unreadable: Vec::new(),
            };
            contents.documents.iter().map(of_document).collect()
        }
    }
}

/// Whether the resource with this error can be left out: it is known what it is, and it does not protect anything.
fn may_be_left_out(error: &Diagnostic) -> bool {
    Kind::of_resource(&error.resource).is_some_and(|kind| !kind.is_of_security())
}

//! What the client has requested and received of one type of resource, and how a response changes it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};
use prost_types::Any;

use super::{Rejected, ServerOptions, Update};
use crate::client::interest::Interest;
use crate::resource::{self, Decoded, FieldError, ResourceError, ResourceType, Sources};

/// Longest text of a NACK, in bytes; it ends with the number of reasons that are left out.
const MAX_ERROR_TEXT: usize = 4096;

/// One kind of resource.
#[derive(Debug, Default)]
pub(super) struct TypeState {
    pub(super) interest: Interest,
    /// Whether this stream has carried a request for the kind.
    pub(super) is_requested: bool,
    /// Version of the last response that was accepted completely.
    pub(super) version: Arc<str>,
    /// Nonce of the last response of this stream.
    pub(super) nonce: Arc<str>,
    /// Bytes of the resources in force, by name, to skip those that have not changed.
    pub(super) accepted: HashMap<Arc<str>, Arc<Any>>,
    /// Names of resources whose last version was refused.
    pub(super) refused: HashSet<Arc<str>>,
    /// Names that have not been received and are not known to be missing, with their deadlines, which are suspended
    /// while there is no stream.
    pub(super) awaited: HashMap<Arc<str>, Option<Instant>>,
    /// Whether a response has been received.
    pub(super) is_answered: bool,
    /// The names that this stream is subscribed to, in the incremental variant.
    pub(super) subscribed: Arc<BTreeSet<Arc<str>>>,
    /// Versions of accepted resources, in the incremental variant.
    pub(super) versions: HashMap<Arc<str>, Arc<str>>,
}

impl TypeState {
    /// Changes the interest; new resources must be received `until` then. Returns the names of received resources that
    /// are no longer wanted.
    pub(super) fn change_interest(&mut self, interest: Interest, until: Option<Instant>) -> Vec<Arc<str>> {
        let unwanted = self.accepted.extract_if(|name, _| !interest.includes(name));
        let mut unwanted: Vec<_> = unwanted.map(|(name, _)| name).collect();
        unwanted.extend(self.refused.extract_if(|name| !interest.includes(name)));
        unwanted.sort();
        unwanted.dedup();
        self.awaited.retain(|name, _| interest.includes(name));
        let before = std::mem::replace(&mut self.interest, interest);
        if let Interest::Names(names) = &self.interest {
            let is_new = |name: &&Arc<str>| !before.includes(name) && !self.accepted.contains_key(*name);
            self.awaited.extend(names.iter().filter(is_new).map(|name| (Arc::clone(name), until)));
        }
        unwanted
    }

    pub(super) fn take(
        &mut self,
        kind: ResourceType,
        version: Arc<str>,
        resources: Vec<Any>,
        (sources, options): (&Sources, ServerOptions),
    ) -> Update {
        let (mut accepted, mut removed, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        // The first response for everything completes the subscription.
        let is_first = !std::mem::replace(&mut self.is_answered, true) && self.interest == Interest::Everything;
        let mut is_answer = true;
        let mut present: HashSet<Arc<str>> = HashSet::new();
        if kind.is_whole() {
            self.refused.clear();
        }
        for any in resources {
            let name: Arc<str> = resource::name(&any).into();
            let was_awaited = self.awaited.remove(&name).is_some();
            if !present.insert(Arc::clone(&name)) && !name.is_empty() {
                rejected.push(Rejected { error: duplicate(kind, &name), resource: Arc::new(any) });
                continue;
            }
            // Control planes may send more than was requested; it has no effect.
            if !name.is_empty() && !self.interest.includes(&name) {
                continue;
            }
            // The predecessor of a refused resource is reported again: it ends the refusal.
            let is_in_force = self.accepted.get(&name).is_some_and(|accepted| accepted.value == any.value);
            if is_in_force && !self.refused.contains(&name) {
                continue;
            }
            is_answer &= is_first || was_awaited;
            match checked(kind, &any, sources) {
                Ok(decoded) => {
                    self.refused.remove(&name);
                    self.accepted.insert(name, Arc::new(any));
                    accepted.push(decoded);
                }
                // A refused successor does not remove what is in force.
                Err(error) => {
                    self.refused.insert(name);
                    rejected.push(Rejected { error: *error, resource: Arc::new(any) });
                }
            }
        }
        // What cannot be read may be any of those that seem to be gone.
        if kind.is_whole() && !options.ignore_resource_deletion && !present.contains("") {
            let gone = self.accepted.extract_if(|name, _| !present.contains(name));
            removed.extend(gone.map(|(name, _)| name));
            removed.sort();
            is_answer &= removed.is_empty();
        }
        Update { resource_type: kind, version, is_answer, accepted, removed, rejected }
    }
}

pub(super) fn checked(kind: ResourceType, any: &Any, sources: &Sources) -> Result<Decoded, Box<ResourceError>> {
    let decoded = resource::decode_with(any, sources)?;
    let found = decoded.resource.resource_type();
    if found == kind {
        return Ok(decoded);
    }
    let reason = format!("came in a response about {kind}");
    let error = FieldError { path: String::new(), reason };
    Err(Box::new(ResourceError::new(&found.to_string(), decoded.resource.name(), error)))
}

pub(super) fn duplicate(kind: ResourceType, name: &str) -> ResourceError {
    let error = FieldError { path: "name".to_owned(), reason: "duplicate: a name stands for one resource".to_owned() };
    ResourceError::new(&kind.to_string(), name, error)
}

pub(super) fn error_text(rejected: &[Rejected]) -> String {
    let mut text = String::new();
    for (index, Rejected { error, .. }) in rejected.iter().enumerate() {
        let line = error.to_string();
        if text.len() + line.len() > MAX_ERROR_TEXT {
            text.push_str(&format!("; and {} more", rejected.len() - index));
            break;
        }
        if index > 0 {
            text.push_str("; ");
        }
        text.push_str(&line);
    }
    text
}

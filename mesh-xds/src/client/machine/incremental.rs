//! The incremental variant of the protocol ("delta xDS"): requests name what is subscribed to and no longer, responses have the
//! resources that have changed and the names of those that are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashSet;

use super::type_state::{TypeState, checked, duplicate};
use super::{Rejected, ServerOptions, Update};
use crate::client::interest::Interest;
use crate::client::request::Changes;
use crate::proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource as Versioned};
use crate::resource::{self, ResourceType, Sources};

impl TypeState {
    /// What a request changes in the subscription of the stream; `None` if nothing.
    pub(super) fn subscription_changes(&mut self) -> Option<Changes> {
        let wanted = self.interest.names();
        let subscribe: BTreeSet<_> = wanted.difference(&self.subscribed).cloned().collect();
        let unsubscribe: BTreeSet<_> = self.subscribed.difference(&wanted).cloned().collect();
        let is_first = !self.is_requested;
        if !is_first && subscribe.is_empty() && unsubscribe.is_empty() {
            return None;
        }
        self.subscribed = wanted;
        self.versions.retain(|name, _| self.accepted.contains_key(name));
        // What is known is not sent again.
        let versions = self.versions.iter().filter(|_| is_first);
        let initial_resource_versions = versions.map(|(name, version)| (name.clone(), version.clone())).collect();
        Some(Changes { subscribe, unsubscribe, initial_resource_versions })
    }

    /// Takes the resources of a response. Also returns the names of requested resources that do not exist.
    pub(super) fn take_changes(
        &mut self,
        kind: ResourceType,
        response: DeltaDiscoveryResponse,
        (sources, options): (&Sources, ServerOptions),
    ) -> (Update, Vec<Arc<str>>) {
        let is_first = !std::mem::replace(&mut self.is_answered, true) && self.interest == Interest::Everything;
        let mut update = Update::new(kind, Vec::new());
        update.version = response.system_version_info.as_str().into();
        update.is_answer = true;
        let mut present = HashSet::new();
        for Versioned { name, version, resource, .. } in response.resources {
            // Without a resource, it says that the resource stays as it is.
            let Some(any) = resource else { continue };
            let own_name = resource::name(&any);
            let name: Arc<str> = if name.is_empty() { own_name.as_str() } else { name.as_str() }.into();
            let was_awaited = self.awaited.remove(&name).is_some();
            if !present.insert(name.clone()) {
                update.rejected.push(Rejected { error: duplicate(kind, &name), resource: Arc::new(any) });
                continue;
            }
            if !self.interest.includes(&name) {
                continue;
            }
            let is_in_force = self.accepted.get(&name).is_some_and(|accepted| accepted.value == any.value);
            if is_in_force && !self.refused.contains(&name) {
                self.versions.insert(name, version.as_str().into());
                continue;
            }
            update.is_answer &= is_first || was_awaited;
            match checked(kind, &any, sources) {
                Ok(decoded) => {
                    self.refused.remove(&name);
                    self.versions.insert(name.clone(), version.as_str().into());
                    self.accepted.insert(name, Arc::new(any));
                    update.accepted.push(decoded);
                }
                Err(error) => {
                    self.refused.insert(name);
                    update.rejected.push(Rejected { error: *error, resource: Arc::new(any) });
                }
            }
        }
        let mut missing = Vec::new();
        for name in response.removed_resources.iter().map(|name| Arc::<str>::from(name.as_str())) {
            self.refused.remove(&name);
            if self.awaited.remove(&name).is_some() {
                missing.push(name);
            } else if !(kind.is_whole() && options.ignore_resource_deletion) {
                self.versions.remove(&name);
                update.removed.extend(self.accepted.remove(&name).map(|_| name));
            }
        }
        update.removed.sort();
        update.is_answer &= update.removed.is_empty();
        (update, missing)
    }
}

//! What became of the configuration before it was xDS: of the files of a directory, and of what clients acknowledge.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::resource::ResourceType;

/// The outcomes of one source of configuration and its control plane. It is written by these, and read by any number of
/// threads.
#[derive(Debug, Default)]
pub struct SourceStatus(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    accepted_at: Option<SystemTime>,
    refusal: Option<SourceRefusal>,
    passed: BTreeMap<ResourceKind, u64>,
    failed: BTreeMap<(ResourceKind, &'static str), u64>,
    rejects: [u64; ResourceType::ALL.len()],
}

/// The kind of a resource of the source, as Kubernetes names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceKind {
    /// The group of the API, such as `networking.istio.io`; empty if it is unknown.
    pub group: String,
    /// The version of the API, such as `v1`; empty if it is unknown.
    pub version: String,
    /// The plural in lower case, such as `virtualservices`; empty if it is unknown.
    pub resource: String,
}

/// A change of the source that was refused; what was in force before stays.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRefusal {
    /// The version that it would have become.
    pub version: String,
    /// When it was refused.
    pub at: SystemTime,
    /// The resources with errors, at most as many as the source chooses to keep.
    pub resources: Vec<RefusedResource>,
    /// Number of errors in all resources.
    pub errors: usize,
}

/// A resource of the source with errors. A file that cannot be read counts as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedResource {
    /// Group, version and kind, such as `networking.istio.io/v1/VirtualService`; empty for a file.
    pub type_url: String,
    /// `NAMESPACE/NAME`, or the path of a file.
    pub name: String,
    /// The errors with their positions.
    pub details: String,
    /// The resource as it was written, if it could be read.
    pub configuration: Option<String>,
}

impl SourceStatus {
    /// Records that a configuration is valid and has been handed to the control plane.
    pub fn accept(&self, at: SystemTime) {
        let mut state = self.lock();
        state.accepted_at = Some(at);
        state.refusal = None;
    }

    /// Records that a change was refused.
    pub fn refuse(&self, refusal: SourceRefusal) {
        self.lock().refusal = Some(refusal);
    }

    /// Counts a valid resource. Istio `galley_validation_passed`.
    pub fn count_passed(&self, kind: ResourceKind) {
        *self.lock().passed.entry(kind).or_default() += 1;
    }

    /// Counts an invalid resource. Istio `galley_validation_failed`, whose reasons are `invalid_resource`, `unknown_type` and
    /// `yaml_decode_error`.
    pub fn count_failed(&self, kind: ResourceKind, reason: &'static str) {
        *self.lock().failed.entry((kind, reason)).or_default() += 1;
    }

    /// Counts a response that a client has refused. Istio `pilot_total_xds_rejects`.
    pub fn count_reject(&self, resource_type: ResourceType) {
        self.lock().rejects[resource_type as usize] += 1;
    }

    /// When a configuration was last accepted.
    #[must_use]
    pub fn accepted_at(&self) -> Option<SystemTime> {
        self.lock().accepted_at
    }

    /// The last change, if it was refused.
    #[must_use]
    pub fn refusal(&self) -> Option<SourceRefusal> {
        self.lock().refusal.clone()
    }

    /// The metrics of istiod, in Prometheus' text format.
    pub(super) fn write_metrics(&self, text: &mut String) {
        let state = self.lock();
        // Writing to a string cannot fail.
        text.push_str("# TYPE galley_validation_failed counter\n");
        for ((kind, reason), count) in &state.failed {
            let _ = writeln!(text, "galley_validation_failed{{{},reason=\"{reason}\"}} {count}", kind.labels());
        }
        text.push_str("# TYPE galley_validation_passed counter\n");
        for (kind, count) in &state.passed {
            let _ = writeln!(text, "galley_validation_passed{{{}}} {count}", kind.labels());
        }
        text.push_str("# TYPE pilot_total_xds_rejects counter\n");
        for resource_type in ResourceType::ALL {
            let (service, count) = (resource_type.service(), state.rejects[resource_type as usize]);
            let _ = writeln!(text, "pilot_total_xds_rejects{{type=\"{service}\"}} {count}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResourceKind {
    /// The labels, whose values are names of Kubernetes and need no escapes.
    fn labels(&self) -> String {
        let Self { group, version, resource } = self;
        format!("group=\"{group}\",version=\"{version}\",resource=\"{resource}\"")
    }
}

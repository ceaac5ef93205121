//! Kinds that make Pods: `Deployment`, `StatefulSet` and others.
//!
//! A mesh needs to know which labels their Pods have. Source: `apps/v1`, `batch/v1`, `core/v1`.

use crate::config::kind::Resource;
use crate::config::scalar::labels;
use crate::config::{Config, Kind, Labels, Metadata};
use crate::document::{Context, Node, Object};

/// A resource that makes Pods.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PodTemplate {
    /// Name, namespace, labels of the resource itself.
    pub metadata: Metadata,
    /// Labels of its Pods.
    pub labels: Labels,
}

/// Pods that run until they are stopped.
pub type Deployment = PodTemplate;
/// Pods with a name of their own each.
pub type StatefulSet = PodTemplate;
/// A Pod on each machine.
pub type DaemonSet = PodTemplate;
/// Pods of one version of a Deployment.
pub type ReplicaSet = PodTemplate;
/// What ReplicaSets have replaced.
pub type ReplicationController = PodTemplate;
/// Pods that end.
pub type Job = PodTemplate;
/// Jobs at certain times.
pub type CronJob = PodTemplate;

impl Resource for PodTemplate {
    fn read(metadata: Metadata, node: &Node, cx: Context<'_>) -> Option<Self> {
        let labels = match metadata.kind {
            Kind::CronJob => labels_at(&["spec", "jobTemplate", "spec", "template", "metadata"], node, cx),
            _ => labels_at(&["spec", "template", "metadata"], node, cx),
        };
        Some(Self { metadata, labels })
    }
}

/// The labels of the object at `path`; none if there is none, as in a patch.
fn labels_at(path: &[&'static str], node: &Node, cx: Context<'_>) -> Labels {
    let Some(whole) = Object::new(node, cx) else { return Labels::new() };
    match path {
        [] => labels(&whole, "labels").unwrap_or_default(),
        [name, rest @ ..] => match whole.node(name) {
            Some(inner) => labels_at(rest, inner, cx.field(name)),
            None => Labels::new(),
        },
    }
}

impl PodTemplate {
    /// Whether a Pod of this name, such as `reviews-v1-545db77b95-2wk8d`, is one that the resource has made.
    pub(crate) fn may_have_made(&self, pod: &str) -> bool {
        let suffixes = match self.metadata.kind {
            // By a ReplicaSet and by a Job, which have a suffix of their own.
            Kind::Deployment | Kind::CronJob => 2,
            _ => 1,
        };
        let suffix = pod.strip_prefix(self.metadata.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
        suffix.is_some_and(|suffix| suffix.split('-').count() == suffixes && !suffix.is_empty())
    }
}

impl Config {
    /// The resources of all kinds that make Pods.
    pub fn pod_templates(&self) -> impl Iterator<Item = &PodTemplate> {
        let lists = [
            &self.deployments,
            &self.stateful_sets,
            &self.daemon_sets,
            &self.replica_sets,
            &self.replication_controllers,
            &self.jobs,
            &self.cron_jobs,
        ];
        lists.into_iter().flatten()
    }
}

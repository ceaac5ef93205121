//! What became of the configuration of a process, for operators.
//!
//! Two places decide whether a change comes into force: the source, which checks the files of a directory, and the
//! client, which decodes resources and applies them. Each records its outcomes once, in a [`SourceStatus`] and a
//! [`ClientStatus`]. [`ConfigStatus`] holds both for those who show them: the admin endpoint and the metrics.

mod source;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::plural::{age, counted};

use crate::client::{ClientStatus, Refused};

pub use source::{RefusedResource, ResourceKind, SourceRefusal, SourceStatus};

/// Most refused resources in a text.
const MAX_LISTED: usize = 10;

/// The outcomes of the configuration of one process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ConfigStatus {
    /// Of the client.
    pub client: Arc<ClientStatus>,
    /// Of the source, if it is in this process.
    pub source: Option<Arc<SourceStatus>>,
}

impl ConfigStatus {
    /// Whether the last change of everything is in force.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.client.refused().is_empty() && self.refusal().is_none()
    }

    /// When a configuration last came into force without a refused resource.
    #[must_use]
    pub fn last_good(&self) -> Option<SystemTime> {
        // A change of the source may have no effect on this client, which then receives nothing.
        let accepted = self.source.as_ref().and_then(|source| source.accepted_at());
        accepted.filter(|_| self.client.refused().is_empty()).max(self.client.last_good())
    }

    /// The reasons why the last change is not in force, one line each; none if it is.
    #[must_use]
    pub fn problems(&self, now: SystemTime) -> Vec<String> {
        let since = |at: SystemTime| age(now.duration_since(at).unwrap_or_default());
        let of_source = self.refusal().map(|refusal| {
            let old = self.last_good().map_or_else(String::new, |at| format!("is {} old: ", since(at)));
            let first = refusal.resources.first().map(|resource| one_line(&resource.details)).unwrap_or_default();
            let (errors, at) = (counted(refusal.errors, "error"), since(refusal.at));
            format!("the configuration {old}the last change was refused {at} ago with {errors}: {first}")
        });
        let refused = self.client.refused();
        let others = refused.len().saturating_sub(MAX_LISTED);
        let listed =
            refused.into_iter().take(MAX_LISTED).map(|Refused { resource_type, name, failure, accepted_at }| {
                let name = if name.is_empty() { "(unnamed)" } else { &*name };
                let stays = match accepted_at {
                    Some(at) => format!("the configuration is {} old", since(at)),
                    None => "there is no previous version".to_owned(),
                };
                let (at, details) = (since(failure.at), one_line(&failure.details));
                format!("{resource_type} {name}: {stays}: the last change was refused {at} ago: {details}")
            });
        let more = (others > 0).then(|| format!("{} more in /config_dump", counted(others, "refused resource")));
        of_source.into_iter().chain(listed).chain(more).collect()
    }

    /// Metrics in Prometheus' text format: those of istiod if the source is in this process, and the time of the last good
    /// configuration.
    #[must_use]
    pub fn prometheus_text(&self) -> String {
        let mut text = String::new();
        if let Some(source) = &self.source {
            source.write_metrics(&mut text);
        }
        let last_good = self.last_good().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# TYPE mesh_config_last_reload_successful gauge\nmesh_config_last_reload_successful{{}} {}\n\
             # TYPE mesh_config_last_reload_success_timestamp_seconds gauge\n\
             mesh_config_last_reload_success_timestamp_seconds{{}} {:.3}",
            u8::from(self.is_good()),
            last_good.map_or(0.0, |at: Duration| at.as_secs_f64()),
        );
        text
    }

    fn refusal(&self) -> Option<SourceRefusal> {
        self.source.as_ref().and_then(|source| source.refusal())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(number)
    }

    fn refusal(at: u64) -> SourceRefusal {
        let resource = RefusedResource {
            type_url: "networking.istio.io/v1/VirtualService".to_owned(),
            name: "default/a".to_owned(),
            details: "a.yaml:4:1: spec.hosst:\nunknown field".to_owned(),
            configuration: None,
        };
        SourceRefusal { version: "2".to_owned(), at: second(at), resources: vec![resource], errors: 2 }
    }

    #[test]
    fn a_refused_change_makes_the_configuration_old_until_the_next_good_one() {
        let source = Arc::new(SourceStatus::default());
        let status = ConfigStatus { source: Some(Arc::clone(&source)), ..ConfigStatus::default() };
        source.accept(second(100));
        assert!(status.is_good() && status.problems(second(9_999)).is_empty());
        source.refuse(refusal(200));
        assert_eq!(
            status.problems(second(400)),
            ["the configuration is 5 minutes old: the last change was refused 3 minutes ago with 2 errors: \
              a.yaml:4:1: spec.hosst: unknown field"]
        );
        assert_eq!((status.is_good(), status.last_good()), (false, Some(second(100))));
        source.accept(second(500));
        assert_eq!((status.is_good(), status.last_good()), (true, Some(second(500))));
    }

    #[test]
    fn metrics_have_istiods_names_and_labels() {
        let source = Arc::new(SourceStatus::default());
        let kind = || ResourceKind {
            group: "networking.istio.io".to_owned(),
            version: "v1".to_owned(),
            resource: "virtualservices".to_owned(),
        };
        source.accept(second(1));
        source.count_passed(kind());
        source.count_passed(kind());
        source.count_failed(kind(), "invalid_resource");
        source.count_reject(crate::resource::ResourceType::Listener);
        let text = ConfigStatus { source: Some(source), ..ConfigStatus::default() }.prometheus_text();
        let labels = "group=\"networking.istio.io\",version=\"v1\",resource=\"virtualservices\"";
        for line in [
            &*format!("galley_validation_failed{{{labels},reason=\"invalid_resource\"}} 1"),
            &*format!("galley_validation_passed{{{labels}}} 2"),
            "pilot_total_xds_rejects{type=\"cds\"} 0",
            "pilot_total_xds_rejects{type=\"lds\"} 1",
            "mesh_config_last_reload_successful{} 1",
            "mesh_config_last_reload_success_timestamp_seconds{} 1.000",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}

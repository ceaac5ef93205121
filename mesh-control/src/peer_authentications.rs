//! Finds how a workload's port is called: in plain text, with mutual TLS, or both. Istio `ComposePeerAuthentication`.
//!
//! The mode is that of the oldest `PeerAuthentication` that selects the workload, or else of the oldest one for all workloads
//! of its namespace, or else of the oldest one for the mesh, which is one without selector in the root namespace. A resource
//! that does not set the mode passes the question on. In the root namespace, resources with a selector have no effect, as in
//! Istio.

use std::collections::HashMap;

use crate::config::{Config, Labels, MtlsMode, PeerAuthentication, selects};

/// The policies of a mesh by namespace, each list in order of precedence.
#[derive(Clone, Debug, Default)]
pub struct PeerAuthentications {
    namespaces: HashMap<String, Vec<PeerAuthentication>>,
    root_namespace: String,
}

impl PeerAuthentications {
    /// Indexes the policies of a configuration.
    pub fn new(config: &Config) -> Self {
        let mut namespaces: HashMap<String, Vec<PeerAuthentication>> = HashMap::new();
        for policy in &config.peer_authentications {
            namespaces.entry(policy.metadata.namespace.clone()).or_default().push(policy.clone());
        }
        Self { namespaces, root_namespace: config.mesh_config.root_namespace().to_owned() }
    }

    /// The mode for connections to a port of a workload. `port` is the workload's, not the service's; `None` means ports that
    /// no policy names.
    pub fn mode(&self, namespace: &str, labels: &Labels, port: Option<u16>) -> MtlsMode {
        let workload = if namespace == self.root_namespace {
            None
        } else {
            let selects = |it: &&PeerAuthentication| !it.selector.is_empty() && selects(&it.selector, labels);
            self.of(namespace).iter().find(selects)
        };
        let of_port = workload.and_then(|policy| policy.port_level_mtls.get(&port?).copied().flatten());
        of_port
            .or_else(|| workload.and_then(|policy| policy.mode))
            .or_else(|| self.of_all(namespace).and_then(|policy| policy.mode))
            .or_else(|| self.of_all(&self.root_namespace).and_then(|policy| policy.mode))
            .unwrap_or(MtlsMode::Permissive)
    }

    fn of(&self, namespace: &str) -> &[PeerAuthentication] {
        self.namespaces.get(namespace).map_or(&[], Vec::as_slice)
    }

    fn of_all(&self, namespace: &str) -> Option<&PeerAuthentication> {
        self.of(namespace).iter().find(|policy| policy.selector.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Strictness, read};
    use crate::diagnostic::Source;

    const WORKLOAD: &[(&str, &str)] = &[("app", "a"), ("version", "v1")];

    /// `NAMESPACE/NAME CREATED SPEC` of each policy.
    fn mode(policies: &[&str], namespace: &str, port: Option<u16>) -> MtlsMode {
        let text: String = policies
            .iter()
            .map(|policy| {
                let mut words = policy.splitn(3, ' ');
                let (namespace, name) = words.next().unwrap().split_once('/').unwrap();
                let created = format!("20{}-01-01T00:00:00Z", words.next().unwrap());
                format!(
                    "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: \
                     {namespace}, creationTimestamp: '{created}'}}\nspec: {}\n",
                    words.next().unwrap()
                )
            })
            .collect();
        let read = read(&[Arc::new(Source::new("a.yaml", text))], &Strictness::Strict.into());
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        let labels = WORKLOAD.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        PeerAuthentications::new(&read.config).mode(namespace, &labels, port)
    }

    const MESH: &str = "istio-system/default 20 {mtls: {mode: STRICT}}";
    const NAMESPACE: &str = "ns/default 20 {mtls: {mode: DISABLE}}";
    const SELECTING: &str = "ns/a 20 {selector: {matchLabels: {app: a}}, mtls: {mode: PERMISSIVE}}";

    #[test]
    fn without_a_policy_both_are_accepted() {
        assert_eq!(mode(&[], "ns", None), MtlsMode::Permissive);
        assert_eq!(mode(&["other/default 20 {mtls: {mode: STRICT}}"], "ns", None), MtlsMode::Permissive);
    }

    #[test]
    fn the_workload_beats_its_namespace_which_beats_the_mesh() {
        assert_eq!(mode(&[MESH], "ns", None), MtlsMode::Strict);
        assert_eq!(mode(&[MESH, NAMESPACE], "ns", None), MtlsMode::Disable);
        assert_eq!(mode(&[MESH, NAMESPACE, SELECTING], "ns", None), MtlsMode::Permissive);
        let other = "ns/b 10 {selector: {matchLabels: {app: b}}, mtls: {mode: STRICT}}";
        assert_eq!(mode(&[NAMESPACE, other], "ns", None), MtlsMode::Disable);
    }

    #[test]
    fn unset_inherits_from_the_next_level() {
        let unset = "ns/a 20 {selector: {matchLabels: {app: a}}}";
        assert_eq!(mode(&[unset, NAMESPACE, MESH], "ns", None), MtlsMode::Disable);
        let unset_namespace = "ns/default 20 {mtls: {mode: UNSET}}";
        assert_eq!(mode(&[unset, unset_namespace, MESH], "ns", None), MtlsMode::Strict);
    }

    #[test]
    fn the_oldest_of_a_level_wins_even_if_it_sets_nothing() {
        let young = "ns/young 22 {mtls: {mode: STRICT}}";
        assert_eq!(mode(&[young, NAMESPACE], "ns", None), MtlsMode::Disable);
        let oldest = "ns/zero 10 {}";
        assert_eq!(mode(&[young, NAMESPACE, oldest], "ns", None), MtlsMode::Permissive);
    }

    #[test]
    fn a_port_has_its_own_mode_or_that_of_its_policy() {
        let ports = "ns/a 20 {selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}, \
                     9090: {mode: UNSET}}}";
        assert_eq!(mode(&[ports], "ns", Some(8080)), MtlsMode::Disable);
        assert_eq!(mode(&[ports], "ns", Some(9090)), MtlsMode::Strict);
        assert_eq!(mode(&[ports], "ns", Some(1)), MtlsMode::Strict);
    }

    #[test]
    fn in_the_root_namespace_a_selector_has_no_effect() {
        let selecting = "istio-system/a 20 {selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}}";
        assert_eq!(mode(&[selecting], "ns", None), MtlsMode::Permissive);
        assert_eq!(mode(&[selecting], "istio-system", None), MtlsMode::Permissive);
    }
}

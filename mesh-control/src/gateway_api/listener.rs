//! The listeners of the Gateways that are served.

use super::GATEWAY_NAME_LABEL;
use super::grants::{From, is_permitted};
use super::status::Condition;
use crate::config::gateway_api::GROUP;
use crate::config::{
    AllowedNamespaces, Config, Gateway, GatewayName, KubernetesGateway, Labels, Listener, ListenerProtocol, Located,
    NamespaceScope, NamespacedHost, Protocol, Server, ServerMode, ServerTls, selects,
};
use crate::host::Host;

/// A listener, and what is wrong with it.
#[derive(Debug)]
pub(super) struct State<'a> {
    pub(super) gateway: &'a KubernetesGateway,
    pub(super) listener: &'a Listener,
    /// Why it is not served: `Conflicted` or `ResolvedRefs`.
    pub(super) problem: Option<Condition>,
    /// Number of routes.
    pub(super) attached: usize,
}

/// All listeners, in the order of their Gateways.
#[derive(Debug)]
pub(super) struct Listeners<'a>(pub(super) Vec<State<'a>>);

impl<'a> Listeners<'a> {
    pub(super) fn new(config: &'a Config, is_served: impl Fn(&KubernetesGateway) -> bool) -> Self {
        let mut all = Vec::new();
        for gateway in config.kubernetes_gateways.iter().filter(|gateway| is_served(gateway)) {
            for (i, listener) in gateway.listeners.iter().enumerate() {
                let problem = conflict(listener, &gateway.listeners[..i])
                    .or_else(|| certificates(config, &gateway.metadata.namespace, listener));
                all.push(State { gateway, listener, problem, attached: 0 });
            }
        }
        Self(all)
    }

    /// One Gateway of Istio for each listener that is served.
    pub(super) fn gateways(&self) -> Vec<Gateway> {
        self.0.iter().filter(|state| state.problem.is_none()).filter_map(State::gateway).collect()
    }
}

impl State<'_> {
    /// The Gateway of Istio that has this listener only, so that routes can be bound to it.
    pub(super) fn name(&self) -> GatewayName {
        let (gateway, listener) = (&self.gateway.metadata, &self.listener.name);
        // A slash cannot be in the name of a resource.
        GatewayName::Gateway { namespace: gateway.namespace.clone(), name: format!("{}/{listener}", gateway.name) }
    }

    /// The host that it serves.
    pub(super) fn host(&self) -> Option<Host> {
        match &self.listener.hostname {
            Some(host) => Some(host.value.clone()),
            None => Host::parse("*", "").ok(),
        }
    }

    /// Whether a route of this kind and namespace may attach.
    pub(super) fn allows(&self, config: &Config, kind: &str, namespace: &str) -> bool {
        let allowed = &self.listener.allowed_routes;
        let is_kind = allowed.kinds.is_empty() || allowed.kinds.iter().any(|own| own == kind);
        is_kind
            && match &allowed.namespaces {
                AllowedNamespaces::Same => self.gateway.metadata.namespace == namespace,
                AllowedNamespaces::All => true,
                AllowedNamespaces::Selector(selector) => {
                    let known = config.namespaces.iter().find(|it| it.metadata.name == namespace);
                    let mut labels = known.map(|known| known.metadata.labels.clone()).unwrap_or_default();
                    // Kubernetes gives every namespace this label.
                    labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| namespace.to_owned());
                    selects(selector, &labels)
                }
            }
    }

    fn gateway(&self) -> Option<Gateway> {
        let GatewayName::Gateway { name, .. } = self.name() else { return None };
        let mut metadata = self.gateway.metadata.clone();
        let selector = Labels::from([(GATEWAY_NAME_LABEL.to_owned(), metadata.name.clone())]);
        metadata.name = name;
        Some(Gateway { metadata, selector, servers: vec![self.server()?] })
    }

    fn server(&self) -> Option<Server> {
        let listener = self.listener;
        let (protocol, mode) = match listener.protocol {
            ListenerProtocol::Http => (Protocol::Http, ServerMode::Http { https_redirect: false }),
            ListenerProtocol::Https => (Protocol::Https, ServerMode::Https),
        };
        let host = NamespacedHost { namespace: NamespaceScope::Any, host: self.host()? };
        let located = |name: &String| Located { value: name.clone(), position: listener.position.clone() };
        let names = listener.tls.iter().flat_map(|tls| &tls.certificate_refs).map(|reference| located(&reference.name));
        let tls = listener.tls.is_some().then(|| ServerTls::simple(names.collect()));
        Some(Server {
            position: listener.position.clone(),
            name: String::new(),
            port: listener.port,
            port_name: listener.name.clone(),
            protocol,
            bind: None,
            hosts: vec![Located { value: host, position: listener.position.clone() }],
            mode,
            tls,
        })
    }
}

/// The condition `Conflicted` of a listener behind others: a port has one protocol, and a host on it one listener.
fn conflict(listener: &Listener, before: &[Listener]) -> Option<Condition> {
    let host = |listener: &Listener| listener.hostname.as_ref().map(|host| host.value.clone());
    before.iter().filter(|other| other.port == listener.port).find_map(|other| {
        let (reason, what) = if other.protocol != listener.protocol {
            ("ProtocolConflict", "the port with another protocol")
        } else if host(other) == host(listener) {
            ("HostnameConflict", "the same host on the port")
        } else {
            return None;
        };
        Some(Condition::new("Conflicted", true, reason, format!("listener {} has {what}", other.name)))
    })
}

/// The condition `ResolvedRefs` of a listener whose certificates cannot be served.
fn certificates(config: &Config, namespace: &str, listener: &Listener) -> Option<Condition> {
    let refuse = |reason, message| Some(Condition::new("ResolvedRefs", false, reason, message));
    for reference in listener.tls.iter().flat_map(|tls| &tls.certificate_refs) {
        let name = format!("{} {}/{}", reference.kind, reference.namespace(namespace), reference.name);
        if (reference.group.as_str(), reference.kind.as_str()) != ("", "Secret") {
            return refuse("InvalidCertificateRef", format!("{name}: expected a Secret"));
        }
        if !is_permitted(config, From { group: GROUP, kind: "Gateway", namespace }, reference) {
            return refuse("RefNotPermitted", format!("no ReferenceGrant allows the reference to {name}"));
        }
        if reference.namespace(namespace) != namespace {
            let message = format!("{name}: a Secret of another namespace is not supported yet");
            return refuse("InvalidCertificateRef", message);
        }
        let mut secrets = config.secrets.iter().map(|secret| (&secret.metadata, secret));
        let secret = secrets.find(|(it, _)| it.name == reference.name && it.namespace == namespace);
        if secret.is_none_or(|(_, secret)| secret.certificate().is_none() || secret.private_key().is_none()) {
            return refuse("InvalidCertificateRef", format!("there is no {name} with a certificate and its key"));
        }
    }
    None
}

//! MeshConfig: the settings of a whole mesh.
//!
//! Source: `mesh/v1alpha1/config.proto`. It is not a resource of its own. A cluster has it as YAML in the field `data.mesh`
//! of the ConfigMap `istio` in `istio-system`, and `istioctl install` gets it from `spec.meshConfig` of an IstioOperator.
//! A directory may have one of them; without, Istio's defaults hold.
//!
//! Every field is read, without effect for a reason that is reported ([`WITHOUT_EFFECT`]), or refused.

mod extension_provider;
mod holder;

pub use extension_provider::{
    BodyInCheck, ExtAuthzHttp, ExtAuthzProtocol, ExtAuthzProvider, ExtensionProvider, ProviderKind,
};
pub(super) use holder::{Holder, holder};

use super::sidecar::{OutboundTrafficPolicy, read_policy};
use crate::diagnostic::{Code, Diagnostic, Position};
use crate::document::{Context, FromNode, Located, Node, Object};
use crate::name::Name;

/// The settings of a mesh. The default is Istio's. Istio `MeshConfig`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MeshConfig {
    /// Where it was read; `None` if the directory has none.
    pub position: Option<Position>,
    /// See [`Self::trust_domain`].
    pub trust_domain: Option<String>,
    /// See [`Self::trust_domain_aliases`].
    pub trust_domain_aliases: Vec<String>,
    /// See [`Self::root_namespace`].
    pub root_namespace: Option<String>,
    /// See [`Self::enable_auto_mtls`].
    pub enable_auto_mtls: Option<bool>,
    /// How paths of requests are normalized. Istio `pathNormalization.normalization`.
    pub path_normalization: PathNormalization,
    /// What happens to calls to unknown hosts, unless a Sidecar says otherwise; `None` = `ALLOW_ANY`.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// Services that policies refer to by name, in the order of the file. Names are unique.
    pub extension_providers: Vec<ExtensionProvider>,
}

/// How paths of requests are normalized before they are matched. Istio `ProxyPathNormalization.NormalizationType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathNormalization {
    /// Not at all.
    None,
    /// RFC 3986: `.` and `..` are resolved, and `\` is `/`.
    #[default]
    Base,
    /// Also, `//` is `/`.
    MergeSlashes,
    /// Also, `%2F` and `%5C` are decoded before.
    DecodeAndMergeSlashes,
}

impl MeshConfig {
    /// Default of [`Self::trust_domain`].
    pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
    /// Default of [`Self::root_namespace`].
    pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

    /// The trust domain of the mesh's identities: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`. Default `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        self.trust_domain.as_deref().unwrap_or(Self::DEFAULT_TRUST_DOMAIN)
    }

    /// Other trust domains whose identities count as those of the mesh. Default none.
    pub fn trust_domain_aliases(&self) -> &[String] {
        &self.trust_domain_aliases
    }

    /// The namespace whose resources apply to the whole mesh. Default `istio-system`.
    pub fn root_namespace(&self) -> &str {
        self.root_namespace.as_deref().unwrap_or(Self::DEFAULT_ROOT_NAMESPACE)
    }

    /// Whether clients use mutual TLS wherever servers accept it, without a DestinationRule. Default true.
    pub fn enable_auto_mtls(&self) -> bool {
        self.enable_auto_mtls.unwrap_or(true)
    }

    /// The provider of this name.
    pub fn extension_provider(&self, name: &str) -> Option<&ExtensionProvider> {
        self.extension_providers.iter().find(|provider| provider.name.value == name)
    }
}

/// Fields that do nothing here, and why. They are reported, so that nobody relies on them.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("accessLogEncoding", ACCESS_LOGS),
    ("accessLogFile", ACCESS_LOGS),
    ("accessLogFormat", ACCESS_LOGS),
    ("configSources", "the directory is the only source of resources"),
    ("defaultConfig", "it configures the process of Istio's proxy; mesh-proxy and programs have options of their own"),
    ("enablePrometheusMerge", "metrics of the program and of the mesh are not merged"),
    ("enableTracing", "there is no tracing"),
    ("ingressClass", INGRESS),
    ("ingressControllerMode", INGRESS),
    ("ingressSelector", INGRESS),
    ("ingressService", INGRESS),
];
const ACCESS_LOGS: &str = "access logs are configured in the program";
const INGRESS: &str = "Ingress is left alone";

/// Fields that this version does not implement.
const UNSUPPORTED: &[&str] = &[
    "ca",
    "caCertificates",
    "certificates",
    "connectTimeout",
    "defaultDestinationRuleExportTo",
    "defaultHttpRetryPolicy",
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "disableEnvoyListenerLog",
    "discoverySelectors",
    "dnsRefreshRate",
    "enableEnvoyAccessLogService",
    "h2UpgradePolicy",
    "hboneIdleTimeout",
    "inboundClusterStatName",
    "inboundTrafficPolicy",
    "localityLbSetting",
    "meshMTLS",
    "outboundClusterStatName",
    "protocolDetectionTimeout",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "serviceScopeConfigs",
    "serviceSettings",
    "tcpKeepalive",
    "thriftConfig",
    "tlsDefaults",
    "verifyCertificateAtClient",
];

impl FromNode for MeshConfig {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        for (name, reason) in WITHOUT_EFFECT.iter().filter(|(name, _)| object.has(name)) {
            let message = format!("{name} has no effect: {reason}");
            let diagnostic = Diagnostic::info(Code::NoEffect, cx.position(object.key_mark(name)), message);
            cx.field(name).report(diagnostic.label("without effect"));
        }
        let mesh_config = Self {
            position: Some(object.position()),
            trust_domain: trust_domain(&object),
            trust_domain_aliases: trust_domain_aliases(&object),
            root_namespace: root_namespace(&object),
            enable_auto_mtls: object.optional("enableAutoMtls"),
            path_normalization: path_normalization(&object).unwrap_or_default(),
            outbound_traffic_policy: object
                .node("outboundTrafficPolicy")
                .and_then(|node| read_policy(node, cx.field("outboundTrafficPolicy"))),
            extension_providers: object.list("extensionProviders"),
        };
        default_providers(&object);
        extension_provider::check_names(&mesh_config.extension_providers, cx.field("extensionProviders"));
        object.unsupported(UNSUPPORTED);
        for (name, _) in WITHOUT_EFFECT {
            object.node(name);
        }
        object.finish();
        Some(mesh_config)
    }
}

/// An empty one is the default, as an absent one.
fn trust_domain(object: &Object<'_>) -> Option<String> {
    let domain: Located<String> = object.optional("trustDomain")?;
    check_trust_domain(&domain, object.cx.field("trustDomain"))
}

fn trust_domain_aliases(object: &Object<'_>) -> Vec<String> {
    let domains: Vec<Located<String>> = object.list("trustDomainAliases");
    let cx = object.cx.field("trustDomainAliases");
    (0..).zip(&domains).filter_map(|(index, domain)| check_trust_domain(domain, cx.index(index))).collect()
}

fn check_trust_domain(domain: &Located<String>, cx: Context<'_>) -> Option<String> {
    if domain.is_empty() {
        return None;
    }
    if !Name::Resource.admits(domain) {
        let message = format!("{:?} is not a trust domain", domain.value);
        cx.refuse(domain.position.clone(), message, format!("expected {}", Name::Resource.rule()));
        return None;
    }
    Some(domain.value.clone())
}

fn root_namespace(object: &Object<'_>) -> Option<String> {
    let namespace: Located<String> =
        object.optional("rootNamespace").filter(|name: &Located<String>| !name.is_empty())?;
    if !Name::Namespace.admits(&namespace) {
        let message = format!("{:?} is not a namespace", namespace.value);
        let expected = format!("expected {}", Name::Namespace.rule());
        object.cx.field("rootNamespace").refuse(namespace.position, message, expected);
        return None;
    }
    Some(namespace.value)
}

fn path_normalization(object: &Object<'_>) -> Option<PathNormalization> {
    let cx = object.cx.field("pathNormalization");
    let object = Object::new(object.node("pathNormalization")?, cx)?;
    let table = [
        ("DEFAULT", 0, Some(PathNormalization::Base)),
        ("NONE", 1, Some(PathNormalization::None)),
        ("BASE", 2, Some(PathNormalization::Base)),
        ("MERGE_SLASHES", 3, Some(PathNormalization::MergeSlashes)),
        ("DECODE_AND_MERGE_SLASHES", 4, Some(PathNormalization::DecodeAndMergeSlashes)),
    ];
    let normalization =
        object.node("normalization").and_then(|node| cx.field("normalization").enumeration(node, &table));
    object.finish();
    normalization
}

/// The only provider that is always there is the one of Prometheus' metrics.
fn default_providers(object: &Object<'_>) {
    let cx = object.cx.field("defaultProviders");
    let Some(object) = object.node("defaultProviders").and_then(|node| Object::new(node, cx)) else { return };
    let metrics: Vec<Located<String>> = object.list("metrics");
    let cx = cx.field("metrics");
    for (index, provider) in (0..).zip(metrics).filter(|(_, provider)| provider.value != "prometheus") {
        let message = format!("{:?} is not supported yet: metrics are Prometheus' only", provider.value);
        cx.index(index).unsupported_at(provider.position, message, None);
    }
    object.unsupported(&["accessLogging", "tracing"]);
    object.finish();
}

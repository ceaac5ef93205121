//! How the files of a configuration are read.

use super::metadata::DEFAULT_NAMESPACE;
use crate::document::Strictness;

/// How the files of a configuration are read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// What happens to what this version does not implement. Default [`Strictness::Strict`].
    pub strictness: Strictness,
    /// The namespace of resources that name none, as `kubectl --namespace`. Default `default`.
    pub namespace: String,
    /// Whether YAML that is no Kubernetes object, such as the values of a Helm chart, is an error. Default false: it is left
    /// alone, with a note.
    pub refuse_others: bool,
    /// Whether the workloads of the mesh get certificates, because there is a certificate authority. Without one,
    /// `PeerAuthentication` resources that require mutual TLS, and other policies that need these certificates, are refused.
    /// Default false.
    pub certificates: bool,
    /// Whether the keys of a RequestAuthentication may be fetched from a loopback or link-local address. Default false, because
    /// the author of a resource could otherwise reach addresses that only the proxy's machine can reach.
    pub allow_local_jwks_uri: bool,
}

impl Options {
    /// The same options with another namespace for resources that name none; `None` changes nothing.
    #[must_use]
    pub fn with_namespace(mut self, namespace: Option<&str>) -> Self {
        if let Some(namespace) = namespace {
            namespace.clone_into(&mut self.namespace);
        }
        self
    }

    /// The same options, where YAML that is no Kubernetes object is an error, or not.
    #[must_use]
    pub fn with_refuse_others(self, refuse_others: bool) -> Self {
        Self { refuse_others, ..self }
    }

    /// The same options, for a mesh whose workloads get certificates, or not.
    #[must_use]
    pub fn with_certificates(self, certificates: bool) -> Self {
        Self { certificates, ..self }
    }

    /// The same options, where keys may be fetched from a loopback or link-local address, or not.
    #[must_use]
    pub fn with_allow_local_jwks_uri(self, allow_local_jwks_uri: bool) -> Self {
        Self { allow_local_jwks_uri, ..self }
    }
}

impl Default for Options {
    fn default() -> Self {
        Strictness::Strict.into()
    }
}

impl From<Strictness> for Options {
    fn from(strictness: Strictness) -> Self {
        Self {
            strictness,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            refuse_others: false,
            certificates: false,
            allow_local_jwks_uri: false,
        }
    }
}

//! The keys of conditions.

use super::values::Form;
use crate::document::{Context, FromNode, Node};

/// Prefix of keys that name metadata of Envoy's filters.
const ENVOY_FILTERS: &str = "experimental.envoy.filters.";
const REQUEST_HEADERS: &str = "request.headers";
const REQUEST_CLAIMS: &str = "request.auth.claims";

/// The attribute of a condition. Istio `Condition.key`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute {
    /// `request.headers[NAME]`: a header.
    RequestHeader(String),
    /// `source.ip`: the address of the peer of the connection.
    SourceIp,
    /// `remote.ip`: the address of the client.
    RemoteIp,
    /// `source.namespace`: the namespace of the peer's identity.
    SourceNamespace,
    /// `source.serviceAccount`: the service account of the peer's identity.
    SourceServiceAccount,
    /// `source.trustDomain`: the trust domain of the peer's identity.
    SourceTrustDomain,
    /// `source.principal`: the peer's identity.
    SourcePrincipal,
    /// `request.auth.principal`: issuer and subject of the token.
    RequestPrincipal,
    /// `request.auth.audiences`: the token's claim `aud`.
    RequestAudiences,
    /// `request.auth.presenter`: the token's claim `azp`.
    RequestPresenter,
    /// `request.auth.claims[NAME]`, or with more names the path to a nested claim.
    RequestClaim(Vec<String>),
    /// `destination.ip`: the address on which the connection arrived.
    DestinationIp,
    /// `destination.port`: its port.
    DestinationPort,
    /// `connection.sni`: the server name that the client requests.
    ConnectionSni,
    /// `experimental.envoy.filters.FILTER[KEY]`: dynamic metadata.
    EnvoyMetadata {
        /// Name of the filter, with `envoy.filters.`.
        filter: String,
        /// Key of its metadata.
        key: String,
    },
}

impl Attribute {
    /// Whether it is about the peer's identity or about a token.
    pub(super) fn is_identity(&self) -> bool {
        match self {
            Self::SourceNamespace
            | Self::SourceServiceAccount
            | Self::SourceTrustDomain
            | Self::SourcePrincipal
            | Self::RequestPrincipal
            | Self::RequestAudiences
            | Self::RequestPresenter
            | Self::RequestClaim(_) => true,
            Self::RequestHeader(_)
            | Self::SourceIp
            | Self::RemoteIp
            | Self::DestinationIp
            | Self::DestinationPort
            | Self::ConnectionSni
            | Self::EnvoyMetadata { .. } => false,
        }
    }

    /// What its values are.
    pub(super) fn form(&self) -> Form {
        match self {
            Self::SourceIp | Self::RemoteIp | Self::DestinationIp => Form::Ip,
            Self::DestinationPort => Form::Port,
            Self::SourceNamespace => Form::Namespace,
            Self::SourceServiceAccount => Form::ServiceAccount,
            Self::SourceTrustDomain => Form::TrustDomain,
            _ => Form::Text,
        }
    }

    /// Reads a key.
    fn parse(key: &str) -> Result<Self, String> {
        Ok(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "source.trustDomain" => Self::SourceTrustDomain,
            "source.principal" => Self::SourcePrincipal,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::RequestAudiences,
            "request.auth.presenter" => Self::RequestPresenter,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::ConnectionSni,
            "destination.namespace" => return Err("replaced by the namespace of the policy".to_owned()),
            "destination.name" | "destination.user" => return Err("only in v1alpha1".to_owned()),
            _ if key.starts_with("destination.labels") => return Err("replaced by the selector".to_owned()),
            _ => return Self::parse_indexed(key),
        })
    }

    fn parse_indexed(key: &str) -> Result<Self, String> {
        if let Some(rest) = key.strip_prefix(REQUEST_HEADERS) {
            let name = in_brackets(rest).filter(|name| mesh_core::model::HeaderKey::parse(name).is_ok());
            let name = name.ok_or_else(|| format!("expected {REQUEST_HEADERS}[NAME]"))?;
            return Ok(Self::RequestHeader(name.to_owned()));
        }
        if let Some(rest) = key.strip_prefix(REQUEST_CLAIMS) {
            let claims = claims(rest).ok_or_else(|| format!("expected {REQUEST_CLAIMS}[NAME]"))?;
            return Ok(Self::RequestClaim(claims));
        }
        if key.starts_with(ENVOY_FILTERS) {
            let found = key["experimental.".len()..].split_once('[');
            let found = found.and_then(|(filter, rest)| Some((filter, rest.strip_suffix(']')?)));
            let (filter, key) =
                found.filter(|(_, key)| !key.is_empty()).ok_or_else(|| format!("expected {ENVOY_FILTERS}NAME[KEY]"))?;
            return Ok(Self::EnvoyMetadata { filter: filter.to_owned(), key: key.to_owned() });
        }
        Err("unknown attribute".to_owned())
    }
}

/// What is between `[` and `]`.
fn in_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']').filter(|name| !name.is_empty())
}

/// The names in `[a][b]`. If brackets are nested otherwise, the whole is one name, as in Istio.
fn claims(text: &str) -> Option<Vec<String>> {
    let whole = in_brackets(text)?;
    let names: Vec<_> = whole.split("][").map(str::to_owned).collect();
    let is_plain = names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']']));
    Some(if is_plain { names } else { vec![whole.to_owned()] })
}

impl FromNode for Attribute {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let key = String::from_node(node, cx)?;
        match Self::parse(&key) {
            Ok(attribute) => Some(attribute),
            Err(reason) => {
                cx.invalid(node.mark, format!("{key:?} is not a key: {reason}"), "expected an attribute");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_istio() {
        let claim = |names: &[&str]| Ok(Attribute::RequestClaim(names.iter().copied().map(str::to_owned).collect()));
        let header = |name: &str| Ok(Attribute::RequestHeader(name.to_owned()));
        for (key, expected) in [
            ("source.ip", Ok(Attribute::SourceIp)),
            ("request.headers[X-Tenant]", header("X-Tenant")),
            ("request.headers[:method]", header(":method")),
            ("request.headers[]", Err(())),
            ("request.headers[a b]", Err(())),
            ("request.headersX[a]", Err(())),
            ("request.headers", Err(())),
            ("request.auth.claims[iss]", claim(&["iss"])),
            ("request.auth.claims[a][b][c]", claim(&["a", "b", "c"])),
            ("request.auth.claims[a[b]]", claim(&["a[b]"])),
            ("request.auth.claims[a][]", claim(&["a]["])),
            ("request.auth.claims", Err(())),
            (
                "experimental.envoy.filters.a.b[c]",
                Ok(Attribute::EnvoyMetadata { filter: "envoy.filters.a.b".into(), key: "c".into() }),
            ),
            ("experimental.envoy.filters.a.b", Err(())),
            ("destination.labels[version]", Err(())),
            ("destination.user", Err(())),
            ("source.IP", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(Attribute::parse(key).map_err(|_| ()), expected, "{key}");
        }
    }
}

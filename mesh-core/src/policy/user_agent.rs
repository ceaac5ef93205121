//! The headers by which a proxy names itself to the services that it calls. Envoy `add_user_agent`.

use http::{HeaderMap, HeaderName, HeaderValue, header::USER_AGENT};

/// `x-envoy-downstream-service-cluster`: the service cluster of the proxy that sent a request.
pub const X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER: HeaderName =
    HeaderName::from_static("x-envoy-downstream-service-cluster");
/// `x-envoy-downstream-service-node`: the service node of the proxy that sent a request.
pub const X_ENVOY_DOWNSTREAM_SERVICE_NODE: HeaderName = HeaderName::from_static("x-envoy-downstream-service-node");

/// The name of a proxy in the requests that it forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAgent {
    cluster: HeaderValue,
    /// `None` = the node has no id.
    node: Option<HeaderValue>,
}

impl UserAgent {
    /// The name of a node with this id in this service cluster. `None` if one of them is no header value. As in Envoy, an empty
    /// cluster is written, an empty id is not.
    #[must_use]
    pub fn new(cluster: &str, node: &str) -> Option<Self> {
        let id = HeaderValue::from_str(node).ok()?;
        Some(Self { cluster: HeaderValue::from_str(cluster).ok()?, node: Some(id).filter(|id| !id.is_empty()) })
    }

    /// Names the proxy in a request. A `user-agent` of the client is kept, unless it is empty.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, self.cluster.clone());
        if headers.get(USER_AGENT).is_none_or(HeaderValue::is_empty) {
            headers.insert(USER_AGENT, self.cluster.clone());
        }
        if let Some(node) = &self.node {
            headers.insert(X_ENVOY_DOWNSTREAM_SERVICE_NODE, node.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(cluster: &str, node: &str, user_agent: Option<&'static str>) -> [Option<String>; 3] {
        let mut headers = HeaderMap::new();
        headers.insert(X_ENVOY_DOWNSTREAM_SERVICE_NODE, HeaderValue::from_static("client"));
        if let Some(user_agent) = user_agent {
            headers.insert(USER_AGENT, HeaderValue::from_static(user_agent));
        }
        UserAgent::new(cluster, node).unwrap().apply(&mut headers);
        [USER_AGENT, X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, X_ENVOY_DOWNSTREAM_SERVICE_NODE]
            .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_proxy_names_its_cluster_and_its_node_and_keeps_the_clients_user_agent() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(named("edge", "n1", None), [some("edge"), some("edge"), some("n1")]);
        assert_eq!(named("edge", "n1", Some("")), [some("edge"), some("edge"), some("n1")]);
        assert_eq!(named("edge", "n1", Some("curl")), [some("curl"), some("edge"), some("n1")]);
        assert_eq!(named("", "", None), [some(""), some(""), some("client")], "as Envoy does");
        assert_eq!(UserAgent::new("a\nb", ""), None);
    }
}

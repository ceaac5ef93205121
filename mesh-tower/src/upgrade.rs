//! Which requests switch the protocol of their connections, and whether they may: those with `upgrade`, and CONNECT.
//!
//! Such a request passes the pipeline like any other. Its body is what the client sends in the new protocol, the body of its
//! response is what the endpoint sends, and both end with the connections. Over HTTP/2, a stream takes the place of a connection
//! (RFC 8441). The pipeline sees all of them in the form of HTTP/1.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use mesh_core::{model::UpgradeConfig, policy::hop_by_hop::has_token};

/// The upgrade protocol of a request: the header `upgrade`, if `connection` lists `upgrade`.
#[must_use]
pub(crate) fn requested_upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    headers.get_all(header::CONNECTION).iter().any(|value| has_token(value, "upgrade")).then_some(upgrade)
}

/// Whether a response switches the protocol of the connection of a request that asks for it.
#[must_use]
pub(crate) fn switches_protocol(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success())
}

/// Whether `upgrade` is allowed. The configuration of the route takes precedence over that of the connection manager.
/// Without a configuration of the protocol it is not allowed.
#[must_use]
pub(crate) fn is_allowed(upgrade: &[u8], route: &[UpgradeConfig], manager: &[UpgradeConfig]) -> bool {
    let enabled = |configs: &[UpgradeConfig]| {
        let of_type = |config: &&UpgradeConfig| upgrade.eq_ignore_ascii_case(config.upgrade_type.as_bytes());
        configs.iter().find(of_type).map(|config| config.enabled)
    };
    // A route that refuses is final; one that allows needs no permission of the connection manager.
    enabled(route).or_else(|| enabled(manager)).unwrap_or(false)
}

/// Whether a request asks for a WebSocket.
#[must_use]
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    requested_upgrade(headers).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(upgrade_type: &str, enabled: bool) -> UpgradeConfig {
        let mut config = UpgradeConfig::new(upgrade_type);
        config.enabled = enabled;
        config
    }

    #[test]
    fn a_request_for_an_upgrade_has_two_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(requested_upgrade(&headers), None);
        headers.append(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.append(header::CONNECTION, HeaderValue::from_static("x, Upgrade"));
        assert_eq!(requested_upgrade(&headers).unwrap(), "websocket");
    }

    #[test]
    fn the_configuration_of_the_route_takes_precedence() {
        let websocket = b"WebSocket";
        let (on, off) = ([config("websocket", true)], [config("websocket", false)]);
        assert!(is_allowed(websocket, &[], &on));
        assert!(is_allowed(websocket, &on, &off));
        assert!(!is_allowed(websocket, &off, &on));
        assert!(!is_allowed(websocket, &[config("other", true)], &[]));
    }
}

//! Connections that stop being HTTP: after `101 Switching Protocols` bytes pass both ways until both ends are done.
//!
//! A client that says it has nothing more to send may still receive, and the other way round (half-close).

use http::{HeaderMap, HeaderValue, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_core::model::UpgradeConfig;
use tokio::io::copy_bidirectional;

use crate::drain::{DrainWatch, Phase};

/// Bytes that passed through a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TunnelBytes {
    /// From the client.
    pub(crate) received: u64,
    /// To the client.
    pub(crate) sent: u64,
}

/// The protocol a request asks to upgrade to: `connection: upgrade` names an `upgrade` header.
#[must_use]
pub(crate) fn requested_upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    let is_asked = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    is_asked.then_some(upgrade)
}

/// Whether `upgrade` passes. What the route says of this protocol counts before what the connection manager says;
/// nothing said means no.
#[must_use]
pub(crate) fn is_allowed(upgrade: &HeaderValue, route: &[UpgradeConfig], manager: &[UpgradeConfig]) -> bool {
    let says = |configs: &[UpgradeConfig]| {
        let of_type = |config: &&UpgradeConfig| upgrade.as_bytes().eq_ignore_ascii_case(config.upgrade_type.as_bytes());
        configs.iter().find(of_type).map(|config| config.enabled)
    };
    says(route).or_else(|| says(manager)).unwrap_or(false)
}

/// Passes bytes between the two ends of an upgraded connection until both have ended, one fails, or draining cuts it.
pub(crate) async fn tunnel(downstream: OnUpgrade, upstream: OnUpgrade, mut drain: DrainWatch) -> TunnelBytes {
    let (downstream, upstream) = match tokio::try_join!(downstream, upstream) {
        Ok(ends) => ends,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not complete");
            return TunnelBytes::default();
        }
    };
    let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
    let cut = async { while drain.changed().await < Phase::Closed {} };
    tokio::select! {
        copied = copy_bidirectional(&mut downstream, &mut upstream) => match copied {
            Ok((received, sent)) => TunnelBytes { received, sent },
            Err(error) => {
                tracing::debug!(%error, "a tunnel broke");
                TunnelBytes::default()
            }
        },
        () = cut => TunnelBytes::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(upgrade_type: &str, enabled: bool) -> UpgradeConfig {
        UpgradeConfig { upgrade_type: upgrade_type.into(), enabled }
    }

    #[test]
    fn an_upgrade_is_asked_for_by_two_headers_together() {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(requested_upgrade(&headers), None);
        headers.append(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.append(header::CONNECTION, HeaderValue::from_static("x, Upgrade"));
        assert_eq!(requested_upgrade(&headers).unwrap(), "websocket");
    }

    #[test]
    fn the_route_decides_before_the_connection_manager() {
        let websocket = HeaderValue::from_static("WebSocket");
        let (on, off) = ([config("websocket", true)], [config("websocket", false)]);
        assert!(is_allowed(&websocket, &[], &on));
        assert!(is_allowed(&websocket, &on, &off));
        assert!(!is_allowed(&websocket, &off, &on));
        assert!(!is_allowed(&websocket, &[config("other", true)], &[]));
    }
}

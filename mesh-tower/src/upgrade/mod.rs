//! Upgraded connections: after `101 Switching Protocols`, bytes are copied in both directions until both ends have ended.

use std::{pin::Pin, sync::Arc};

use http::{Extensions, HeaderMap, HeaderValue, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_core::{model::UpgradeConfig, telemetry::Counter};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    AsyncReadWrite, Io,
    drain::{DrainWatch, Phase},
    pipe::{End, Meters, Pipe, Side},
};

/// How many bytes a tunnel copied, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tunnelled {
    /// Bytes from the client.
    pub(crate) received: u64,
    /// Bytes to the client.
    pub(crate) sent: u64,
    pub(crate) ended_by: EndedBy,
}

/// What ended a tunnel: the end that was the first to close its write side or to fail, or draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// The client.
    Downstream,
    /// The endpoint.
    Upstream,
    /// Draining closed it.
    Drain,
}

type Run = Box<dyn FnOnce(Io) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What follows a `101 Switching Protocols` on the connection of the client. It is in the extensions of that response, until the
/// connection takes it.
#[derive(Clone)]
pub(crate) struct Tunnel(Arc<Mutex<Option<Run>>>);

impl Tunnel {
    /// A tunnel. `run` gets the client's byte stream when the response has been sent.
    pub(crate) fn new<F>(run: impl FnOnce(Io) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let run: Run = Box::new(move |downstream| Box::pin(run(downstream)));
        Self(Arc::new(Mutex::new(Some(run))))
    }

    /// Takes the tunnel of a response.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        if extensions.is_empty() { None } else { extensions.remove() }
    }

    /// Copies bytes until the tunnel ends.
    pub(crate) async fn run(self, downstream: impl AsyncReadWrite) {
        let run = self.0.lock().take();
        if let Some(run) = run {
            run(Io::boxed(downstream)).await;
        }
    }
}

/// The upgrade protocol of a request: the header `upgrade`, if `connection` lists `upgrade`.
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

/// Whether `upgrade` is allowed. The configuration of the route takes precedence over that of the connection manager.
/// Without a configuration of the protocol it is not allowed.
#[must_use]
pub(crate) fn is_allowed(upgrade: &HeaderValue, route: &[UpgradeConfig], manager: &[UpgradeConfig]) -> bool {
    let enabled = |configs: &[UpgradeConfig]| {
        let of_type = |config: &&UpgradeConfig| upgrade.as_bytes().eq_ignore_ascii_case(config.upgrade_type.as_bytes());
        configs.iter().find(of_type).map(|config| config.enabled)
    };
    enabled(route).or_else(|| enabled(manager)).unwrap_or(false)
}

/// Copies bytes between the two ends of an upgraded connection until both have ended, one fails, or draining closes it.
pub(crate) async fn tunnel(downstream: Io, upstream: OnUpgrade, drain: DrainWatch) -> Tunnelled {
    match upstream.await {
        Ok(upstream) => connect(downstream, TokioIo::new(upstream), drain).await,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not complete");
            Tunnelled { received: 0, sent: 0, ended_by: EndedBy::Downstream }
        }
    }
}

async fn connect<D, U>(downstream: D, upstream: U, mut drain: DrainWatch) -> Tunnelled
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (received, sent) = (Counter::default(), Counter::default());
    let downstream = End { io: downstream, meters: Meters { received: &[&received], sent: &[] } };
    let upstream = End { io: upstream, meters: Meters { received: &[&sent], sent: &[] } };
    let pipe = Pipe::new();
    let closed = drain.reached(Phase::Closed);
    tokio::select! {
        () = pipe.run(downstream, upstream) => {}
        () = closed => {}
    }
    let ended_by = match pipe.ended_first() {
        Some(Side::Downstream) => EndedBy::Downstream,
        Some(Side::Upstream) => EndedBy::Upstream,
        None => EndedBy::Drain,
    };
    Tunnelled { received: received.get(), sent: sent.get(), ended_by }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::drain::Drain;

    #[tokio::test]
    async fn a_tunnel_reports_which_end_ended_it_and_the_bytes_copied() {
        for ended_by in [EndedBy::Downstream, EndedBy::Upstream] {
            let (mut client, downstream) = duplex(64);
            let (mut server, upstream) = duplex(64);
            let tunnel = tokio::spawn(connect(downstream, upstream, Drain::new().watch()));
            client.write_all(b"hello").await.unwrap();
            server.read_exact(&mut [0; 5]).await.unwrap();
            let (first, second) = match ended_by {
                EndedBy::Downstream => (&mut client, &mut server),
                _ => (&mut server, &mut client),
            };
            first.shutdown().await.unwrap();
            assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0);
            // An end that has closed its write side may still receive.
            second.write_all(b"bye").await.unwrap();
            first.read_exact(&mut [0; 3]).await.unwrap();
            drop((client, server));
            let (received, sent) = if ended_by == EndedBy::Downstream { (5, 3) } else { (8, 0) };
            assert_eq!(tunnel.await.unwrap(), Tunnelled { received, sent, ended_by });
        }
    }

    #[tokio::test]
    async fn draining_closes_a_tunnel() {
        let (_client, downstream) = duplex(64);
        let (_server, upstream) = duplex(64);
        let drain = Drain::new();
        let watch = drain.watch();
        drain.abort();
        let closed = Tunnelled { received: 0, sent: 0, ended_by: EndedBy::Drain };
        assert_eq!(connect(downstream, upstream, watch).await, closed);
    }

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
        let websocket = HeaderValue::from_static("WebSocket");
        let (on, off) = ([config("websocket", true)], [config("websocket", false)]);
        assert!(is_allowed(&websocket, &[], &on));
        assert!(is_allowed(&websocket, &on, &off));
        assert!(!is_allowed(&websocket, &off, &on));
        assert!(!is_allowed(&websocket, &[config("other", true)], &[]));
    }
}

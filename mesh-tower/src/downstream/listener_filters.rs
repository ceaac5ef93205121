//! Listener filters, which inspect the first bytes of a connection so that its filter chain can be chosen.

use std::{io, sync::Arc, time::Duration};

use mesh_core::{
    listener::{ConnectionFacts, InspectedHttp, Inspection, MAX_REQUEST_LINE, inspect_http, inspect_tls},
    model::{Listener, ListenerFilter, ListenerFilterConfig, TlsInspector, TransportProtocol},
};
use tokio::io::AsyncRead;

use super::ReadAhead;
use crate::telemetry::{DownstreamStats, HttpInspectorStats, ListenerStats, TlsInspectorStats};

/// The listener filters of one listener.
#[derive(Debug)]
pub(crate) struct ListenerFilters {
    filters: Vec<ListenerFilter>,
    timeout: Option<Duration>,
    continue_on_timeout: bool,
    listener: Arc<ListenerStats>,
    tls_inspector: Arc<TlsInspectorStats>,
    http_inspector: Arc<HttpInspectorStats>,
}

/// Why a connection is closed before it is served.
#[derive(Debug)]
enum Rejected {
    /// The client has closed it, or it failed.
    Ended,
    /// The first bytes are invalid or too many.
    Refused,
}

impl From<io::Error> for Rejected {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

impl ListenerFilters {
    pub(crate) fn new(listener: &Listener, stats: &DownstreamStats) -> Self {
        Self {
            filters: listener.listener_filters.clone(),
            timeout: listener.listener_filters_timeout,
            continue_on_timeout: listener.continue_on_listener_filters_timeout,
            listener: stats.listener(&listener.stat_prefix),
            tls_inspector: stats.tls_inspector(),
            http_inspector: stats.http_inspector(),
        }
    }

    /// Inspects the first bytes and adds the result to `facts`. `false` = the connection is to be closed.
    pub(crate) async fn inspect<I>(&self, io: &mut ReadAhead<I>, facts: &mut ConnectionFacts) -> bool
    where
        I: AsyncRead + Unpin,
    {
        if self.filters.is_empty() {
            return true;
        }
        let _waiting = self.listener.waiting_connection();
        let inspected = match self.timeout {
            Some(timeout) => tokio::time::timeout(timeout, self.run(io, facts)).await,
            None => Ok(self.run(io, facts).await),
        };
        match inspected {
            Ok(Ok(())) => true,
            Ok(Err(Rejected::Refused)) => false,
            Ok(Err(Rejected::Ended)) => {
                self.listener.downstream_listener_filter_remote_close.inc();
                false
            }
            Err(_) => {
                self.listener.downstream_pre_cx_timeout.inc();
                self.continue_on_timeout
            }
        }
    }

    async fn run<I>(&self, io: &mut ReadAhead<I>, facts: &mut ConnectionFacts) -> Result<(), Rejected>
    where
        I: AsyncRead + Unpin,
    {
        for filter in &self.filters {
            if filter.is_disabled(facts.destination) {
                continue;
            }
            match &filter.config {
                ListenerFilterConfig::TlsInspector(config) => self.find_tls(config, io, facts).await?,
                ListenerFilterConfig::HttpInspector if facts.transport_protocol == TransportProtocol::RawBuffer => {
                    self.find_http(io, facts).await?;
                }
                // Encrypted bytes cannot be inspected. The original destination is known when the connection is accepted.
                ListenerFilterConfig::HttpInspector | ListenerFilterConfig::OriginalDst => {}
            }
        }
        Ok(())
    }

    async fn find_tls<I>(
        &self,
        config: &TlsInspector,
        io: &mut ReadAhead<I>,
        facts: &mut ConnectionFacts,
    ) -> Result<(), Rejected>
    where
        I: AsyncRead + Unpin,
    {
        let stats = &*self.tls_inspector;
        let Some(inspected) = look(io, config.max_client_hello_size, inspect_tls).await? else {
            stats.client_hello_too_large.inc();
            return Err(Rejected::Refused);
        };
        let Some(hello) = inspected else {
            if config.close_connection_on_client_hello_parsing_errors {
                return Err(Rejected::Refused);
            }
            stats.tls_not_found.inc();
            return Ok(());
        };
        stats.tls_found.inc();
        let found = [
            (hello.server_name.is_some(), &stats.sni_found, &stats.sni_not_found),
            (!hello.application_protocols.is_empty(), &stats.alpn_found, &stats.alpn_not_found),
        ];
        found.into_iter().for_each(|(is_found, found, not_found)| if is_found { found } else { not_found }.inc());
        facts.transport_protocol = TransportProtocol::Tls;
        facts.server_name = hello.server_name;
        facts.application_protocols = hello.application_protocols;
        Ok(())
    }

    async fn find_http<I>(&self, io: &mut ReadAhead<I>, facts: &mut ConnectionFacts) -> Result<(), Rejected>
    where
        I: AsyncRead + Unpin,
    {
        let stats = &*self.http_inspector;
        let Some(inspected) = look(io, MAX_REQUEST_LINE, inspect_http).await? else {
            stats.read_error.inc();
            return Err(Rejected::Refused);
        };
        let Some(version) = inspected else {
            stats.http_not_found.inc();
            return Ok(());
        };
        match version {
            InspectedHttp::Http10 => stats.http10_found.inc(),
            InspectedHttp::Http11 => stats.http11_found.inc(),
            InspectedHttp::Http2 => stats.http2_found.inc(),
        }
        facts.application_protocols = vec![version.application_protocol().into()];
        Ok(())
    }
}

/// Reads ahead until `inspect` decides; `None` if `limit` bytes are not enough.
async fn look<I, T>(
    io: &mut ReadAhead<I>,
    limit: usize,
    inspect: fn(&[u8]) -> Inspection<T>,
) -> Result<Option<Option<T>>, Rejected>
where
    I: AsyncRead + Unpin,
{
    loop {
        match inspect(io.ahead()) {
            Inspection::Found(found) => return Ok(Some(Some(found))),
            Inspection::NotFound => return Ok(Some(None)),
            Inspection::Incomplete if io.ahead().len() >= limit => return Ok(None),
            Inspection::Incomplete => {}
        }
        if io.look(limit).await? == 0 {
            return Err(Rejected::Ended);
        }
    }
}

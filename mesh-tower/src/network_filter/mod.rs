//! Network filters: what happens to a connection between its transport socket and the filter that serves it, and the
//! filters that serve connections without HTTP and without an endpoint.
//!
//! A filter before the last one sees what is known about the connection (addresses, server name, identity of the peer). It
//! may wait, and may close the connection. The filters run in configured order, before the first byte is passed on.

mod direct_response;
mod echo;
mod rbac;

use mesh_core::model::NetworkFilter;

pub(crate) use direct_response::direct_response;
pub(crate) use echo::echo;

use crate::{downstream::Downstream, telemetry::Telemetry};

/// The filters of a chain before the one that serves the connection, in configured order.
#[derive(Debug)]
pub(crate) struct NetworkFilters(Vec<Filter>);

#[derive(Debug)]
enum Filter {
    Rbac(rbac::Rbac),
}

/// What happens to a connection after a filter has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The next filter sees it.
    Continue,
    /// It is closed.
    Close,
}

impl NetworkFilters {
    /// `None` if one of the filters must be the last.
    pub(crate) fn new(filters: &[NetworkFilter], telemetry: &Telemetry) -> Option<Self> {
        let new = |filter: &NetworkFilter| match filter {
            NetworkFilter::Rbac(config) => Some(Filter::Rbac(rbac::Rbac::new(config, telemetry))),
            NetworkFilter::HttpConnectionManager(_)
            | NetworkFilter::TcpProxy(_)
            | NetworkFilter::DirectResponse(_)
            | NetworkFilter::Echo => None,
        };
        filters.iter().map(new).collect::<Option<_>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Passes a connection to all filters; `false` if one of them closes it.
    pub(crate) async fn on_connection(&self, downstream: &mut Downstream) -> bool {
        for filter in &self.0 {
            let status = match filter {
                Filter::Rbac(filter) => filter.on_connection(downstream).await,
            };
            if status == Status::Close {
                return false;
            }
        }
        true
    }
}

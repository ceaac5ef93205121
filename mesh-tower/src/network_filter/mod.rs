//! Network filters: what happens to a connection between its transport socket and the filter that serves it, and the
//! filters that serve connections without HTTP and without an endpoint.
//!
//! A filter before the last one sees what is known about the connection (addresses, server name, identity of the peer). It
//! may wait, and may close the connection. The filters run in configured order, before the first byte is passed on.

mod direct_response;
mod echo;
mod ext_authz;
mod rbac;

use mesh_core::model::NetworkFilter;

pub(crate) use direct_response::direct_response;
pub(crate) use echo::echo;

use crate::{cluster_client::ClusterClients, downstream::Downstream, telemetry::Telemetry};

/// The filters of a chain before the one that serves the connection, in configured order.
#[derive(Debug)]
pub(crate) struct NetworkFilters(Vec<Filter>);

#[derive(Debug)]
enum Filter {
    Rbac(rbac::Rbac),
    ExtAuthz(Box<ext_authz::ExtAuthz>),
}

/// Why filters cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidFilters {
    /// One that must be the last is not.
    NotTerminated,
    /// One sends requests, and there is nothing to send them with.
    NoClients,
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
    /// `clients` are for requests of the filters' own.
    ///
    /// # Errors
    /// If one of the filters must be the last, or needs clients and there are none.
    pub(crate) fn new(
        filters: &[NetworkFilter],
        telemetry: &Telemetry,
        clients: Option<&dyn ClusterClients>,
    ) -> Result<Self, InvalidFilters> {
        let new = |filter: &NetworkFilter| match filter {
            NetworkFilter::Rbac(config) => Ok(Filter::Rbac(rbac::Rbac::new(config, telemetry))),
            NetworkFilter::ExtAuthz(config) => {
                let clients = clients.ok_or(InvalidFilters::NoClients)?;
                Ok(Filter::ExtAuthz(Box::new(ext_authz::ExtAuthz::new(config, telemetry, clients))))
            }
            NetworkFilter::HttpConnectionManager(_)
            | NetworkFilter::TcpProxy(_)
            | NetworkFilter::DirectResponse(_)
            | NetworkFilter::Echo => Err(InvalidFilters::NotTerminated),
        };
        filters.iter().map(new).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Passes a connection to all filters; `false` if one of them closes it.
    pub(crate) async fn on_connection(&self, downstream: &mut Downstream) -> bool {
        for filter in &self.0 {
            let status = match filter {
                Filter::Rbac(filter) => filter.on_connection(downstream).await,
                Filter::ExtAuthz(filter) => filter.on_connection(downstream).await,
            };
            if status == Status::Close {
                return false;
            }
        }
        true
    }
}

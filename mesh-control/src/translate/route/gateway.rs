//! Virtual hosts of a gateway: the hosts of its servers that VirtualServices are bound to.

use std::collections::BTreeMap;

use super::matcher::is_catch_all;
use super::rules;
use super::virtual_host::{route_configuration, virtual_host};
use crate::config::ServerMode;
use crate::translate::gateway_server::GatewayServer;
use crate::translate::proto::route as envoy;
use crate::translate::view::View;
use envoy::virtual_host::TlsRequirementType;

/// A virtual host whose routes come from several VirtualServices.
#[derive(Debug, Default)]
struct Gathered {
    routes: Vec<envoy::Route>,
    requires_tls: bool,
}

/// Routes of servers that share them: those of plain HTTP on one port, or a single one of HTTPS.
pub(in crate::translate) fn routes(
    view: &View<'_>,
    name: String,
    servers: &[GatewayServer<'_>],
) -> envoy::RouteConfiguration {
    let mut hosts: BTreeMap<String, Gathered> = BTreeMap::new();
    for server in servers {
        let requires_tls = server.server.mode == ServerMode::Http { https_redirect: true };
        for service in server.virtual_services(view) {
            let routes = rules::routes(&server.entry(view), service);
            for host in server.common_hosts(service) {
                let gathered = hosts.entry(host.to_string()).or_default();
                gathered.routes.extend(routes.iter().cloned());
                gathered.requires_tls |= requires_tls;
            }
        }
        // A redirect needs no route to be redirected from.
        for host in server.server.hosts.iter().filter(|_| requires_tls) {
            hosts.entry(host.host.to_string()).or_default().requires_tls = true;
        }
    }
    let port = servers.first().map_or(0, |server| server.server.port);
    let virtual_hosts = hosts.into_iter().map(|(host, gathered)| build(&host, port, gathered)).collect();
    route_configuration(name, virtual_hosts)
}

/// Routes that match every request are last, because several VirtualServices may share a host.
fn build(host: &str, port: u16, gathered: Gathered) -> envoy::VirtualHost {
    let (last, mut routes): (Vec<_>, Vec<_>) = gathered.routes.into_iter().partition(is_catch_all);
    routes.extend(last.into_iter().take(1));
    let mut virtual_host = virtual_host(format!("{host}:{port}"), vec![host.to_owned()], routes);
    if gathered.requires_tls {
        virtual_host.set_require_tls(TlsRequirementType::All);
    }
    virtual_host
}

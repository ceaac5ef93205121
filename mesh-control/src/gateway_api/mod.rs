//! Gateway API in terms of Istio's resources, as istiod has it too: a listener of a Gateway is a server of an Istio Gateway, and
//! the rules of routes are those of VirtualServices.
//!
//! ```text
//! GatewayClass, Gateway ─► listeners ─┐
//! HTTPRoute, GRPCRoute ───────────────┴► attach (parents) ─► rules, in Gateway API's order ─► Gateways, VirtualServices
//!                                             └──────► status: conditions of each resource, as values
//! ```
//!
//! A Gateway is served by the proxies of its namespace that have the label `gateway.networking.k8s.io/gateway-name` with its
//! name, if its class is [`CLASS`] or one of [`CONTROLLER`]; others are another controller's, and nothing is said about them. A
//! route whose parent is a Service is followed by the clients of the Service in the mesh: by all if it is in the namespace of
//! the Service, or else by those in its own.
//!
//! What cannot be followed is no error, as the specification requires, but a condition: a rule with a backend that does not
//! exist or that needs a ReferenceGrant answers 500. Deviating from the specification, it does so for all of its requests, and
//! not only for the share of that backend.

mod attach;
mod backend;
mod grants;
mod listener;
mod rule;
mod status;

pub use status::{Condition, GatewayStatus, ListenerStatus, RouteStatus, Statuses};

use crate::config::{Config, Gateway, GatewayClass, KubernetesGateway, VirtualService};
use crate::registry::Registry;

/// The controller whose GatewayClasses are served. The name is istiod's, whose place this crate takes.
pub const CONTROLLER: &str = "istio.io/gateway-controller";
/// The class that is served without a GatewayClass.
pub const CLASS: &str = "istio";
/// The label of a proxy with the name of the Gateway that it serves.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// The resources of Gateway API in terms of Istio's, and what became of them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GatewayApi {
    /// Rules of routes, by listener or service, and host.
    pub virtual_services: Vec<VirtualService>,
    /// Listeners, one in each.
    pub gateways: Vec<Gateway>,
    /// The conditions of the resources.
    pub statuses: Statuses,
}

impl GatewayApi {
    /// Translates the resources of a configuration.
    pub fn new(config: &Config, registry: &Registry) -> Self {
        let mut listeners = listener::Listeners::new(config, |gateway| is_served(config, gateway));
        let attached = attach::attach(config, registry, &mut listeners);
        let mut statuses = Statuses::new(attached.statuses, &listeners);
        let classes = config.gateway_classes.iter().filter(|class| is_ours(class));
        statuses.classes = classes.map(|class| class.metadata.name.clone()).collect();
        Self {
            virtual_services: rule::virtual_services(attached.entries, &listeners, registry),
            gateways: listeners.gateways(),
            statuses,
        }
    }
}

fn is_ours(class: &GatewayClass) -> bool {
    class.controller_name == CONTROLLER
}

fn is_served(config: &Config, gateway: &KubernetesGateway) -> bool {
    let name = &gateway.gateway_class_name;
    let class = config.gateway_classes.iter().find(|class| class.metadata.name == *name);
    class.map_or(name == CLASS, is_ours)
}

#[cfg(test)]
mod tests;

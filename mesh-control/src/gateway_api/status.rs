//! The status of resources of Gateway API, as values that a registry can write back.

use super::listener::{Listeners, State};
use crate::config::{Kind, ListenerProtocol, ParentRef};

/// A condition of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition {
    /// Its type, such as `Accepted`.
    pub condition_type: &'static str,
    /// Whether it holds.
    pub status: bool,
    /// The reason, one of Gateway API's.
    pub reason: &'static str,
    /// Details; may be empty.
    pub message: String,
}

impl Condition {
    pub(super) fn new(condition_type: &'static str, status: bool, reason: &'static str, message: String) -> Self {
        Self { condition_type, status, reason, message }
    }

    /// That a GatewayClass is served.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn of_class() -> Self {
        Self::new("Accepted", true, "Accepted", String::new())
    }
}

/// The status of a route for one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStatus {
    /// Kind of the route.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The parent.
    pub parent: ParentRef,
    /// `Accepted` and `ResolvedRefs`.
    pub conditions: Vec<Condition>,
}

/// The status of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `Accepted` and `Programmed`.
    pub conditions: Vec<Condition>,
    /// Its listeners.
    pub listeners: Vec<ListenerStatus>,
}

/// The status of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Kinds of routes that it serves.
    pub supported_kinds: Vec<&'static str>,
    /// Number of routes that are attached.
    pub attached_routes: usize,
    /// `Accepted`, `Conflicted`, `ResolvedRefs` and `Programmed`.
    pub conditions: Vec<Condition>,
}

/// The status of all resources that are served here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statuses {
    /// Names of the GatewayClasses, which are accepted.
    pub classes: Vec<String>,
    /// The Gateways.
    pub gateways: Vec<GatewayStatus>,
    /// The routes, each with one entry for a parent.
    pub routes: Vec<RouteStatus>,
}

impl Statuses {
    pub(super) fn new(routes: Vec<RouteStatus>, listeners: &Listeners<'_>) -> Self {
        let mut gateways: Vec<GatewayStatus> = Vec::new();
        for state in &listeners.0 {
            let metadata = &state.gateway.metadata;
            let is_same = |it: &&mut GatewayStatus| it.namespace == metadata.namespace && it.name == metadata.name;
            let status = of_listener(state);
            match gateways.iter_mut().rfind(is_same) {
                Some(gateway) => gateway.listeners.push(status),
                None => gateways.push(GatewayStatus {
                    namespace: metadata.namespace.clone(),
                    name: metadata.name.clone(),
                    conditions: Vec::new(),
                    listeners: vec![status],
                }),
            }
        }
        gateways.iter_mut().for_each(conclude);
        Self { classes: Vec::new(), gateways, routes }
    }
}

fn of_listener(state: &State<'_>) -> ListenerStatus {
    let problem = |name| state.problem.as_ref().filter(|problem| problem.condition_type == name);
    let holds = |name, reason| Condition::new(name, true, reason, String::new());
    let (conflict, refs) = (problem("Conflicted"), problem("ResolvedRefs"));
    let accepted = match conflict {
        Some(conflict) => Condition::new("Accepted", false, conflict.reason, conflict.message.clone()),
        None => holds("Accepted", "Accepted"),
    };
    let no_conflict = || Condition::new("Conflicted", false, "NoConflicts", String::new());
    let programmed = match &state.problem {
        Some(problem) => Condition::new("Programmed", false, "Invalid", problem.message.clone()),
        None => holds("Programmed", "Programmed"),
    };
    ListenerStatus {
        name: state.listener.name.clone(),
        supported_kinds: match state.listener.protocol {
            ListenerProtocol::Http | ListenerProtocol::Https => vec!["HTTPRoute", "GRPCRoute"],
        },
        attached_routes: state.attached,
        conditions: vec![
            accepted,
            conflict.cloned().unwrap_or_else(no_conflict),
            refs.cloned().unwrap_or_else(|| holds("ResolvedRefs", "ResolvedRefs")),
            programmed,
        ],
    }
}

/// The conditions of a Gateway, from those of its listeners.
fn conclude(gateway: &mut GatewayStatus) {
    let is_programmed =
        |listener: &ListenerStatus| listener.conditions.iter().any(|it| it.condition_type == "Programmed" && it.status);
    let invalid: Vec<_> =
        gateway.listeners.iter().filter(|listener| !is_programmed(listener)).map(|it| it.name.as_str()).collect();
    let message =
        if invalid.is_empty() { String::new() } else { format!("not served: listeners {}", invalid.join(", ")) };
    let is_served = invalid.len() < gateway.listeners.len();
    let reason = if invalid.is_empty() { "Accepted" } else { "ListenersNotValid" };
    let programmed = if is_served { "Programmed" } else { "Invalid" };
    gateway.conditions = vec![
        Condition::new("Accepted", is_served, reason, message.clone()),
        Condition::new("Programmed", is_served, programmed, message),
    ];
}

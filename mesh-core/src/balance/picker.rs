//! The picker of a cluster.

use std::sync::Arc;

use super::{candidate::Candidate, context::PickContext, policy::Policy, turns::Turns};
use crate::{
    endpoint::{EndpointId, EndpointState},
    rng::Rng,
};

/// The result of a pick.
#[derive(Debug)]
pub(crate) struct Picked<'a> {
    /// The endpoint, if there is one.
    pub(crate) endpoint: Option<&'a Arc<EndpointState>>,
    /// Whether the priority is in panic: health was ignored, or the request fails.
    pub(crate) in_panic: bool,
}

/// Picks endpoints of a cluster.
#[derive(Debug)]
pub(crate) struct Picker {
    /// Cumulative percentages of the sources; the last is 100.
    pub(super) shares: Box<[(u64, Source)]>,
}

/// The endpoints of one priority and health.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) in_panic: bool,
    pub(super) lists: Lists,
}

#[derive(Debug)]
pub(super) enum Lists {
    One(EndpointList),
    ByLocality { turns: Turns, localities: Box<[EndpointList]> },
}

/// Endpoints that one policy picks from.
#[derive(Debug)]
pub(super) struct EndpointList {
    pub(super) candidates: Box<[Candidate]>,
    pub(super) policy: Policy,
}

impl Picker {
    pub(crate) fn pick(&self, context: &mut PickContext<'_, impl Rng>) -> Picked<'_> {
        let Some(source) = self.source(context.rng) else { return Picked { endpoint: None, in_panic: false } };
        let endpoint = source.list().map(|list| {
            let picked = list.policy.pick(&list.candidates, context);
            &list.candidates[picked].endpoint
        });
        Picked { endpoint, in_panic: source.in_panic }
    }

    /// Whether an endpoint other than `tried` can be picked.
    pub(crate) fn has_endpoint_besides(&self, tried: &[EndpointId]) -> bool {
        let lists = self.shares.iter().flat_map(|(_, source)| match &source.lists {
            Lists::One(list) => std::slice::from_ref(list),
            Lists::ByLocality { localities, .. } => localities,
        });
        lists.flat_map(|list| &list.candidates).any(|candidate| !tried.contains(&candidate.endpoint.id()))
    }

    /// Selects the priority and health.
    fn source(&self, rng: &mut impl Rng) -> Option<&Source> {
        Some(match &*self.shares {
            [] => return None,
            [(_, only)] => only,
            [first, .., (_, last)] => {
                let drawn = rng.below(100);
                if drawn < first.0 {
                    &first.1
                } else {
                    self.shares.iter().find(|(upper, _)| drawn < *upper).map_or(last, |(_, source)| source)
                }
            }
        })
    }
}

impl Source {
    /// The list to pick from; `None` = it is empty.
    fn list(&self) -> Option<&EndpointList> {
        let list = match &self.lists {
            Lists::One(list) => list,
            Lists::ByLocality { localities, .. } if localities.is_empty() => return None,
            Lists::ByLocality { turns, localities } => &localities[turns.next()],
        };
        (!list.candidates.is_empty()).then_some(list)
    }
}

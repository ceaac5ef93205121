//! Changes in numbers: `applied 14 clusters, 9 routes, removed 1 cluster`.

use std::fmt;

use mesh_core::plural::counted;

use crate::resource::ResourceType;

/// The types of resources in the order in which a summary has them, and their names there.
const TYPES: [(ResourceType, &str); ResourceType::ALL.len()] = [
    (ResourceType::Listener, "listener"),
    (ResourceType::ClusterLoadAssignment, "load assignment"),
    (ResourceType::Cluster, "cluster"),
    (ResourceType::Secret, "secret"),
    (ResourceType::RouteConfiguration, "route"),
];

/// Numbers of resources that have changed, by type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    applied: [usize; ResourceType::ALL.len()],
    removed: [usize; ResourceType::ALL.len()],
}

impl Summary {
    pub(super) fn add(&mut self, resource_type: ResourceType, applied: usize, removed: usize) {
        self.applied[resource_type as usize] += applied;
        self.removed[resource_type as usize] += removed;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |verb, numbers: &[usize; ResourceType::ALL.len()]| {
            let some = TYPES.into_iter().map(|(resource_type, noun)| (numbers[resource_type as usize], noun));
            let some: Vec<_> = some.filter(|(number, _)| *number > 0).collect();
            let texts: Vec<_> = some.into_iter().map(|(number, noun)| counted(number, noun).to_string()).collect();
            (!texts.is_empty()).then(|| format!("{verb} {}", texts.join(", ")))
        };
        let parts: Vec<_> =
            [of("applied", &self.applied), of("removed", &self.removed)].into_iter().flatten().collect();
        if parts.is_empty() { f.write_str("applied nothing") } else { f.write_str(&parts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_types_that_have_changed() {
        let mut summary = Summary::default();
        assert_eq!(summary.to_string(), "applied nothing");
        summary.add(ResourceType::Cluster, 14, 0);
        summary.add(ResourceType::RouteConfiguration, 9, 0);
        assert_eq!(summary.to_string(), "applied 14 clusters, 9 routes");
        summary.add(ResourceType::Listener, 1, 2);
        summary.add(ResourceType::ClusterLoadAssignment, 1, 0);
        assert_eq!(
            summary.to_string(),
            "applied 1 listener, 1 load assignment, 14 clusters, 9 routes, removed 2 listeners"
        );
        let mut removed = Summary::default();
        removed.add(ResourceType::Cluster, 0, 1);
        assert_eq!(removed.to_string(), "removed 1 cluster");
    }
}

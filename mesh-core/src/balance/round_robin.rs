//! Round robin: equal weights in turn, unequal ones by earliest deadline first (E50).

use super::EndpointList;

/// The endpoint whose turn it is.
pub(super) fn pick(list: &EndpointList) -> usize {
    list.turns.next()
}

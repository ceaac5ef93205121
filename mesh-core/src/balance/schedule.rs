//! A cyclic schedule in which each member has a number of slots proportional to its weight, spread evenly.
//!
//! The order is that of earliest deadline first: a member of weight `w` has the deadlines `1/w, 2/w, 3/w …`, and the
//! earliest deadline is next. Of equal deadlines, the one that was queued first is next, as in Envoy. With integer weights
//! the order repeats after `sum / gcd` picks. The queue is therefore run once when the schedule is built, and a pick is a
//! lookup.

/// The members of all slots.
#[derive(Debug)]
pub(super) struct Schedule {
    slots: Box<[u32]>,
}

impl Schedule {
    /// Limits memory and build time. If the schedule would be longer, weights are scaled down to this number of slots, or to
    /// [`Schedule::SLOTS_PER_MEMBER`] for each member if that is more. Every member has at least one slot.
    const MAX_SLOTS: u64 = 1 << 16;
    const SLOTS_PER_MEMBER: u64 = 16;

    /// Builds the schedule. `None` if all weights are equal, so that each member has one slot.
    pub(super) fn new(weights: impl ExactSizeIterator<Item = u64> + Clone) -> Option<Self> {
        let first = weights.clone().next()?;
        if weights.clone().all(|weight| weight == first) {
            return None;
        }
        let divisor = weights.clone().fold(0, greatest_common_divisor).max(1);
        let total: u128 = weights.clone().map(|weight| u128::from(weight / divisor)).sum();
        let max = u128::from(Self::MAX_SLOTS.max(Self::SLOTS_PER_MEMBER * weights.len() as u64));
        let scaled = weights.map(|weight| {
            let weight = u128::from(weight / divisor);
            let slots = if total <= max { weight } else { (weight * max + total / 2) / total };
            u64::try_from(slots).unwrap_or(u64::MAX).max(1)
        });
        Some(Self { slots: earliest_deadline_first(&scaled.collect::<Vec<_>>()) })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The member in slot `slot`, which is less than [`Schedule::len`].
    pub(super) fn at(&self, slot: usize) -> usize {
        self.slots[slot] as usize
    }
}

/// The order in which the queue would run for one period, computed by sorting all deadlines. A member is queued again when
/// its previous deadline is served. Of equal deadlines, that of the member with the lower weight was queued first, because
/// its gaps are longer. Members of equal weight keep their order.
fn earliest_deadline_first(weights: &[u64]) -> Box<[u32]> {
    let heaviest = weights.iter().copied().max().unwrap_or(1);
    // As many fractional bits as possible. Different deadlines are at least 1 / heaviest^2 apart.
    let shift = heaviest.leading_zeros();
    let deadlines = (0u32..)
        .zip(weights)
        .flat_map(|(member, &weight)| (1..=weight).map(move |pick| ((pick << shift) / weight, weight, member)));
    let mut deadlines: Vec<_> = deadlines.collect();
    deadlines.sort_unstable();
    deadlines.into_iter().map(|(_, _, member)| member).collect()
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, SplitMix64};

    fn slots(weights: &[u64]) -> Option<Vec<u32>> {
        Schedule::new(weights.iter().copied()).map(|schedule| schedule.slots.into())
    }

    #[test]
    fn equal_weights_need_no_schedule() {
        assert_eq!(slots(&[]), None);
        assert_eq!(slots(&[7]), None);
        assert_eq!(slots(&[3, 3, 3]), None);
    }

    #[test]
    fn unequal_weights_are_spread_by_earliest_deadline() {
        assert_eq!(slots(&[1, 2]), Some(vec![1, 0, 1]));
        assert_eq!(slots(&[2, 4]), Some(vec![1, 0, 1]), "the common divisor does not matter");
        assert_eq!(slots(&[1, 2, 5]), Some(vec![2, 2, 1, 2, 2, 0, 1, 2]));
    }

    #[test]
    fn a_schedule_is_the_queue_run_for_one_period() {
        let mut rng = SplitMix64::new(50);
        for _ in 0..200 {
            let weights: Vec<u64> = (0..2 + rng.index(8)).map(|_| 1 + rng.below(12)).collect();
            let Some(schedule) = slots(&weights) else { continue };
            assert_eq!(schedule.repeat(3), queue(&weights, schedule.len() * 3), "weights {weights:?}");
        }
    }

    /// A simple model: a queue in which each pick searches for the earliest deadline.
    fn queue(weights: &[u64], picks: usize) -> Vec<u32> {
        let mut waiting: Vec<(u64, usize)> = weights.iter().map(|_| 1).zip(0..).collect();
        let mut served = Vec::new();
        for turn in 0..picks {
            let earlier = |&a: &usize, &b: &usize| {
                let (one, other) = (waiting[a], waiting[b]);
                (one.0 * weights[b]).cmp(&(other.0 * weights[a])).then(one.1.cmp(&other.1))
            };
            let next = (0..weights.len()).min_by(earlier).expect("there are members");
            served.push(u32::try_from(next).unwrap());
            waiting[next] = (waiting[next].0 + 1, weights.len() + turn);
        }
        served
    }

    #[test]
    fn huge_weights_are_scaled_to_a_bounded_schedule_with_the_same_shares() {
        let weights = [4_000_000_007u64, 1, 2_000_000_001];
        let schedule = slots(&weights).unwrap();
        assert!(schedule.len() <= (1 << 16) + 2, "{}", schedule.len());
        let total: u64 = weights.iter().sum();
        for (member, weight) in (0..).zip(weights) {
            let share = schedule.iter().filter(|&&slot| slot == member).count() as f64 / schedule.len() as f64;
            let wanted = weight as f64 / total as f64;
            assert!((share - wanted).abs() < 3e-5, "member {member}: {share} instead of {wanted}");
            assert!(share > 0.0);
        }
    }
}

//! A cyclic schedule in which everybody has slots in proportion to a weight, spread evenly.
//!
//! Earliest deadline first: whoever has weight `w` is due at `1/w, 2/w, 3/w …`; the earliest deadline is next, ties go to
//! whoever was queued first, as in Envoy. With whole weights the order repeats after as many picks as the weights'
//! greatest common divisor goes into their sum, so the queue is run once when the schedule is built, and a pick is a
//! look-up that any number of threads can make.

use std::{cmp::Ordering, collections::BinaryHeap};

/// Who has which slot.
#[derive(Debug)]
pub(super) struct Schedule {
    slots: Box<[u32]>,
}

impl Schedule {
    /// Bounds memory and the time to build. Weights whose schedule would be longer are scaled down to this many slots, or
    /// to [`Schedule::SLOTS_PER_MEMBER`] for each member if that is more; every member keeps at least one slot.
    const MAX_SLOTS: u64 = 1 << 16;
    const SLOTS_PER_MEMBER: u64 = 16;

    /// `None` if all weights are equal: then everybody has one slot in turn.
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
        Some(Self { slots: earliest_deadline_first(scaled) })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Who has slot `slot`, which is less than [`Schedule::len`].
    pub(super) fn at(&self, slot: usize) -> usize {
        self.slots[slot] as usize
    }
}

/// A member's next deadline, `picks / weight`.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    picks: u64,
    weight: u64,
    queued: u64,
    member: u32,
}

impl Ord for Entry {
    /// The greatest, which a heap yields first, is the earliest deadline; of equal ones the one queued first.
    fn cmp(&self, other: &Self) -> Ordering {
        let own_deadline = u128::from(self.picks) * u128::from(other.weight);
        let other_deadline = u128::from(other.picks) * u128::from(self.weight);
        other_deadline.cmp(&own_deadline).then(other.queued.cmp(&self.queued))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn earliest_deadline_first(weights: impl Iterator<Item = u64>) -> Box<[u32]> {
    let mut queue: BinaryHeap<Entry> = (0..)
        .zip(weights)
        .map(|(member, weight)| Entry { picks: 1, weight, queued: u64::from(member), member })
        .collect();
    let mut queued = queue.len() as u64;
    let mut slots = Vec::new();
    // By time 1 a member of weight w was picked w times, its last deadline being w/w.
    while let Some(mut next) = queue.peek_mut().filter(|next| next.picks <= next.weight) {
        slots.push(next.member);
        next.picks += 1;
        next.queued = queued;
        queued += 1;
    }
    slots.into()
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
        // The obvious model: search the earliest deadline for every pick, for three periods.
        let weights = [3u64, 1, 4, 1, 5];
        let mut picks = weights.map(|_| 0u64);
        let mut queued = [0, 1, 2, 3, 4];
        let mut model = Vec::new();
        for turn in 0..3 * 14u64 {
            let due = |member: usize| (picks[member] + 1) as f64 / weights[member] as f64;
            let next = (0..5)
                .min_by(|&a, &b| due(a).total_cmp(&due(b)).then(queued[a].cmp(&queued[b])))
                .expect("five members");
            picks[next] += 1;
            queued[next] = 5 + turn;
            model.push(u32::try_from(next).unwrap());
        }
        let schedule = slots(&weights).unwrap();
        assert_eq!(schedule.repeat(3), model);
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

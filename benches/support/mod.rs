//! Time and allocations of one call.
//!
//! The time is that of the fastest of many short rounds: other load on the machine can only add to it. Counting
//! costs a few nanoseconds per allocation, which the times contain.

use std::{fmt, hint::black_box, time::Instant};

/// The cost of one call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Nanoseconds; the mean of the fastest round.
    pub(crate) nanoseconds: f64,
    /// Allocations; the mean.
    pub(crate) allocations: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.nanoseconds < 10_000.0 { (self.nanoseconds, "ns") } else { (self.nanoseconds / 1e3, "us") };
        write!(f, "{:8.0} {} {:8.1} allocations", unit.0, unit.1, self.allocations)
    }
}

const ROUNDS: u32 = 200;

/// The cost of one call of `call`, with `calls` calls per round.
#[expect(clippy::cast_precision_loss, reason = "numbers of calls are small")]
pub(crate) fn measure<T>(calls: u32, mut call: impl FnMut() -> T) -> Cost {
    let mut round = || {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        start.elapsed()
    };
    let fastest = (0..ROUNDS).map(|_| round()).min().unwrap_or_default();
    let counted = allocation_counter::measure(|| {
        round();
    });
    let calls = f64::from(calls);
    Cost { nanoseconds: fastest.as_nanos() as f64 / calls, allocations: counted.count_total as f64 / calls }
}

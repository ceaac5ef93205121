//! Trying again.

mod replay;

pub(crate) use replay::{Replay, ReplayBody};

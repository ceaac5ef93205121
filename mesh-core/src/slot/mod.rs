//! Named resources that may change, and observing their changes.

mod slots;
mod watch;

use std::sync::Arc;

pub use self::{
    slots::Slot,
    watch::{Version, Watch},
};
pub(crate) use slots::Slots;

use crate::model::Secret;

/// The slot of a secret. Code that performs handshakes holds the slot, so that the next handshake uses a rotated
/// certificate.
pub type SecretSlot = Slot<Arc<str>, Secret>;

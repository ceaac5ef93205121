//! The flag of requests whose timeout has expired.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::Extensions;

/// A flag in the extensions of requests with a timeout. The inner service cannot distinguish a request whose timeout has
/// expired from one that was canceled, because both are dropped. The flag is set for the former.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeIsUp(Arc<AtomicBool>);

impl TimeIsUp {
    /// The flag of a request, which is added if necessary.
    pub(crate) fn of(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// Sets the flag. Call it before the future of the request is dropped.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the flag is set, and clears it for a later try.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

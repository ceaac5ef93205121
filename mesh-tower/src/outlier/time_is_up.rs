//! Whether a request was given up because it took too long.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::Extensions;

/// In the extensions of requests whose time is limited. To the service that waits for an endpoint, a request that took too
/// long looks like one whose caller lost interest: both are dropped. This tells them apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeIsUp(Arc<AtomicBool>);

impl TimeIsUp {
    /// That of a request, which gets one if need be.
    pub(crate) fn of(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// Tells it; the future of the request is dropped next.
    pub(crate) fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told. A later try of the request starts anew.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

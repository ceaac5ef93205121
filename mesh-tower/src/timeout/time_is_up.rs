//! Whether a request was given up because it took too long.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::Extensions;

/// In the extensions of requests whose time is limited. To the service that waits for an endpoint, a request that took too
/// long looks like one that its caller has given up: both are dropped. This flag distinguishes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeIsUp(Arc<AtomicBool>);

impl TimeIsUp {
    /// That of a request, which gets one if need be.
    pub(crate) fn of(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// Sets the flag, before the future of the request is dropped.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag was set. A later try of the request starts anew.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

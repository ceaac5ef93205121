//! The retry loop.
//!
//! ```text
//!  attempt ──► response or failure ──► RetryState decides ──Retry──► back-off ──► attempt
//!                                            └─Done, LimitExceeded, Overflow──► the last result stands
//! ```

use std::{future::Future, ops::Deref, time::Duration};

use http::{HeaderMap, StatusCode};
use mesh_core::{
    cluster::ClusterState,
    model::{RetryPolicy, RoutingPriority},
    request::RequestHead,
    resilience::overrides::Overrides,
    retry::{Decision, RequestProgress, ResetReason, RetryState},
};

use super::Replay;
use crate::{call::Call, rng::ThreadRng};

/// The retries of a request.
#[derive(Debug)]
pub(crate) struct Retries<P> {
    pub(crate) state: RetryState<P>,
    replay: Replay,
}

/// The result of an attempt, for the retry decision.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// A response.
    Response(StatusCode, &'a HeaderMap),
    /// No response.
    Reset(ResetReason, RequestProgress),
    /// A result that is never retried.
    Final,
}

/// How a request is sent, once or several times.
pub(crate) trait Attempt {
    /// A reference to the retry policy, or a shared pointer.
    type Policy: Deref<Target = RetryPolicy> + Send;
    /// The result of an attempt. A response is in the call.
    type Result: Send;

    /// The cluster whose limits and statistics are used.
    fn cluster(&self) -> &ClusterState;

    /// Sends the request of `call` and waits for its response.
    fn attempt(
        &mut self,
        call: &mut Call,
        retry: Option<&mut RetryState<Self::Policy>>,
    ) -> impl Future<Output = Self::Result> + Send;

    /// The meaning of `result`.
    fn outcome<'a>(&self, call: &'a Call, result: &'a Self::Result) -> Outcome<'a>;

    /// Records a retry decision.
    fn decided(&mut self, _: Decision, _retries_made: u32) {}

    /// Waits before another attempt. Returns a result if the request must end instead.
    fn back_off(
        &mut self,
        call: &mut Call,
        duration: Duration,
    ) -> impl Future<Output = Result<(), Self::Result>> + Send;
}

impl<P: Deref<Target = RetryPolicy>> Retries<P> {
    /// The retries of the request of `call`, of whose body at most `buffer_limit` bytes are buffered. `None` if it will never
    /// be retried.
    pub(crate) fn new(
        policy: Option<P>,
        overrides: Overrides,
        priority: RoutingPriority,
        call: &mut Call,
    ) -> Option<Self> {
        let state = RetryState::new(policy, || RequestHead::from_parts(&call.head), overrides, priority)?;
        call.keep_head();
        Some(Self { state, replay: Replay::default() })
    }

    fn decide<A: Attempt<Policy = P>>(&mut self, attempts: &mut A, call: &Call, result: &A::Result) -> Decision {
        if !self.replay.can_replay() {
            attempts.cluster().stats().retry_or_shadow_abandoned.inc();
            return Decision::Done;
        }
        let retries_made = self.state.retries_made();
        let cluster = attempts.cluster();
        let decision = match attempts.outcome(call, result) {
            Outcome::Response(status, headers) => self.state.handle_response(status, headers, cluster, &mut ThreadRng),
            Outcome::Reset(reason, progress) => self.state.handle_reset(reason, progress, cluster, &mut ThreadRng),
            Outcome::Final => return Decision::Done,
        };
        attempts.decided(decision, retries_made);
        decision
    }
}

/// Sends the request of `call` until there is a result that is not retried, and returns it with the last decision. At most
/// `buffer_limit` bytes of the request's body are buffered.
pub(crate) async fn repeat<A: Attempt + Send>(
    attempts: &mut A,
    call: &mut Call,
    retries: Option<&mut Retries<A::Policy>>,
    buffer_limit: usize,
) -> (A::Result, Decision) {
    let Some(retries) = retries else { return (attempts.attempt(call, None).await, Decision::Done) };
    if let Some(body) = &mut call.body {
        retries.replay = Replay::beside(body, buffer_limit);
    }
    loop {
        let result = attempts.attempt(call, Some(&mut retries.state)).await;
        match retries.decide(attempts, call, &result) {
            Decision::Retry { after } => {
                // Boxed, because few requests are retried and the future of all would be larger.
                if let Err(result) = Box::pin(attempts.back_off(call, after)).await {
                    return (result, Decision::Done);
                }
                call.response = None;
                call.body = Some(retries.replay.next_body());
            }
            decision => {
                retries.replay.stop();
                return (result, decision);
            }
        }
    }
}

//! What a try without an answer means: for the client, for the endpoint, for the statistics.

use std::sync::Arc;

use http::Version;
use mesh_core::{
    cluster::ClusterStats,
    health::outlier::{LocalOriginFailure, Outcome},
    local_reply::{LocalReply, UpstreamReset},
    retry::{RequestProgress, ResetReason},
};

use crate::{TransportError, outlier::outcome_of_reset, timeout::Expired};

/// A try without an answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No endpoint may get traffic.
    NoHealthyUpstream,
    /// A limit of the whole request: never retried.
    Expired(Expired),
    /// Anything that a retry might help against.
    Reset {
        reason: ResetReason,
        progress: RequestProgress,
        /// What the transport says of it.
        transport_failure: Option<Arc<str>>,
    },
}

impl Failure {
    pub(super) fn reset(error: &TransportError, progress: RequestProgress) -> Self {
        Self::Reset { reason: error.reason(), progress, transport_failure: error.transport_failure().cloned() }
    }

    /// A limit was reached; those of the try are failures of the try.
    pub(super) fn expired(expired: Expired, progress: RequestProgress) -> Self {
        match expired {
            Expired::Route | Expired::MaxStreamDuration => Self::Expired(expired),
            Expired::PerTry => Self::Reset { reason: ResetReason::PerTryTimeout, progress, transport_failure: None },
        }
    }

    /// What outlier detection makes of it; nothing if the endpoint has no part in it.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::NoHealthyUpstream | Self::Expired(Expired::MaxStreamDuration) => None,
            Self::Expired(_) => Some(Outcome::LocalOrigin(LocalOriginFailure::Timeout)),
            Self::Reset { reason, .. } => outcome_of_reset(*reason),
        }
    }

    /// Counts it, of a try over a connection of `protocol`; `None` = there was no connection.
    pub(super) fn count(&self, stats: &ClusterStats, protocol: Option<Version>) {
        match self {
            Self::NoHealthyUpstream => {}
            Self::Expired(expired) => count_expired(*expired, stats, protocol),
            Self::Reset { reason, .. } => count_reset(*reason, stats, protocol),
        }
    }

    /// What the client is told after `attempts` tries.
    pub(super) fn reply(&self, attempts: u32) -> LocalReply {
        match self {
            Self::NoHealthyUpstream => LocalReply::NO_HEALTHY_UPSTREAM,
            Self::Expired(Expired::MaxStreamDuration) => {
                LocalReply { grpc_status: Some(GRPC_DEADLINE_EXCEEDED), ..LocalReply::MAX_DURATION_TIMEOUT }
            }
            Self::Expired(_) => LocalReply::RESPONSE_TIMEOUT,
            Self::Reset { reason, transport_failure, .. } => match upstream_reset(*reason) {
                Some(reset) => {
                    LocalReply::upstream_reset(reset, transport_failure.as_deref().unwrap_or_default(), attempts > 1)
                }
                None => LocalReply::PER_TRY_TIMEOUT,
            },
        }
    }
}

const GRPC_DEADLINE_EXCEEDED: u32 = 4;

pub(super) fn count_expired(expired: Expired, stats: &ClusterStats, protocol: Option<Version>) {
    count_local_reset(stats, protocol);
    match expired {
        Expired::Route => stats.upstream_rq_timeout.inc(),
        Expired::PerTry => stats.upstream_rq_per_try_timeout.inc(),
        // The listener counts it.
        Expired::MaxStreamDuration => {}
    }
}

pub(super) fn count_reset(reason: ResetReason, stats: &ClusterStats, protocol: Option<Version>) {
    match reason {
        ResetReason::PerTryTimeout => count_expired(Expired::PerTry, stats, protocol),
        ResetReason::RemoteReset => stats.upstream_rq_rx_reset.inc(),
        ResetReason::LocalReset => count_local_reset(stats, protocol),
        ResetReason::ProtocolError => {
            stats.upstream_cx_protocol_error.inc();
            count_local_reset(stats, protocol);
        }
        // Envoy counts streams that end with their connection here, among those that wait for one.
        ResetReason::ConnectionTermination if protocol == Some(Version::HTTP_2) => {
            stats.upstream_rq_pending_failure_eject.inc();
        }
        // Who ended a connection of HTTP/1.1 its pool counts; those that wait for one, too.
        ResetReason::ConnectionTermination
        | ResetReason::ConnectionFailure
        | ResetReason::ConnectionTimeout
        | ResetReason::RemoteRefusedStreamReset
        | ResetReason::Overflow => {}
    }
}

/// Counts that this side ended a try: it resets a stream. With HTTP/1.1 it closes a connection, which the pool counts.
pub(super) fn count_local_reset(stats: &ClusterStats, protocol: Option<Version>) {
    if protocol == Some(Version::HTTP_2) {
        stats.upstream_rq_tx_reset.inc();
    }
}

/// The reset that a client is told of; `None` = it is told of a timeout.
pub(super) fn upstream_reset(reason: ResetReason) -> Option<UpstreamReset> {
    Some(match reason {
        ResetReason::ConnectionFailure => UpstreamReset::RemoteConnectionFailure,
        ResetReason::ConnectionTimeout => UpstreamReset::ConnectionTimeout,
        ResetReason::RemoteRefusedStreamReset => UpstreamReset::RemoteRefusedStreamReset,
        ResetReason::RemoteReset => UpstreamReset::RemoteReset,
        ResetReason::LocalReset => UpstreamReset::LocalReset,
        ResetReason::ProtocolError => UpstreamReset::ProtocolError,
        ResetReason::ConnectionTermination => UpstreamReset::ConnectionTermination,
        ResetReason::Overflow => UpstreamReset::Overflow,
        ResetReason::PerTryTimeout => return None,
    })
}

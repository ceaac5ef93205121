//! Failures of tries, and their consequences for the client, the endpoint and the statistics.

use http::Version;
use mesh_core::{
    cluster::{ClusterStats, Dropped},
    health::outlier::{LocalOriginFailure, Outcome},
    local_reply::{LocalReply, UpstreamReset},
    retry::{RequestProgress, ResetReason},
};

use crate::{TransportError, outlier::outcome_of_reset, timeout::Expired};

/// The reason why a try has no response.
#[derive(Debug)]
pub(super) enum Failure {
    /// The cluster drops requests. Never retried.
    Dropped(Dropped),
    /// No endpoint is available.
    NoHealthyUpstream,
    /// A timeout of the whole request. Never retried.
    Expired(Expired),
    /// A failure that may be retried.
    Reset {
        reason: ResetReason,
        progress: RequestProgress,
        /// The error of the transport.
        error: Option<TransportError>,
    },
}

impl Failure {
    pub(super) fn reset(error: TransportError, progress: RequestProgress) -> Self {
        Self::Reset { reason: error.reason(), progress, error: Some(error) }
    }

    /// The failure for a timeout. A timeout of the try may be retried.
    pub(super) fn expired(expired: Expired, progress: RequestProgress) -> Self {
        match expired {
            Expired::Route | Expired::MaxStreamDuration => Self::Expired(expired),
            Expired::PerTry => Self::Reset { reason: ResetReason::PerTryTimeout, progress, error: None },
        }
    }

    /// The error of the transport, if there is one.
    pub(super) fn error(&self) -> Option<&TransportError> {
        match self {
            Self::Dropped(_) | Self::NoHealthyUpstream | Self::Expired(_) => None,
            Self::Reset { error, .. } => error.as_ref(),
        }
    }

    /// Whether no connection could be made.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Reset {
                reason: ResetReason::ConnectionFailure | ResetReason::ConnectionTimeout,
                progress: RequestProgress::NotStarted,
                ..
            }
        )
    }

    /// The outcome for outlier detection; `None` if the endpoint is not responsible.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Dropped(_) | Self::NoHealthyUpstream | Self::Expired(Expired::MaxStreamDuration) => None,
            Self::Expired(_) => Some(Outcome::LocalOrigin(LocalOriginFailure::Timeout)),
            Self::Reset { reason, .. } => outcome_of_reset(*reason),
        }
    }

    /// Counts the failure in the statistics of the cluster. `protocol` is that of the connection; `None` = there was none.
    pub(super) fn count(&self, stats: &ClusterStats, protocol: Option<Version>) {
        match self {
            Self::Dropped(_) | Self::NoHealthyUpstream => {}
            Self::Expired(expired) => count_expired(*expired, stats, protocol),
            Self::Reset { reason, .. } => count_reset(*reason, stats, protocol),
        }
    }

    /// The local reply after `attempts` tries.
    pub(super) fn reply(&self, attempts: u32) -> LocalReply {
        match self {
            Self::Dropped(dropped) => LocalReply::drop_overload(*dropped),
            Self::NoHealthyUpstream => LocalReply::NO_HEALTHY_UPSTREAM,
            Self::Expired(expired) => expired.reply(),
            Self::Reset { reason, error, .. } => match upstream_reset(*reason) {
                Some(reset) => {
                    let text = error.as_ref().and_then(TransportError::transport_failure);
                    LocalReply::upstream_reset(reset, text.map_or("", |text| text), attempts > 1)
                }
                None => Expired::PerTry.reply(),
            },
        }
    }
}

pub(super) fn count_expired(expired: Expired, stats: &ClusterStats, protocol: Option<Version>) {
    count_local_reset(stats, protocol);
    match expired {
        Expired::Route => stats.upstream_rq_timeout.inc(),
        Expired::PerTry => stats.upstream_rq_per_try_timeout.inc(),
        // Counted by the listener.
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
        // As in Envoy, streams that end with their connection are counted like requests that wait for one.
        ResetReason::ConnectionTermination if protocol == Some(Version::HTTP_2) => {
            stats.upstream_rq_pending_failure_eject.inc();
        }
        // Counted by the pool for HTTP/1.1 connections and for requests that wait for one.
        ResetReason::ConnectionTermination
        | ResetReason::ConnectionFailure
        | ResetReason::ConnectionTimeout
        | ResetReason::RemoteRefusedStreamReset
        | ResetReason::Overflow => {}
    }
}

/// Counts a local reset of an HTTP/2 stream. With HTTP/1.1 a connection is closed, which the pool counts.
pub(super) fn count_local_reset(stats: &ClusterStats, protocol: Option<Version>) {
    if protocol == Some(Version::HTTP_2) {
        stats.upstream_rq_tx_reset.inc();
    }
}

/// The reset reason in the local reply; `None` = the reply is that of a timeout.
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

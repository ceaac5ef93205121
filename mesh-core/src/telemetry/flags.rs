//! Response flags: why a request ended as it did. Envoy "Access logging", `%RESPONSE_FLAGS%`.

use std::fmt;

/// A set of response flags. `Display` writes the short names, separated by commas, or `-` if there are none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $short:literal, $long:literal;)*) => {
        impl ResponseFlags {
            flags!(@consts 0u32; $($(#[$doc])* $name)*);

            /// All flags with their short and long names, in the order in which they are written.
            pub const ALL: &[(Self, &str, &str)] = &[$((Self::$name, $short, $long)),*];
        }
    };
    (@consts $bit:expr; $(#[$doc:meta])* $name:ident $($rest:tt)*) => {
        $(#[$doc])*
        pub const $name: Self = Self(1 << $bit);
        flags!(@consts $bit + 1; $($rest)*);
    };
    (@consts $bit:expr;) => {};
}

// Envoy 1.40 writes flags in the order in which they were set. The order here is the one in which they are usually set:
// `DI,FI`, `URX,UT`.
flags! {
    /// The fault filter delayed the request.
    DELAY_INJECTED = "DI", "DelayInjected";
    /// The fault filter aborted the request.
    FAULT_INJECTED = "FI", "FaultInjected";
    /// The limit of retries or connect attempts was reached.
    UPSTREAM_RETRY_LIMIT_EXCEEDED = "URX", "UpstreamRetryLimitExceeded";
    /// The local service failed its health check.
    FAILED_LOCAL_HEALTH_CHECK = "LH", "FailedLocalHealthCheck";
    /// The cluster has no healthy endpoint.
    NO_HEALTHY_UPSTREAM = "UH", "NoHealthyUpstream";
    /// The upstream did not respond in time.
    UPSTREAM_REQUEST_TIMEOUT = "UT", "UpstreamRequestTimeout";
    /// The stream was reset locally.
    LOCAL_RESET = "LR", "LocalReset";
    /// The upstream reset the stream.
    UPSTREAM_REMOTE_RESET = "UR", "UpstreamRemoteReset";
    /// The connection to the upstream failed.
    UPSTREAM_CONNECTION_FAILURE = "UF", "UpstreamConnectionFailure";
    /// The upstream closed the connection.
    UPSTREAM_CONNECTION_TERMINATION = "UC", "UpstreamConnectionTermination";
    /// A circuit breaker threshold overflowed.
    UPSTREAM_OVERFLOW = "UO", "UpstreamOverflow";
    /// No virtual host or no route matches the request.
    NO_ROUTE_FOUND = "NR", "NoRouteFound";
    /// A rate limit was exceeded.
    RATE_LIMITED = "RL", "RateLimited";
    /// The external authorization service denied the request.
    UNAUTHORIZED_EXTERNAL_SERVICE = "UAEX", "UnauthorizedExternalService";
    /// The rate limit service failed.
    RATE_LIMIT_SERVICE_ERROR = "RLSE", "RateLimitServiceError";
    /// The client closed the connection.
    DOWNSTREAM_CONNECTION_TERMINATION = "DC", "DownstreamConnectionTermination";
    /// The idle timeout of the stream expired.
    STREAM_IDLE_TIMEOUT = "SI", "StreamIdleTimeout";
    /// A strictly checked header has an invalid value.
    INVALID_ENVOY_REQUEST_HEADERS = "IH", "InvalidEnvoyRequestHeaders";
    /// The client violated the protocol.
    DOWNSTREAM_PROTOCOL_ERROR = "DPE", "DownstreamProtocolError";
    /// The maximum duration of the upstream stream was reached.
    UPSTREAM_MAX_STREAM_DURATION_REACHED = "UMSDR", "UpstreamMaxStreamDurationReached";
    /// The maximum duration of the request or its connection was reached.
    DURATION_TIMEOUT = "DT", "DurationTimeout";
    /// The upstream violated the protocol.
    UPSTREAM_PROTOCOL_ERROR = "UPE", "UpstreamProtocolError";
    /// The route's cluster does not exist.
    NO_CLUSTER_FOUND = "NC", "NoClusterFound";
    /// The overload manager ended the request.
    OVERLOAD_MANAGER = "OM", "OverloadManagerTerminated";
    /// The upstream's host name could not be resolved.
    DNS_RESOLUTION_FAILURE = "DF", "DnsResolutionFailed";
    /// Dropped by the cluster's drop overload policy.
    DROP_OVERLOAD = "DO", "DropOverload";
    /// The client reset the stream.
    DOWNSTREAM_REMOTE_RESET = "DR", "DownstreamRemoteReset";
    /// Dropped by the cluster's unconditional drop policy.
    UNCONDITIONAL_DROP_OVERLOAD = "UDO", "UnconditionalDropOverload";
}

impl ResponseFlags {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The flag with this short name, such as `UF`.
    #[must_use]
    pub fn parse(short_name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, short, _)| *short == short_name).map(|&(flag, ..)| flag)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `flags` are in the set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is in the set.
    #[must_use]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// Adds `flags` to the set.
    pub const fn insert(&mut self, flags: Self) {
        self.0 |= flags.0;
    }

    /// The flags of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set as bits, for atomic storage and as a metric key. The assignment of bits is not stable across versions.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The inverse of [`ResponseFlags::bits`]; unknown bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << Self::ALL.len()) - 1))
    }

    /// The flags of the set with their short and long names.
    pub fn iter(self) -> impl Iterator<Item = (Self, &'static str, &'static str)> {
        Self::ALL.iter().copied().filter(move |(flag, ..)| self.contains(*flag))
    }

    /// The short name, if at most one flag is set; `-` for the empty set. The usual case needs no buffer.
    #[must_use]
    pub fn as_static_str(self) -> Option<&'static str> {
        match self.0.count_ones() {
            0 => Some("-"),
            1 => Self::ALL.get(self.0.trailing_zeros() as usize).map(|(_, short, _)| *short),
            _ => None,
        }
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.as_static_str() {
            return f.write_str(name);
        }
        for (position, (_, short, _)) in self.iter().enumerate() {
            f.write_str(if position == 0 { "" } else { "," })?;
            f.write_str(short)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_as_envoy_does() {
        let mut flags = ResponseFlags::NONE;
        assert_eq!(flags.to_string(), "-");
        flags.insert(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT);
        assert_eq!(flags.to_string(), "UT");
        flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        assert_eq!(flags.to_string(), "URX,UT");
        assert_eq!(ResponseFlags::from_bits(flags.bits()), flags);
    }

    #[test]
    fn every_flag_is_known_by_its_short_name() {
        for &(flag, short, _) in ResponseFlags::ALL {
            assert_eq!(ResponseFlags::parse(short), Some(flag), "{short}");
            assert_eq!(flag.as_static_str(), Some(short));
        }
        assert_eq!(ResponseFlags::parse("XX"), None);
    }
}

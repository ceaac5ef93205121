//! Values that occur in many messages: durations, percentages, names, addresses, `Any`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use mesh_core::model::format::Format;
use mesh_core::model::{
    EndpointAddress, FractionalPercent, HeaderKey, Percent, SafeRegex, StringMatcher, StringPattern,
};
use prost::{Message, Name};
use prost_types::{Any, Duration as ProtoDuration};

use super::field::{At, Result, fields};
use crate::descriptor::type_name;
use crate::proto::envoy::config::core::v3::{
    Address, CidrRange, Pipe, RuntimeFractionalPercent, SocketAddress, address, socket_address,
};
use crate::proto::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher as ProtoStringMatcher, string_matcher};
use crate::proto::envoy::r#type::v3::{
    FractionalPercent as ProtoFractionalPercent, Percent as ProtoPercent, fractional_percent::DenominatorType,
};

/// Applies `decode` to a field if it is set.
pub(crate) fn optional<T, U>(
    at: &At<'_>,
    value: Option<&T>,
    decode: impl FnOnce(&At<'_>, &T) -> Result<U>,
) -> Result<Option<U>> {
    value.map(|value| decode(at, value)).transpose()
}

/// Applies `decode` to each element of the repeated field `name`.
pub(crate) fn list<T, U>(
    at: &At<'_>,
    name: &str,
    values: &[T],
    decode: impl Fn(&At<'_>, &T) -> Result<U>,
) -> Result<Vec<U>> {
    at.all(values.iter().enumerate().map(|(index, value)| decode(&at.item(name, index), value)))
}

/// A field that must be set.
pub(crate) fn required<'v, T>(at: &At<'_>, value: Option<&'v T>) -> Result<&'v T> {
    value.ok_or_else(|| at.refuse("is missing"))
}

/// A duration of at least zero.
pub(crate) fn duration(at: &At<'_>, value: &ProtoDuration) -> Result<Duration> {
    let ProtoDuration { seconds, nanos } = value;
    let whole = u64::try_from(*seconds);
    let fraction = u32::try_from(*nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (whole, fraction) {
        (Ok(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(at.refuse(format_args!("{seconds} s and {nanos} ns is not a duration of at least 0"))),
    }
}

/// A duration greater than zero.
pub(crate) fn positive_duration(at: &At<'_>, value: &ProtoDuration) -> Result<Duration> {
    match duration(at, value)? {
        Duration::ZERO => Err(at.refuse("0 s is not greater than 0")),
        duration => Ok(duration),
    }
}

/// A timeout that is disabled by zero. `default` is used if the field is not set.
pub(crate) fn limit(at: &At<'_>, value: Option<&ProtoDuration>, default: Option<Duration>) -> Result<Option<Duration>> {
    Ok(match optional(at, value, duration)? {
        None => default,
        Some(Duration::ZERO) => None,
        set => set,
    })
}

/// A number in `min..=max`.
pub(crate) fn in_range<N: Copy + PartialOrd + std::fmt::Display>(at: &At<'_>, value: N, min: N, max: N) -> Result<N> {
    if min <= value && value <= max {
        return Ok(value);
    }
    Err(at.refuse(format_args!("{value} is not in {min}..={max}")))
}

/// A percentage in an integer field.
pub(crate) fn percent(at: &At<'_>, value: &u32) -> Result<Percent> {
    Percent::new(*value).map_err(|error| at.refuse(error))
}

/// A percentage in a message with a floating-point number.
pub(crate) fn share(at: &At<'_>, value: &ProtoPercent) -> Result<FractionalPercent> {
    let ProtoPercent { value } = *value;
    if !(0.0..=100.0).contains(&value) {
        return Err(at.refuse(format_args!("{value} is not in 0..=100")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=1000000")]
    Ok(FractionalPercent::from_parts_per_million((value * 10_000.0).round() as u32))
}

/// A whole percentage in a message with a floating-point number.
pub(crate) fn whole_percent(at: &At<'_>, value: &ProtoPercent) -> Result<Percent> {
    let ProtoPercent { value } = *value;
    share(at, &ProtoPercent { value })?;
    if value.fract() != 0.0 {
        return Err(at.refuse(format_args!("{value} is not a whole percent")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in 0..=100")]
    percent(at, &(value as u32))
}

/// A probability. Values above 1 count as 1, as in Envoy.
pub(crate) fn fraction(at: &At<'_>, value: &ProtoFractionalPercent) -> Result<FractionalPercent> {
    let ProtoFractionalPercent { numerator, denominator } = value;
    let parts = match enumeration(&at.field("denominator"), *denominator)? {
        DenominatorType::Hundred => numerator.saturating_mul(10_000),
        DenominatorType::TenThousand => numerator.saturating_mul(100),
        DenominatorType::Million => *numerator,
    };
    Ok(FractionalPercent::from_parts_per_million(parts))
}

/// A probability that a runtime key could override. There is no runtime, so the default value is used.
pub(crate) fn runtime_fraction(at: &At<'_>, value: &RuntimeFractionalPercent) -> Result<FractionalPercent> {
    fields! {
        RuntimeFractionalPercent = value, at;
        use { default_value }
        ignore { runtime_key: NO_RUNTIME }
        refuse {}
    }
    let at = at.field("default_value");
    Ok(optional(&at, default_value.as_ref(), fraction)?.unwrap_or(FractionalPercent::ALWAYS))
}

/// Why runtime keys have no effect.
pub(crate) const NO_RUNTIME: &str = "there is no runtime to override it; the default applies";

/// A known value of a protobuf enum.
pub(crate) fn enumeration<E: TryFrom<i32>>(at: &At<'_>, value: i32) -> Result<E> {
    E::try_from(value).map_err(|_| at.refuse(format_args!("unknown value {value}")))
}

/// The message in an `Any`, which must be of type `M`.
pub(crate) fn unpack<M: Message + Name + Default>(at: &At<'_>, any: &Any) -> Result<M> {
    if type_name(&any.type_url) != M::full_name() {
        return Err(at.refuse(format_args!("{} is not a {}", type_name(&any.type_url), M::full_name())));
    }
    M::decode(any.value.as_slice()).map_err(|error| at.refuse(format_args!("invalid {}: {error}", M::full_name())))
}

/// The name of a header field that may be changed: neither a pseudo-header nor `host`.
pub(crate) fn header_name(at: &At<'_>, name: &str) -> Result<HeaderName> {
    match name.to_ascii_lowercase().parse::<HeaderName>() {
        Ok(http::header::HOST) => Err(at.refuse("\"host\" can be changed by a host rewrite only")),
        Ok(name) => Ok(name),
        Err(_) => Err(at.refuse(format_args!("{name:?} is not the name of a header field"))),
    }
}

/// The name of a header field or pseudo-header to read.
pub(crate) fn header_key(at: &At<'_>, name: &str) -> Result<HeaderKey> {
    HeaderKey::parse(name).map_err(|_| at.refuse(format_args!("{name:?} is not the name of a header")))
}

/// The value of a header field.
pub(crate) fn header_value(at: &At<'_>, value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value).map_err(|_| at.refuse(format_args!("{value:?} is not a header value")))
}

/// An HTTP status in `200..=599`.
pub(crate) fn status(at: &At<'_>, value: &u32) -> Result<StatusCode> {
    let code = in_range(at, *value, 200, 599)?;
    u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| at.refuse(value))
}

/// A format with `%COMMAND%` substitutions.
pub(crate) fn format(at: &At<'_>, text: &str) -> Result<Format> {
    Format::parse(text).map_err(|error| at.refuse(error))
}

/// A regular expression.
pub(crate) fn regex(at: &At<'_>, value: &RegexMatcher) -> Result<SafeRegex> {
    fields! {
        RegexMatcher = value, at;
        use { regex }
        ignore { engine_type: "expressions have RE2's syntax with any engine" }
        refuse {}
    }
    regex_source(&at.field("regex"), regex)
}

/// The text of a regular expression.
pub(crate) fn regex_source(at: &At<'_>, source: &str) -> Result<SafeRegex> {
    SafeRegex::new(source).map_err(|error| at.refuse(error))
}

/// A string matcher.
pub(crate) fn string_matcher(at: &At<'_>, value: &ProtoStringMatcher) -> Result<StringMatcher> {
    use string_matcher::MatchPattern;
    let ProtoStringMatcher { ignore_case, match_pattern } = value;
    let pattern = match match_pattern {
        Some(MatchPattern::Exact(text)) => StringPattern::Exact(text.as_str().into()),
        Some(MatchPattern::Prefix(text)) => StringPattern::Prefix(text.as_str().into()),
        Some(MatchPattern::Suffix(text)) => StringPattern::Suffix(text.as_str().into()),
        Some(MatchPattern::Contains(text)) => StringPattern::Contains(text.as_str().into()),
        Some(MatchPattern::SafeRegex(expression)) => StringPattern::Regex(regex(&at.field("safe_regex"), expression)?),
        Some(MatchPattern::Custom(_)) => return Err(at.field("custom").refuse("not supported")),
        None => return Err(at.refuse("no pattern is given")),
    };
    Ok(StringMatcher::new(pattern, *ignore_case))
}

/// The network of a range of addresses.
pub(crate) fn network(at: &At<'_>, range: &CidrRange) -> Result<IpNet> {
    let CidrRange { address_prefix, prefix_len } = range;
    let length = u8::try_from(prefix_len.unwrap_or(0)).unwrap_or(u8::MAX);
    let address = address_prefix
        .parse()
        .map_err(|_| at.field("address_prefix").refuse(format_args!("{address_prefix:?} is not an IP address")))?;
    IpNet::new(address, length)
        .map_err(|_| at.field("prefix_len").refuse(format_args!("{length} is too long for {address}")))
}

/// The address of an endpoint: an IP address or a host name, and a port; or a unix socket.
pub(crate) fn address(at: &At<'_>, value: &Address) -> Result<EndpointAddress> {
    match &value.address {
        Some(address::Address::SocketAddress(socket)) => socket_address(&at.field("socket_address"), socket),
        Some(address::Address::Pipe(pipe)) => pipe_path(&at.field("pipe"), pipe).map(EndpointAddress::Pipe),
        Some(address::Address::EnvoyInternalAddress(_)) => {
            Err(at.field("envoy_internal_address").refuse("not supported"))
        }
        None => Err(at.refuse("no address is given")),
    }
}

/// Longest path of a unix socket, in bytes: `sun_path` of Linux without its zero byte.
const MAX_PIPE_PATH: usize = 107;

fn pipe_path(at: &At<'_>, value: &Pipe) -> Result<Arc<str>> {
    fields! {
        Pipe = value, at;
        use { path }
        ignore { mode: "it is a matter of the process that listens" }
        refuse {}
    }
    if path.len() > MAX_PIPE_PATH {
        let length = path.len();
        return Err(at.field("path").refuse(format_args!("{length} bytes are more than {MAX_PIPE_PATH}")));
    }
    Ok(path.as_str().into())
}

fn socket_address(at: &At<'_>, value: &SocketAddress) -> Result<EndpointAddress> {
    use socket_address::{PortSpecifier, Protocol};
    fields! {
        SocketAddress = value, at;
        use { protocol, address, port_specifier }
        ignore { ipv4_compat: "IPv4 peers of an IPv6 socket are taken as the system has it" }
        refuse { resolver_name, network_namespace_filepath }
    }
    if enumeration::<Protocol>(&at.field("protocol"), *protocol)? != Protocol::Tcp {
        return Err(at.field("protocol").refuse("UDP: not supported, only TCP is"));
    }
    let port = match port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(*port)
            .map_err(|_| at.field("port_value").refuse(format_args!("{port} is not in 0..=65535")))?,
        Some(PortSpecifier::NamedPort(_)) => return Err(at.field("named_port").refuse("not supported")),
        None => return Err(at.field("port_value").refuse("is missing")),
    };
    match address.parse::<IpAddr>() {
        Ok(ip) => Ok(EndpointAddress::Socket(SocketAddr::new(ip, port))),
        Err(_) if address.is_empty() => Err(at.field("address").refuse("is empty")),
        Err(_) => Ok(EndpointAddress::Name { host: address.as_str().into(), port }),
    }
}

/// A TCP address with an IP address.
pub(crate) fn ip_address(at: &At<'_>, value: &Address) -> Result<SocketAddr> {
    match address(at, value)? {
        EndpointAddress::Socket(socket) => Ok(socket),
        EndpointAddress::Pipe(path) => {
            Err(at.field("pipe").refuse(format_args!("{path:?} is not an IP address: not supported here")))
        }
        EndpointAddress::Name { host, .. } => {
            Err(at.field("socket_address.address").refuse(format_args!("{host:?} is not an IP address")))
        }
    }
}

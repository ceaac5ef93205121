//! Parser of format strings.

use http::HeaderName;

use super::{
    Command, FormatError, Part, TimeFormat, TlsSource,
    operator::{Attribute, FieldSource, GrpcStatusStyle, HeaderSource, MetadataSource, Operator, PathSource},
};
use crate::value::HeaderKey;

pub(super) fn parse(format: &str) -> Result<Vec<Part>, FormatError> {
    let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), format);
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let position = format.len() - rest.len() - 1;
        let (command, after) =
            command(rest).map_err(|reason| FormatError { format: format.to_owned(), at: position, reason })?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
        }
        parts.push(Part::Command(command));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Ok(parts)
}

/// Parses the command at the beginning of `text`, which follows its first `%`. Returns it and the rest of the text.
fn command(text: &str) -> Result<(Command, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err("expected a command name in capitals after %, or %% for a percent sign".to_owned());
    }
    let (argument, max_length, rest) =
        tail(rest).ok_or_else(|| format!("command {name} is not ended by % (as in %{name}%, %{name}(X):10%)"))?;
    let operator = operator(name, argument).map_err(|reason| format!("command {name}: {reason}"))?;
    Ok((Command { operator, max_length }, rest))
}

/// Parses `(ARGUMENT):LENGTH%`, in which only the `%` is required. The argument ends at the first parenthesis after which
/// the command can end, so it may contain parentheses and percent signs.
fn tail(text: &str) -> Option<(Option<&str>, Option<usize>, &str)> {
    let Some(inside) = text.strip_prefix('(') else {
        return ending(text).map(|(length, rest)| (None, length, rest));
    };
    inside
        .match_indices(')')
        .find_map(|(end, _)| ending(&inside[end + 1..]).map(|(length, rest)| (Some(&inside[..end]), length, rest)))
}

/// Parses `:LENGTH%` or `%`.
fn ending(text: &str) -> Option<(Option<usize>, &str)> {
    if let Some(rest) = text.strip_prefix('%') {
        return Some((None, rest));
    }
    let (length, rest) = text.strip_prefix(':')?.split_once('%')?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    Some((Some(digits.then(|| length.parse().ok())??), rest))
}

fn operator(name: &str, argument: Option<&str>) -> Result<Operator, String> {
    match (name, argument) {
        ("REQ", Some(argument)) => {
            let (main, alternative) = header_names(argument, |name| HeaderKey::parse(name).ok())?;
            Ok(Operator::Request(HeaderSource { main, alternative }))
        }
        ("RESP", Some(":status" | ":STATUS")) => Ok(Operator::Attribute(Attribute::ResponseCode)),
        ("RESP", Some(argument)) => field(argument).map(Operator::Response),
        ("TRAILER", Some(argument)) => field(argument).map(Operator::Trailer),
        ("REQ" | "RESP" | "TRAILER" | "QUERY_PARAM", None | Some("")) => Err("needs a name in parentheses".to_owned()),
        ("START_TIME", argument) => TimeFormat::parse(argument.unwrap_or("")).map(Operator::StartTime),
        ("EMIT_TIME", argument) => TimeFormat::parse(argument.unwrap_or("")).map(Operator::EmitTime),
        ("PATH", argument) => path(argument.unwrap_or("")),
        ("QUERY_PARAM", Some(parameter)) => Ok(Operator::QueryParam(parameter.into())),
        ("METADATA", argument) => route_metadata(argument.unwrap_or("")),
        ("DYNAMIC_METADATA", argument) => metadata(MetadataSource::Filters, argument.unwrap_or("")),
        ("GRPC_STATUS_NUMBER", None) => Ok(Operator::GrpcStatus(GrpcStatusStyle::Number)),
        ("GRPC_STATUS", None | Some("" | "CAMEL_STRING")) => Ok(Operator::GrpcStatus(GrpcStatusStyle::CamelString)),
        ("GRPC_STATUS", Some("SNAKE_STRING")) => Ok(Operator::GrpcStatus(GrpcStatusStyle::SnakeString)),
        ("GRPC_STATUS", Some("NUMBER")) => Ok(Operator::GrpcStatus(GrpcStatusStyle::Number)),
        ("GRPC_STATUS", Some(other)) => Err(format!("{other:?} is not one of CAMEL_STRING, SNAKE_STRING, NUMBER")),
        (name, argument) => match (Attribute::parse(name), argument) {
            (Some(attribute), None) => Ok(Operator::Attribute(attribute)),
            (Some(_), Some(argument)) => Err(format!("takes no argument, got {argument:?}")),
            (None, argument) => match TlsSource::parse(name, argument) {
                Some(source) => source.map(Operator::Tls),
                None => Err("unknown or not supported".to_owned()),
            },
        },
    }
}

/// Parses `X` or `X?Y`.
fn header_names<N>(argument: &str, parse: impl Fn(&str) -> Option<N>) -> Result<(N, Option<N>), String> {
    let one = |name: &str| parse(name.trim()).ok_or_else(|| format!("{name:?} is not a header name"));
    match argument.split_once('?') {
        Some((main, alternative)) => Ok((one(main)?, Some(one(alternative)?))),
        None => Ok((one(argument)?, None)),
    }
}

fn field(argument: &str) -> Result<FieldSource, String> {
    let (main, alternative) = header_names(argument, |name| HeaderName::from_bytes(name.as_bytes()).ok())?;
    Ok(FieldSource { main, alternative })
}

fn route_metadata(argument: &str) -> Result<Operator, String> {
    let (source, rest) = argument.split_once(':').unwrap_or((argument, ""));
    if source != "ROUTE" {
        return Err(format!("metadata of {source:?} is not supported, only of ROUTE"));
    }
    metadata(MetadataSource::Route, rest)
}

/// Parses `NAMESPACE:KEY:…`.
fn metadata(source: MetadataSource, argument: &str) -> Result<Operator, String> {
    let mut names = argument.split(':').map(Box::from);
    match names.next() {
        Some(namespace) if !argument.is_empty() => Ok(Operator::Metadata { source, namespace, path: names.collect() }),
        _ => Err("needs a namespace, as in NAMESPACE:KEY".to_owned()),
    }
}

fn path(argument: &str) -> Result<Operator, String> {
    let (query, source) = argument.split_once(':').unwrap_or((argument, ""));
    let with_query = match query {
        "" | "WQ" => true,
        "NQ" => false,
        other => return Err(format!("{other:?} is not one of WQ, NQ")),
    };
    let source = match source {
        "" | "ORIG_OR_PATH" => PathSource::OriginalOrPath,
        "ORIG" => PathSource::Original,
        "PATH" => PathSource::Path,
        other => return Err(format!("{other:?} is not one of ORIG, PATH, ORIG_OR_PATH")),
    };
    Ok(Operator::Path { with_query, source })
}

//! Access logs: `envoy.config.accesslog.v3.AccessLog` with a file, stdout or stderr sink.

use std::path::PathBuf;

use mesh_core::model::format::DEFAULT_TEXT;
use mesh_core::model::{AccessLog, AccessLogFormat, AccessLogSink, JsonField};
use prost_types::{Any, Struct, Value, value::Kind};

use super::data_source;
use super::field::{At, Result, fields};
use super::value::{format, unpack};
use crate::descriptor::{describe, type_name};
use crate::proto::envoy::config::accesslog::v3::{AccessLog as ProtoAccessLog, access_log::ConfigType};
use crate::proto::envoy::config::core::v3::{DataSource, SubstitutionFormatString, substitution_format_string::Format};
use crate::proto::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use crate::proto::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};

/// Maximum length in bytes of a format from a file or an environment variable.
const MAX_FORMAT_LENGTH: u32 = 64 * 1024;

/// Decodes an access log.
pub(crate) fn decode(at: &At<'_>, log: &ProtoAccessLog) -> Result<AccessLog> {
    fields! {
        ProtoAccessLog = log, at;
        use { name, config_type }
        ignore {}
        refuse { filter }
    }
    let Some(ConfigType::TypedConfig(config)) = config_type else {
        return Err(at.field("typed_config").refuse(format_args!("is missing in access log {name:?}")));
    };
    let at = at.field("typed_config");
    let kind = type_name(&config.type_url);
    match LOGGERS.iter().find(|(known, _)| *known == kind) {
        Some((_, decode)) => decode(&at, config),
        None => Err(at.refuse(format_args!("access log {}: not supported", describe(name, kind)))),
    }
}

type Decode = fn(&At<'_>, &Any) -> Result<AccessLog>;

/// Access loggers by the type of their configuration.
pub(crate) const LOGGERS: &[(&str, Decode)] = &[
    ("envoy.extensions.access_loggers.file.v3.FileAccessLog", |at, config| file(at, &unpack(at, config)?)),
    ("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", |at, config| {
        let StdoutAccessLog { access_log_format } = unpack(at, config)?;
        let format = access_log_format.map(|stdout_access_log::AccessLogFormat::LogFormat(format)| format);
        Ok(AccessLog::new(AccessLogSink::Stdout, log_format(at, format.as_ref())?))
    }),
    ("envoy.extensions.access_loggers.stream.v3.StderrAccessLog", |at, config| {
        let StderrAccessLog { access_log_format } = unpack(at, config)?;
        let format = access_log_format.map(|stderr_access_log::AccessLogFormat::LogFormat(format)| format);
        Ok(AccessLog::new(AccessLogSink::Stderr, log_format(at, format.as_ref())?))
    }),
];

/// A log at `path` in the default format.
pub(crate) fn file_in_default_format(at: &At<'_>, path: &str) -> Result<AccessLog> {
    Ok(AccessLog::new(file_sink(path), text_format(at, DEFAULT_TEXT)?))
}

fn file_sink(path: &str) -> AccessLogSink {
    match path {
        "/dev/stdout" => AccessLogSink::Stdout,
        "/dev/stderr" => AccessLogSink::Stderr,
        path => AccessLogSink::File(PathBuf::from(path)),
    }
}

fn file(at: &At<'_>, log: &FileAccessLog) -> Result<AccessLog> {
    let FileAccessLog { path, access_log_format } = log;
    let sink = file_sink(path);
    let format = match access_log_format {
        None => log_format(at, None)?,
        Some(file_access_log::AccessLogFormat::Format(text)) => text_format(&at.field("format"), text)?,
        Some(file_access_log::AccessLogFormat::JsonFormat(object)) => json_format(&at.field("json_format"), object)?,
        Some(file_access_log::AccessLogFormat::TypedJsonFormat(object)) => {
            json_format(&at.field("typed_json_format"), object)?
        }
        Some(file_access_log::AccessLogFormat::LogFormat(format)) => log_format(at, Some(format))?,
    };
    Ok(AccessLog::new(sink, format))
}

fn log_format(at: &At<'_>, value: Option<&SubstitutionFormatString>) -> Result<AccessLogFormat> {
    let at = at.field("log_format");
    let Some(value) = value else {
        return text_format(&at, DEFAULT_TEXT);
    };
    fields! {
        SubstitutionFormatString = value, at;
        use { format }
        ignore {
            content_type: "it has an effect on HTTP bodies only",
            json_format_options: "keys are always sorted",
        }
        refuse { omit_empty_values, formatters }
    }
    match format {
        Some(Format::TextFormat(text)) => text_format(&at.field("text_format"), text),
        Some(Format::JsonFormat(object)) => json_format(&at.field("json_format"), object),
        Some(Format::TextFormatSource(source)) => text_source(&at.field("text_format_source"), source),
        None => Err(at.refuse("no format is given")),
    }
}

fn text_source(at: &At<'_>, source: &DataSource) -> Result<AccessLogFormat> {
    let text = data_source::read(at, source, MAX_FORMAT_LENGTH)?;
    text_format(at, std::str::from_utf8(&text).map_err(|error| at.refuse(error))?)
}

fn text_format(at: &At<'_>, text: &str) -> Result<AccessLogFormat> {
    // An empty format means the default format in Envoy.
    format(at, if text.is_empty() { DEFAULT_TEXT } else { text }).map(AccessLogFormat::Text)
}

fn json_format(at: &At<'_>, object: &Struct) -> Result<AccessLogFormat> {
    json_object(at, object).map(AccessLogFormat::Json)
}

fn json_object(at: &At<'_>, object: &Struct) -> Result<Vec<(Box<str>, JsonField)>> {
    object.fields.iter().map(|(key, value)| Ok((key.as_str().into(), json_field(&at.field(key), value)?))).collect()
}

fn json_field(at: &At<'_>, value: &Value) -> Result<JsonField> {
    match &value.kind {
        Some(Kind::StringValue(text)) => format(at, text).map(JsonField::Format),
        Some(Kind::StructValue(object)) => json_object(at, object).map(JsonField::Object),
        Some(Kind::ListValue(list)) => {
            list.values.iter().map(|value| json_field(at, value)).collect::<Result<_>>().map(JsonField::List)
        }
        Some(Kind::NumberValue(_) | Kind::BoolValue(_) | Kind::NullValue(_)) | None => {
            Err(at.refuse("a JSON format may contain strings, objects and lists only"))
        }
    }
}

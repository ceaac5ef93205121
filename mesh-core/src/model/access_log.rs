//! Where access log lines go and what they say. Envoy `config.accesslog.v3.AccessLog`.

use std::path::PathBuf;

use super::format::Format;

/// One access log. A line is written at the end of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: AccessLogSink,
    /// What a line says. Default: Envoy's text format (`features.md` E90).
    pub format: AccessLogFormat,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogSink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
}

/// What an access log line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Text with `%COMMAND%` substitutions; brings its own line end.
    Text(Format),
    /// One JSON object per line, keys sorted.
    Json(Vec<(Box<str>, JsonField)>),
}

/// A value of a JSON access log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonField {
    /// Text with substitutions: a number stays a number if the text is one command that yields one; absent is null.
    Format(Format),
    /// A nested object.
    Object(Vec<(Box<str>, Self)>),
    /// A nested list.
    List(Vec<Self>),
}

//! Access logs: the sink and the format of the lines. Envoy `config.accesslog.v3.AccessLog`.

use std::path::PathBuf;

use super::format::{Format, ISTIO_TEXT};

/// One access log. A line is written when a request has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessLog {
    /// Where lines are written.
    pub sink: AccessLogSink,
    /// The format of a line. Default [`DEFAULT_TEXT`](super::format::DEFAULT_TEXT).
    pub format: AccessLogFormat,
}

impl AccessLog {
    /// Creates an access log.
    #[must_use]
    pub fn new(sink: AccessLogSink, format: AccessLogFormat) -> Self {
        Self { sink, format }
    }

    /// Creates an access log with Istio's default text format. Istio `MeshConfig.accessLogFile`, with the default of
    /// `accessLogFormat` and `accessLogEncoding`.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the format is a constant")]
    pub fn istio(sink: AccessLogSink) -> Self {
        let format = Format::parse(ISTIO_TEXT).expect("Istio's format is valid");
        Self::new(sink, AccessLogFormat::Text(format))
    }
}

/// Where access log lines are written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogSink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, to which lines are appended.
    File(PathBuf),
}

/// The format of an access log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Text with `%COMMAND%` substitutions, including the line end.
    Text(Format),
    /// One JSON object per line, keys sorted.
    Json(Vec<(Box<str>, JsonField)>),
}

/// A value of a JSON access log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonField {
    /// Text with substitutions. If it is a single command, a number stays a number and a missing value is null.
    Format(Format),
    /// A nested object.
    Object(Vec<(Box<str>, Self)>),
    /// A nested list.
    List(Vec<Self>),
}

//! The access logs of a listener, compiled: the sinks, and the headers that must be kept until a line is written.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use mesh_core::{
    model::{AccessLog, AccessLogFormat, JsonField, format::Format},
    telemetry::{Attributes, Missing, write_json},
};

use super::{LogFile, LogFiles, OpenError};

/// The access logs of one listener.
#[derive(Debug, Default)]
pub(crate) struct AccessLogs {
    logs: Vec<(Arc<LogFile>, AccessLogFormat)>,
    request_headers: Arc<[HeaderName]>,
    response_headers: Vec<HeaderName>,
}

impl AccessLogs {
    pub(crate) fn open<'a>(
        configs: impl IntoIterator<Item = &'a AccessLog>,
        files: &LogFiles,
    ) -> Result<Self, OpenError> {
        let mut logs = Self::default();
        let mut request_headers = Vec::new();
        for config in configs {
            logs.logs.push((files.open(&config.sink)?, config.format.clone()));
            let mut visit = |format: &Format| {
                extend(&mut request_headers, format.request_headers());
                extend(&mut logs.response_headers, format.response_headers());
            };
            match &config.format {
                AccessLogFormat::Text(format) => visit(format),
                AccessLogFormat::Json(fields) => fields.iter().for_each(|(_, field)| visit_formats(field, &mut visit)),
            }
        }
        logs.request_headers = request_headers.into();
        Ok(logs)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// The request headers that the formats read.
    pub(crate) fn request_headers(&self) -> &Arc<[HeaderName]> {
        &self.request_headers
    }

    /// The headers of a response that the formats read.
    pub(crate) fn keep_response_headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::with_capacity(self.response_headers.len());
        for name in &self.response_headers {
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        kept
    }

    pub(crate) fn write(&self, attributes: &Attributes<'_>) {
        let mut line = Vec::with_capacity(512);
        for (file, format) in &self.logs {
            line.clear();
            match format {
                AccessLogFormat::Text(format) => format.write(attributes, Missing::Dash, &mut line),
                AccessLogFormat::Json(fields) => write_json(fields, attributes, &mut line),
            }
            file.write(&line);
        }
    }
}

fn visit_formats(field: &JsonField, visit: &mut impl FnMut(&Format)) {
    match field {
        JsonField::Format(format) => visit(format),
        JsonField::Object(fields) => fields.iter().for_each(|(_, field)| visit_formats(field, visit)),
        JsonField::List(items) => items.iter().for_each(|item| visit_formats(item, visit)),
    }
}

/// Adds the names that are not in `names` yet.
fn extend<'f>(names: &mut Vec<HeaderName>, more: impl Iterator<Item = &'f HeaderName>) {
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

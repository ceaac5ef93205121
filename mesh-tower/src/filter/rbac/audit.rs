//! Audit logs of access control.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use mesh_core::{
    filter::rbac::{Audit, AuditEntry, AuditLogger, Decision, Subject},
    model::{AccessLogSink, format::Format},
    telemetry::{Attributes, Missing},
};

use crate::telemetry::{LogFile, LogFiles};

/// Writes audit logs to standard output, which is shared with access logs.
#[derive(Debug)]
pub(crate) struct AuditLog {
    logs: Arc<LogFiles>,
    /// Opened with the first entry, because few policies are audited; `None` = it cannot be opened.
    stdout: OnceLock<Option<Arc<LogFile>>>,
    time: Format,
}

impl AuditLog {
    pub(crate) fn new(logs: &Arc<LogFiles>) -> Self {
        let time = Format::parse("%START_TIME%").expect("it is a valid format");
        Self { logs: Arc::clone(logs), stdout: OnceLock::new(), time }
    }

    /// Writes a decision, if the policies are audited.
    pub(crate) fn write(&self, audit: &Audit, subject: &Subject<'_>, decision: Decision<'_>) {
        if !audit.covers(decision.is_allowed()) {
            return;
        }
        let method = subject.head.as_ref().map_or("", |head| head.path());
        let policy = decision.policy().unwrap_or("");
        let entry = AuditEntry::new(method, subject.principal(), policy, decision.is_allowed());
        let mut time = Vec::new();
        let attributes = Attributes { start_time: Some(SystemTime::now()), ..Attributes::default() };
        self.time.write(&attributes, Missing::Empty, &mut time);
        let line = entry.to_json(&String::from_utf8_lossy(&time));
        for logger in &audit.loggers {
            match logger {
                AuditLogger::Stdout => {
                    let stdout = self.stdout.get_or_init(|| self.logs.open(&AccessLogSink::Stdout).ok());
                    stdout.iter().for_each(|sink| sink.write(line.as_bytes()));
                }
            }
        }
    }
}

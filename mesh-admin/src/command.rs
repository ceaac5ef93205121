//! Commands of the admin endpoint.

use std::fmt;

use http::Method;
use serde_json::json;

use crate::{Answer, Process, Query, clusters, config_dump, listeners, server_info, stats};

/// A command of the admin endpoint of a process of type `S`.
pub struct Command<S> {
    pub(crate) path: &'static str,
    pub(crate) effect: Effect,
    pub(crate) help: &'static str,
    pub(crate) run: fn(&S, &Query<'_>) -> Answer,
}

/// Whether a command changes the process, and therefore needs POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Changes,
}

impl Effect {
    pub(crate) fn allows(self, method: &Method) -> bool {
        match self {
            Self::None => matches!(*method, Method::GET | Method::HEAD | Method::POST),
            Self::Changes => *method == Method::POST,
        }
    }
}

impl<S> Command<S> {
    /// Creates a command that reads the state of the process.
    pub fn reads(path: &'static str, help: &'static str, run: fn(&S, &Query<'_>) -> Answer) -> Self {
        Self { path, effect: Effect::None, help, run }
    }

    /// Creates a command that changes the process. It needs POST.
    pub fn changes(path: &'static str, help: &'static str, run: fn(&S, &Query<'_>) -> Answer) -> Self {
        Self { path, effect: Effect::Changes, help, run }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Whether the command needs POST.
    #[must_use]
    pub fn needs_post(&self) -> bool {
        self.effect == Effect::Changes
    }
}

/// The commands that all processes have.
pub(crate) fn common<S: Process>() -> Vec<Command<S>> {
    vec![
        Command::reads("/certs", "print certs on machine", |_, _| Answer::json(&json!({ "certificates": [] }))),
        Command::reads("/clusters", "upstream cluster status", clusters::clusters),
        Command::reads("/config_dump", "dump current configs", |process, query| {
            config_dump::config_dump(&process.config_dump(), query)
        }),
        Command::reads("/listeners", "print listener info", listeners::listeners),
        Command::reads("/memory", "print current allocation/heap usage", |_, _| server_info::memory()),
        Command::reads("/ready", "print server state, return 200 if LIVE, otherwise return 503", server_info::ready),
        Command::changes("/reset_counters", "reset all counters to zero", stats::reset_counters),
        Command::reads("/runtime", "print runtime values", |_, _| {
            Answer::json(&json!({ "layers": [], "entries": {} }))
        }),
        Command::reads("/server_info", "print server version/status information", server_info::server_info),
        Command::reads("/stats", "print server stats", stats::stats),
        Command::reads("/stats/prometheus", "print server stats in prometheus format", stats::prometheus),
    ]
}

impl<S> fmt::Debug for Command<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("path", &self.path).field("effect", &self.effect).finish_non_exhaustive()
    }
}

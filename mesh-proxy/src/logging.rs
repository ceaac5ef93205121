//! Logging to standard error, with a level that can be changed while running.

use std::{
    fmt,
    io::{self, IsTerminal},
    sync::Arc,
};

use parking_lot::Mutex;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::args::LogLevel;

/// Changes the log level. Clones share the level.
#[derive(Clone)]
pub(crate) struct LogLevelHandle {
    level: Arc<Mutex<LogLevel>>,
    filter: Option<reload::Handle<LevelFilter, Registry>>,
}

/// A string is not a log level.
#[derive(Debug, Error)]
#[error("unknown log level {0:?}, expected trace, debug, info, warning, error, critical or off")]
pub(crate) struct UnknownLevel(String);

/// Starts logging to standard error.
pub(crate) fn start(level: LogLevel) -> LogLevelHandle {
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let is_terminal = io::stderr().is_terminal();
    let format = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(is_terminal);
    // Fails if a subscriber is installed already; then its level applies.
    let installed = tracing_subscriber::registry().with(filter).with(format).try_init();
    LogLevelHandle { level: Arc::new(Mutex::new(level)), filter: installed.is_ok().then_some(handle) }
}

impl LogLevelHandle {
    /// Changes the level.
    pub(crate) fn set(&self, name: &str) -> Result<(), UnknownLevel> {
        let level = clap::ValueEnum::from_str(name, true).map_err(|_| UnknownLevel(name.to_owned()))?;
        *self.level.lock() = level;
        if let Some(filter) = &self.filter {
            // Fails only if the subscriber no longer exists, and then nothing is logged.
            let _ = filter.reload(filter_of(level));
        }
        Ok(())
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
        LogLevel::Off => LevelFilter::OFF,
    }
}

impl fmt::Display for LogLevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self.level.lock() {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warning",
            LogLevel::Error => "error",
            LogLevel::Critical => "critical",
            LogLevel::Off => "off",
        })
    }
}

impl fmt::Debug for LogLevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogLevelHandle({self})")
    }
}

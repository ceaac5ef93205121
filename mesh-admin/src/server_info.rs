//! `/ready`, `/server_info` and `/memory`.

use std::time::SystemTime;

use http::StatusCode;
use serde_json::json;

use crate::{Answer, Phase, Process, Query};

/// The phase, as in Envoy. If the last change of the configuration was refused, the lines after it say so.
pub(crate) fn ready(process: &impl Process, _: &Query<'_>) -> Answer {
    let phase = process.phase();
    let status = if phase == Phase::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let problems = process.config_dump().dynamic.map(|status| status.problems(SystemTime::now()));
    let lines: Vec<_> = std::iter::once(phase.name().to_owned()).chain(problems.into_iter().flatten()).collect();
    Answer::text(lines.join("\n") + "\n").with_status(status)
}

pub(crate) fn server_info(process: &impl Process, _: &Query<'_>) -> Answer {
    let uptime = format!("{}s", process.uptime().as_secs());
    Answer::json(&json!({
        "version": version(),
        "state": process.phase().name(),
        "hot_restart_version": "disabled",
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "command_line_options": process.command_line_options(),
        "node": process.node(),
    }))
}

/// The version in Envoy's format: revision, version, state of the tree, build type and TLS library.
#[must_use]
pub fn version() -> String {
    let profile = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("mesh/{}/Clean/{profile}/none", env!("CARGO_PKG_VERSION"))
}

/// `/memory`. All sizes are the resident memory, because the allocator has no statistics.
pub(crate) fn memory() -> Answer {
    let resident = resident_bytes().to_string();
    Answer::json(&json!({
        "allocated": resident,
        "heap_size": resident,
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": resident,
    }))
}

/// Resident memory of this process in bytes; 0 if the system does not provide it.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

//! `/ready`, `/server_info` and `/memory`.

use http::StatusCode;
use serde_json::json;

use super::{Answer, Query};
use crate::{
    args::{IpVersion, Mode},
    state::{Phase, State},
};

pub(super) fn ready(state: &State, _: &Query<'_>) -> Answer {
    let phase = state.lifecycle.phase();
    let status = if phase == Phase::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Answer::text(format!("{}\n", phase.name())).with_status(status)
}

pub(super) fn server_info(state: &State, _: &Query<'_>) -> Answer {
    let args = &state.args;
    let uptime = format!("{}s", state.lifecycle.uptime().as_secs());
    Answer::json(&json!({
        "version": version(),
        "state": state.lifecycle.phase().name(),
        "hot_restart_version": "disabled",
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "command_line_options": {
            "base_id": args.compatibility.base_id.to_string(),
            "use_dynamic_base_id": args.compatibility.use_dynamic_base_id,
            "concurrency": args.workers(),
            "config_path": args.config_path.as_deref().map(|path| path.display().to_string()).unwrap_or_default(),
            "config_yaml": args.config_yaml.clone().unwrap_or_default(),
            "admin_address_path":
                args.admin_address_path.as_deref().map(|path| path.display().to_string()).unwrap_or_default(),
            "log_level": state.log_level.to_string(),
            "service_cluster": state.node.cluster,
            "service_node": state.node.id,
            "drain_time": format!("{}s", args.drain_time_s),
            "drain_strategy": "Gradual",
            "parent_shutdown_time": format!("{}s", args.compatibility.parent_shutdown_time_s),
            "mode": match args.mode { Mode::Serve => "Serve", Mode::Validate => "Validate" },
            "local_address_ip_version": match args.local_address_ip_version {
                IpVersion::V4 => "v4",
                IpVersion::V6 => "v6",
            },
            "disable_hot_restart": args.compatibility.disable_hot_restart,
        },
        "node": { "id": state.node.id, "cluster": state.node.cluster, "user_agent_name": "mesh-proxy" },
    }))
}

/// Revision / version / state of the tree / build type / TLS library, in Envoy's order.
pub(crate) fn version() -> String {
    let profile = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("mesh/{}/Clean/{profile}/none", env!("CARGO_PKG_VERSION"))
}

/// Sizes as the kernel sees them: the allocator keeps no statistics.
pub(super) fn memory() -> Answer {
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

/// Physical memory of this process in bytes; 0 where it cannot be told.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

//! The state of the proxy for the admin endpoint.

use std::{sync::Arc, time::Duration};

use mesh_admin::{ConfigDump, Phase, Process};
use mesh_core::store::Store;
use mesh_tower::{server::ListenerStatus, telemetry::Telemetry};
use serde_json::{Value, json};

use crate::{
    args::{IpVersion, Mode},
    state::State,
};

impl Process for State {
    fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn phase(&self) -> Phase {
        self.lifecycle.phase()
    }

    fn uptime(&self) -> Duration {
        self.lifecycle.uptime()
    }

    fn concurrency(&self) -> usize {
        self.args.workers()
    }

    fn listeners(&self) -> Vec<ListenerStatus> {
        self.up_listeners()
    }

    fn config_dump(&self) -> ConfigDump {
        self.config_dump.lock().clone()
    }

    fn command_line_options(&self) -> Value {
        let args = &self.args;
        json!({
            "base_id": args.compatibility.base_id.to_string(),
            "use_dynamic_base_id": args.compatibility.use_dynamic_base_id,
            "concurrency": args.workers(),
            "config_path": args.config_path.as_deref().map(|path| path.display().to_string()).unwrap_or_default(),
            "config_yaml": args.config_yaml.clone().unwrap_or_default(),
            "admin_address_path":
                args.admin_address_path.as_deref().map(|path| path.display().to_string()).unwrap_or_default(),
            "log_level": self.log_level.to_string(),
            "service_cluster": self.node.cluster,
            "service_node": self.node.id,
            "drain_time": format!("{}s", args.drain_time_s),
            "drain_strategy": "Gradual",
            "parent_shutdown_time": format!("{}s", args.compatibility.parent_shutdown_time_s),
            "mode": match args.mode { Mode::Serve => "Serve", Mode::Validate => "Validate" },
            "local_address_ip_version": match args.local_address_ip_version {
                IpVersion::V4 => "v4",
                IpVersion::V6 => "v6",
            },
            "disable_hot_restart": args.compatibility.disable_hot_restart,
        })
    }

    fn node(&self) -> Value {
        json!({ "id": self.node.id, "cluster": self.node.cluster, "user_agent_name": "mesh-proxy" })
    }
}

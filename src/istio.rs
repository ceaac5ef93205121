//! Configuration from a directory of Istio resources.
//!
//! ```text
//! directory ─► translation, ADS server ─► in-process stream ─► agent ─► store
//! ```
//!
//! A remote control plane is followed in the same way, but over a network.

use std::{path::PathBuf, sync::Arc};

use mesh_control::{
    config::Options,
    diagnostic::Style,
    mesh::Mesh as Config,
    server,
    source::{Directory, Reload},
    translate::with_labels,
};
use mesh_xds::client::transport::in_process;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Accepted, ConfigEvent, MeshBuilder, Rejected,
    background::{Following, Joining, Source},
    control_plane::{self, send},
    error::Kind,
};

impl MeshBuilder {
    /// Takes the configuration from a directory of Istio resources (`*.yaml`, `*.yml`, `*.json`) and follows it as it
    /// changes.
    pub fn config_dir(self, dir: impl Into<PathBuf>) -> Self {
        self.source(ConfigDir(dir.into()))
    }
}

#[derive(Debug)]
struct ConfigDir(PathBuf);

impl Source for ConfigDir {
    fn follow(self: Box<Self>, member: &mut Joining) -> Following<'_> {
        Box::pin(async move {
            let options = Options::default().with_namespace(member.namespace.as_deref());
            let opened = Directory::open(&self.0, options);
            let (directory, configs) = opened.map_err(|source| Kind::Config { path: self.0, source })?;
            member.labelled = with_labels(member.labelled.clone(), &configs.borrow().registry);
            describe(member, &configs);
            let (transport, acceptor) = in_process::pair();
            let (events, mut tasks) = (member.events.clone(), JoinSet::new());
            tasks.spawn(server::serve(acceptor, configs));
            tasks.spawn(directory.run(move |reload| send(&events, reload.into())));
            control_plane::follow(transport, member, tasks).await
        })
    }
}

/// Gives the admin endpoint of `member` the xDS resources that the directory is translated to, at any moment.
#[cfg(feature = "admin")]
fn describe(member: &mut Joining, configs: &watch::Receiver<Arc<Config>>) {
    let (configs, node) = (configs.clone(), member.identity.node.clone());
    let read = move || {
        let config = Arc::clone(&configs.borrow());
        let resources = mesh_control::translate::translate(&config, &node);
        mesh_admin::Resources {
            version: config.version.to_string(),
            listeners: resources.listeners,
            routes: resources.routes,
            clusters: resources.clusters,
            endpoints: resources.endpoints,
        }
    };
    member.identity.facts.config_dump.dynamic = Some(mesh_admin::DynamicResources::new(read));
}

#[cfg(not(feature = "admin"))]
fn describe(_: &mut Joining, _: &watch::Receiver<Arc<Config>>) {}

impl From<&Reload> for ConfigEvent {
    fn from(reload: &Reload) -> Self {
        let report = reload.report(Style::Plain).unwrap_or_default();
        match reload {
            Reload::Applied { mesh, diagnostics } => {
                let warnings = diagnostics.iter().map(ToString::to_string).collect();
                Self::Accepted(Accepted { version: mesh.version, warnings })
            }
            Reload::Rejected { diagnostics } => {
                Self::Rejected(Rejected { errors: diagnostics.iter().map(ToString::to_string).collect(), report })
            }
            Reload::Unreadable(_) => Self::Rejected(Rejected { errors: vec![report.clone()], report }),
        }
    }
}

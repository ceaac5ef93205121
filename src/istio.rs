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
    identities::Identities,
    server,
    source::{Directory, Reload},
    translate::with_labels,
};
use mesh_xds::client::transport::in_process;
use tokio::task::JoinSet;

use crate::{
    Accepted, ConfigEvent, Error, MeshBuilder, Rejected,
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

    /// Allows RequestAuthentications of the directory to fetch keys from loopback and link-local addresses. Default false.
    pub fn allow_local_jwks_uri(mut self, allow: bool) -> Self {
        self.allow_local_jwks_uri = allow;
        self
    }
}

#[derive(Debug)]
struct ConfigDir(PathBuf);

impl Source for ConfigDir {
    fn follow(self: Box<Self>, member: &mut Joining) -> Following<'_> {
        Box::pin(async move {
            let options = Options::default()
                .with_namespace(member.namespace.as_deref())
                .with_allow_local_jwks_uri(member.allow_local_jwks_uri);
            let identities = identities(member)?;
            let options = options.with_certificates(identities.is_some());
            let opened = Directory::open(&self.0, options);
            let (directory, configs) = opened.map_err(|source| Kind::Config { path: self.0, source })?;
            member.labelled = with_labels(member.labelled.clone(), &configs.borrow().registry);
            let (transport, acceptor) = in_process::pair();
            let (events, mut tasks, status) = (member.events.clone(), JoinSet::new(), directory.status());
            let options = server::Options::default().with_identities(identities);
            tasks.spawn(server::serve(acceptor, configs, Arc::clone(&status), options));
            tasks.spawn(directory.run(move |reload| send(&events, reload.into())));
            control_plane::follow(transport, member, tasks, Some(status)).await
        })
    }
}

/// Where the certificate of this program comes from.
#[cfg(feature = "tls")]
fn identities(member: &mut Joining) -> Result<Option<Arc<dyn Identities>>, Error> {
    std::mem::take(&mut member.certificates).open()
}

#[cfg(not(feature = "tls"))]
fn identities(_: &mut Joining) -> Result<Option<Arc<dyn Identities>>, Error> {
    Ok(None)
}

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

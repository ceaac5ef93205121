//! The certificate authority of the example, which exists while it runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mesh_control::{
    ca::{Authority, DEFAULT_TTL},
    config::MeshConfig,
};

use crate::Error;

/// The authority, in a temporary directory that only this user may enter, and how long the certificates are valid.
#[derive(Debug)]
pub(crate) struct Certificates {
    dir: PathBuf,
    /// The lifetime of certificates.
    pub(crate) lifetime: Duration,
}

impl Certificates {
    /// Makes an authority for certificates with the default lifetime.
    pub(crate) fn new() -> Result<Self, Error> {
        let dir = std::env::temp_dir().join(format!("bookinfo-ca-{}", std::process::id()));
        let made = Self { dir, lifetime: DEFAULT_TTL };
        Authority::open_or_generate(&made.dir, MeshConfig::DEFAULT_TRUST_DOMAIN, SystemTime::now())?;
        Ok(made)
    }

    /// The same authority with another lifetime of certificates.
    pub(crate) fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The directory of the authority, with Istio's files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // An error would leave an authority that nobody uses any more.
        drop(fs::remove_dir_all(&self.dir));
    }
}

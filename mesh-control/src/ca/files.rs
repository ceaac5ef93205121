//! The files of an authority and of a workload, with Istio's names. Keys are readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{fmt, str};

use super::Issued;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
const CA_CERT: &str = "ca-cert.pem";
const CA_KEY: &str = "ca-key.pem";
const CERT_CHAIN: &str = "cert-chain.pem";
const ROOT_CERT: &str = "root-cert.pem";
const KEY: &str = "key.pem";

/// A file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refuses it.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is there already.
    #[error("{} is there already, and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It has too many bytes, or is not text.
    #[error("{} is not PEM", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
    },
}

/// Contents of an authority's files. Its `Debug` output has no key.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaFiles {
    /// `ca-cert.pem`: the certificate that signs.
    pub ca_cert: String,
    /// `ca-key.pem`: its private key.
    pub ca_key: String,
    /// `cert-chain.pem`: the certificates between it and the root, the nearest first; the others are left out.
    pub cert_chain: String,
    /// `root-cert.pem`: the roots that workloads trust.
    pub root_cert: String,
}

impl fmt::Debug for CaFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ca_cert, cert_chain, root_cert, ca_key: _ } = self;
        f.debug_struct("CaFiles")
            .field("ca_cert", ca_cert)
            .field("ca_key", &"[redacted]")
            .field("cert_chain", cert_chain)
            .field("root_cert", root_cert)
            .finish()
    }
}

impl CaFiles {
    /// Reads the four files of a directory.
    ///
    /// # Errors
    ///
    /// If one cannot be read, or is not text.
    pub fn read(directory: &Path) -> Result<Self, FileError> {
        let read = |name| read_text(&directory.join(name));
        Ok(Self {
            ca_cert: read(CA_CERT)?,
            ca_key: read(CA_KEY)?,
            cert_chain: read(CERT_CHAIN)?,
            root_cert: read(ROOT_CERT)?,
        })
    }

    /// Writes the four files into a directory, which is created if it is not there.
    ///
    /// # Errors
    ///
    /// If one of the files is there already, and then none is written, or if the operating system refuses it.
    pub fn write(&self, directory: &Path) -> Result<(), FileError> {
        let files = [
            (CA_CERT, &self.ca_cert, Access::Everyone),
            (CA_KEY, &self.ca_key, Access::Owner),
            (CERT_CHAIN, &self.cert_chain, Access::Everyone),
            (ROOT_CERT, &self.root_cert, Access::Everyone),
        ];
        write_all(directory, &files)
    }
}

impl Issued {
    /// Writes `cert-chain.pem`, `key.pem` and `root-cert.pem` into a directory, which is created if it is not there. The names
    /// are those of Istio's agent.
    ///
    /// # Errors
    ///
    /// As [`CaFiles::write`].
    pub fn write(&self, roots: &str, directory: &Path) -> Result<(), FileError> {
        let roots = roots.to_owned();
        let files = [
            (CERT_CHAIN, &self.certificate_chain, Access::Everyone),
            (KEY, &self.private_key, Access::Owner),
            (ROOT_CERT, &roots, Access::Everyone),
        ];
        write_all(directory, &files)
    }
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Everyone,
    Owner,
}

fn write_all(directory: &Path, files: &[(&str, &String, Access)]) -> Result<(), FileError> {
    let io_error = |path: &Path, source| FileError::Io { path: path.to_owned(), source };
    fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
    let paths: Vec<_> = files.iter().map(|(name, ..)| directory.join(name)).collect();
    if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(FileError::Exists { path: path.clone() });
    }
    for ((_, text, access), path) in files.iter().zip(&paths) {
        write_new(path, text, *access).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FileError::Exists { path: path.clone() },
            _ => io_error(path, source),
        })?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &str, access: Access) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(if access == Access::Owner { 0o600 } else { 0o644 });
    }
    #[cfg(not(unix))]
    let _ = access;
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read_text(path: &Path) -> Result<String, FileError> {
    let io_error = |source| FileError::Io { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(io_error)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(FileError::NotPem { path: path.to_owned() });
    }
    let bytes = fs::read(path).map_err(io_error)?;
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(FileError::NotPem { path: path.to_owned() }),
    }
}

//! The authority of a user on one machine, which needs no setup.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Authority, CaError, FileError};

/// The authority of a user cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// There is no directory for it.
    #[error("no directory for a certificate authority: neither XDG_STATE_HOME nor HOME is set to an absolute path")]
    NoDirectory,
    /// Others than the owner may read the directory, or change it.
    #[error("{} is open to other users: expected mode 0700, found {mode:04o}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The authority cannot be read or made.
    #[error("the certificate authority in {} cannot be used", path.display())]
    Authority {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: CaError,
    },
}

/// The directory of the user's authority: `$XDG_STATE_HOME/mesh/ca`, by default `~/.local/state/mesh/ca` (XDG Base Directory
/// Specification).
///
/// # Errors
///
/// If neither variable has an absolute path.
pub fn local_directory() -> Result<PathBuf, LocalError> {
    directory(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"))
}

fn directory(state: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, LocalError> {
    // The specification says that a relative path is to be ignored.
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute(state).or_else(|| Some(absolute(home)?.join(".local/state")));
    Ok(state.ok_or(LocalError::NoDirectory)?.join("mesh").join("ca"))
}

impl Authority {
    /// Opens the authority in a directory that only its owner may enter, or makes one there: the directory gets mode 0700. Several
    /// processes may do this at once: all get the same authority.
    ///
    /// # Errors
    ///
    /// If the directory is open to other users, or the authority cannot be read or made.
    pub fn open_or_generate(directory: &Path, trust_domain: &str, now: SystemTime) -> Result<Self, LocalError> {
        let failed = |source| LocalError::Authority { path: directory.to_owned(), source };
        if !directory.exists() {
            generate(directory, trust_domain, now).map_err(failed)?;
        }
        require_private(directory)?;
        Self::open(directory, now).map_err(failed)
    }
}

/// Makes an authority beside the directory, and moves it there as a whole, so that nobody sees a part of it.
fn generate(directory: &Path, trust_domain: &str, now: SystemTime) -> Result<(), CaError> {
    let error = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { path, source }
    };
    let parent = directory.parent().unwrap_or(directory);
    private(true).create(parent).map_err(error(parent))?;
    // The standard library's hasher has a random key.
    let suffix = RandomState::new().hash_one(std::process::id());
    let temporary = parent.join(format!(".ca-{suffix:016x}"));
    private(false).create(&temporary).map_err(error(&temporary))?;
    let made = Authority::generate(trust_domain, now).and_then(|(_, files)| Ok(files.write(&temporary)?));
    let moved = made.and_then(|()| Ok(fs::rename(&temporary, directory).map_err(error(directory))?));
    if moved.is_err() {
        // What is left has a key that nobody uses.
        drop(fs::remove_dir_all(&temporary));
    }
    // A directory with files is not replaced: another process was faster, and its authority is the one to use.
    if directory.exists() { Ok(()) } else { moved }
}

/// Makes directories that only their owner may enter.
fn private(recursive: bool) -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(recursive);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(unix)]
fn require_private(directory: &Path) -> Result<(), LocalError> {
    use std::os::unix::fs::PermissionsExt as _;

    let failed = |source: io::Error| LocalError::Authority {
        path: directory.to_owned(),
        source: FileError::Io { path: directory.to_owned(), source }.into(),
    };
    let mode = fs::metadata(directory).map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(LocalError::Open { path: directory.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn require_private(_: &Path) -> Result<(), LocalError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    /// A directory that is deleted after the test.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("mesh-local-ca-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            Self(env::temp_dir().join(name))
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_directory_is_that_of_the_users_state() {
        let at = |state: Option<&str>, home: Option<&str>| directory(state.map(Into::into), home.map(Into::into));
        assert_eq!(at(Some("/s"), Some("/h")).unwrap(), Path::new("/s/mesh/ca"));
        for state in [None, Some(""), Some("s")] {
            assert_eq!(at(state, Some("/h")).unwrap(), Path::new("/h/.local/state/mesh/ca"));
            assert!(matches!(at(state, Some("")), Err(LocalError::NoDirectory)));
        }
    }

    #[test]
    fn processes_that_start_at_once_get_the_same_authority() {
        let home = Temporary::new();
        let directory = home.0.join("mesh/ca");
        let now = SystemTime::now();
        let open = || Authority::open_or_generate(&directory, "cluster.local", now).unwrap().roots().to_owned();
        let roots = thread::scope(|scope| {
            let starting: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            starting.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
        assert_eq!(open(), roots[0]);
        let entries: Vec<_> = fs::read_dir(home.0.join("mesh")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(entries, ["ca"], "nothing is left over");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_enter_the_directory() {
        use std::os::unix::fs::PermissionsExt as _;

        let home = Temporary::new();
        let open = || Authority::open_or_generate(&home.0, "cluster.local", SystemTime::now());
        open().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&home.0), mode(&home.0.join("ca-key.pem"))), (0o700, 0o600));
        fs::set_permissions(&home.0, fs::Permissions::from_mode(0o755)).unwrap();
        let error = open().unwrap_err().to_string();
        assert!(error.ends_with("is open to other users: expected mode 0700, found 0755"), "{error}");
    }

    #[test]
    fn a_directory_without_an_authority_is_not_filled() {
        let home = Temporary::new();
        private(true).create(&home.0).unwrap();
        fs::write(home.0.join("ca-cert.pem"), "mine").unwrap();
        let error = Authority::open_or_generate(&home.0, "cluster.local", SystemTime::now()).unwrap_err();
        assert!(matches!(error, LocalError::Authority { .. }), "{error}");
        assert_eq!(fs::read_dir(&home.0).unwrap().count(), 1);
    }
}

//! Which directory a path leads to.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Tells directories apart that were at the same path at different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    /// Device and inode, where there are such things.
    number: Option<(u64, u64)>,
    /// Numbers are used again; `None` where the file system does not know.
    created: Option<SystemTime>,
}

impl Presence {
    /// The directory at `path`; `None` if there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
        Some(Self { number: number(&metadata), created: metadata.created().ok() })
    }
}

#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn number(_: &fs::Metadata) -> Option<(u64, u64)> {
    None
}

/// What is at `path` instead of `known`, once something else is, or nothing.
///
/// # Cancel safety
/// Nothing is lost.
pub(super) async fn differs(path: &Path, known: Option<Presence>) -> Option<Presence> {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let path: PathBuf = path.to_owned();
        // File systems may be slow, and other things share this thread.
        if let Ok(found) = tokio::task::spawn_blocking(move || Presence::of(&path)).await
            && found != known
        {
            return found;
        }
    }
}

//! The identity of the directory at a path.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// The identity of a directory, which differs between directories that were at the same path at different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    /// Device and inode, on systems that have them.
    number: Option<(u64, u64)>,
    /// Inodes are reused; `None` if the file system does not record it.
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

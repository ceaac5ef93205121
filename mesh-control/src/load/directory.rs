//! Finds and reads the files of a configuration directory.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Position, Source};
use crate::document::MAX_FILE_BYTES;

/// Extensions of the files that are read.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// How deep folders may be nested; a symbolic link to a parent ends here.
const MAX_DEPTH: usize = 32;

/// The directory cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the directory {}", path.display())]
pub struct LoadError {
    path: PathBuf,
    source: io::Error,
}

impl LoadError {
    /// The directory at `path` cannot be read.
    #[cfg(feature = "watch")]
    pub(crate) fn new(path: PathBuf, source: io::Error) -> Self {
        Self { path, source }
    }

    /// The directory or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// All files, sorted by path, and a diagnostic for each that cannot be read.
pub(crate) fn read(directory: &Path) -> Result<(Vec<Arc<Source>>, Vec<Diagnostic>), LoadError> {
    let mut paths = Vec::new();
    list(directory, 0, &mut paths)?;
    paths.sort();
    let (mut sources, mut diagnostics) = (Vec::new(), Vec::new());
    for path in paths {
        match read_file(&path).map(String::from_utf8) {
            Ok(Ok(text)) => sources.push(Arc::new(Source::new(path, text))),
            Ok(Err(error)) => diagnostics.push(not_utf8(path, &error)),
            Err(error) => {
                let source = Arc::new(Source::new(path, String::new()));
                let message = format!("cannot read the file: {error}");
                diagnostics.push(Diagnostic::error(Code::Unreadable, Position::whole_file(source), message));
            }
        }
    }
    Ok((sources, diagnostics))
}

/// Reports the position of the first byte that is not UTF-8.
fn not_utf8(path: PathBuf, error: &FromUtf8Error) -> Diagnostic {
    let (bytes, valid) = (error.as_bytes(), error.utf8_error().valid_up_to());
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let fit = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    let (line, column) = (fit(before.matches('\n').count()), fit(last_line.chars().count()));
    let source = Arc::new(Source::new(path, String::from_utf8_lossy(bytes).into_owned()));
    let message = format!("cannot read the file: byte {:#04x} is not UTF-8", bytes[valid]);
    let position = Position { source, line, column, length: 1 };
    let diagnostic = Diagnostic::error(Code::Unreadable, position, message).label("expected UTF-8");
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return diagnostic.help("the file begins as UTF-16 does: save it as UTF-8");
    }
    diagnostic
}

/// Whether a file is read, by its extension.
pub(crate) fn is_config_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

fn list(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let fail = |source| LoadError { path: directory.to_owned(), source };
    if depth > MAX_DEPTH {
        return Err(fail(io::Error::other(format!("folders are nested more than {MAX_DEPTH} deep"))));
    }
    for entry in fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        // Kubernetes mounts a ConfigMap as links into a hidden folder; both would be read otherwise.
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            list(&path, depth + 1, paths)?;
        } else if is_config_file(&path) {
            paths.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would block until another process writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

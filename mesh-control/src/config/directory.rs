//! Finds and reads the files of a configuration directory.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::yaml::MAX_FILE_BYTES;
use crate::diagnostic::{Code, Diagnostic, Position, Source};

/// Endings of the files that count.
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

/// All files, sorted by path, and a diagnostic for each that cannot be read.
pub(super) fn read(directory: &Path) -> Result<(Vec<Arc<Source>>, Vec<Diagnostic>), LoadError> {
    let mut paths = Vec::new();
    list(directory, 0, &mut paths)?;
    paths.sort();
    let (mut sources, mut diagnostics) = (Vec::new(), Vec::new());
    for path in paths {
        match read_file(&path) {
            Ok(text) => sources.push(Arc::new(Source { path, text })),
            Err(error) => {
                let source = Arc::new(Source { path, text: String::new() });
                let message = format!("cannot read the file: {error}");
                diagnostics.push(Diagnostic::error(Code::Unreadable, Position::whole_file(source), message));
            }
        }
    }
    Ok((sources, diagnostics))
}

/// Whether a file counts, by its name.
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

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

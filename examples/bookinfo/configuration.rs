//! An editable copy of the example's configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::ports::Ports;

/// A temporary directory of Istio resources.
#[derive(Debug)]
pub(crate) struct Configuration {
    dir: PathBuf,
}

impl Configuration {
    /// Copies the files in `original` and replaces their ports.
    pub(crate) fn copy(original: &Path, ports: &Ports) -> io::Result<Self> {
        let copy = Self { dir: std::env::temp_dir().join(format!("bookinfo-check-{}", std::process::id())) };
        fs::create_dir_all(&copy.dir)?;
        for entry in fs::read_dir(original)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "yaml") {
                fs::write(copy.dir.join(entry.file_name()), ports.rewrite(&fs::read_to_string(entry.path())?))?;
            }
        }
        Ok(copy)
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Replaces `reviews.yaml` by one with other weights for v1, v2 and v3, which need not be numbers. Returns the line of
    /// the first weight.
    pub(crate) fn set_weights(&self, weights: [&str; 3]) -> io::Result<usize> {
        let path = self.dir.join("reviews.yaml");
        let yaml = fs::read_to_string(&path)?;
        let mut weights = weights.into_iter();
        let mut first = None;
        let mut edited = String::with_capacity(yaml.len());
        for (number, line) in (1..).zip(yaml.lines()) {
            match line.split_once("weight: ") {
                Some((before, old)) => {
                    first.get_or_insert(number);
                    edited += &format!("{before}weight: {}\n", weights.next().unwrap_or(old));
                }
                None => edited += &format!("{line}\n"),
            }
        }
        fs::write(path, edited)?;
        first.ok_or_else(|| io::Error::other("no weights in reviews.yaml"))
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // An error would leave the copy in the temporary directory, which does no harm.
        drop(fs::remove_dir_all(&self.dir));
    }
}

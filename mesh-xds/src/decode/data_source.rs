//! `envoy.config.core.v3.DataSource`: bytes in the configuration, in a file or in an environment variable.
//!
//! Files and variables are read once, when the resource is decoded, as in Envoy. A file that changes is read again with the
//! next version of the resource.

use std::io::Read as _;

use bytes::Bytes;

use super::field::{At, Result, fields};
use super::value::required;
use crate::proto::envoy::config::core::v3::{DataSource, data_source::Specifier};

/// Reads the bytes of a source, at most `max_bytes`.
pub(crate) fn read(at: &At<'_>, source: &DataSource, max_bytes: u32) -> Result<Bytes> {
    fields! {
        DataSource = source, at;
        use { specifier }
        ignore { watched_directory: "the file is read again with the next version of the resource" }
        refuse {}
    }
    let (name, bytes) = match required(at, specifier.as_ref())? {
        Specifier::InlineString(text) => ("inline_string", Bytes::from(text.clone())),
        Specifier::InlineBytes(bytes) => ("inline_bytes", bytes.clone()),
        Specifier::Filename(path) => ("filename", file(&at.field("filename"), path, max_bytes)?),
        Specifier::EnvironmentVariable(variable) => {
            let at = at.field("environment_variable");
            let value = std::env::var(variable).map_err(|error| at.refuse(format_args!("{variable}: {error}")))?;
            ("environment_variable", Bytes::from(value))
        }
    };
    if u32::try_from(bytes.len()).is_ok_and(|length| length <= max_bytes) {
        return Ok(bytes);
    }
    Err(at.field(name).refuse(format_args!("more than {max_bytes} bytes")))
}

/// Reads a file up to one byte more than `max_bytes`. It must be a regular file, because reading a pipe could block.
fn file(at: &At<'_>, path: &str, max_bytes: u32) -> Result<Bytes> {
    let refuse = |error: std::io::Error| at.refuse(format_args!("{path}: {error}"));
    if !std::fs::metadata(path).map_err(refuse)?.is_file() {
        return Err(at.refuse(format_args!("{path}: not a regular file")));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(refuse)?;
    file.take(u64::from(max_bytes) + 1).read_to_end(&mut bytes).map_err(refuse)?;
    Ok(bytes.into())
}

//! Why a bootstrap of gRPC cannot be used.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// A bootstrap of gRPC cannot be used.
#[derive(Debug, Error)]
#[error("gRPC bootstrap: {0}")]
pub struct GrpcBootstrapError(#[from] Kind);

#[derive(Debug, Error)]
pub(super) enum Kind {
    #[error("neither {} nor {} is set", super::FILE_VARIABLE, super::CONFIG_VARIABLE)]
    NotInEnvironment,
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("not JSON: {0}")]
    Json(serde_json::Error),
    #[error("node: {0}")]
    Node(String),
    #[error("{path}: {reason}")]
    Field { path: String, reason: String },
    #[error("authorities has no {0:?}")]
    Authority(String),
}

pub(super) type Result<T> = std::result::Result<T, GrpcBootstrapError>;

/// A value at `path` cannot be used.
pub(super) fn refuse(path: String, reason: impl fmt::Display) -> GrpcBootstrapError {
    Kind::Field { path, reason: reason.to_string() }.into()
}

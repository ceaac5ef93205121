//! Location and compilation of the `.proto` files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost_types::FileDescriptorSet;
use protox::prost_reflect::DescriptorPool;

use super::Error;

/// The registry package whose `proto/` folder is read. It is not compiled, so it is a dependency of a scratch manifest
/// only and not in the lock file of this workspace.
const PACKAGE: &str = "envoy-types";
const VERSION: &str = "0.7.7";

/// protox 0.10 resolves `common.ratelimit.v3.X` inside the local rate limit filter against
/// `envoy.extensions.filters.common` once any earlier file has defined that package; protoc looks only at the file's
/// own imports. Opening this file before the others gives protoc's result. Opening all files would break other packages,
/// which have the same problem in the other direction.
const OPENED_FIRST: &str = "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto";

/// The folders that imports are resolved in: those of the package, then `own`.
pub(super) fn include_dirs(work: &Path, own: &Path) -> Result<Vec<PathBuf>, Error> {
    let protos = package_dir(work)?.join("proto");
    let mut dirs: Vec<PathBuf> =
        std::fs::read_dir(&protos)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    dirs.sort();
    // `cel-spec` keeps its files one level deeper than the other repositories do.
    for dir in &mut dirs {
        if dir.join("proto").is_dir() {
            dir.push("proto");
        }
    }
    dirs.push(own.to_path_buf());
    Ok(dirs)
}

/// Compiles the packages of the messages in `roots` with their imports, without comments and source positions.
/// The pool has the options of fields too.
pub(super) fn compile(includes: &[PathBuf], roots: &[&str]) -> Result<(FileDescriptorSet, DescriptorPool), Error> {
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_source_info(false).include_imports(true);
    compiler.open_file(OPENED_FIRST)?;
    let packages: BTreeSet<&str> =
        roots.iter().filter_map(|root| root.rsplit_once('.')).map(|(package, _)| package).collect();
    for package in packages {
        // In all repositories that are read here, a package is a folder.
        let folder = package.replace('.', "/");
        let dirs = includes.iter().map(|include| include.join(&folder)).filter(|dir| dir.is_dir());
        let mut files = Vec::new();
        for dir in dirs {
            for entry in std::fs::read_dir(dir)? {
                files.push(Path::new(&folder).join(entry?.file_name()));
            }
        }
        files.retain(|file| file.extension().is_some_and(|extension| extension == "proto"));
        files.sort();
        compiler.open_files(files)?;
    }
    Ok((compiler.file_descriptor_set(), compiler.descriptor_pool()))
}

/// The directory to which cargo has unpacked the package, after a download if necessary.
fn package_dir(work: &Path) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(work.join("src"))?;
    std::fs::write(work.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"codegen-source\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\n{PACKAGE} = \"={VERSION}\"\n\n[workspace]\n"
    );
    std::fs::write(work.join("Cargo.toml"), manifest)?;

    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(work.join("Cargo.toml"))
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
    let manifest = packages
        .iter()
        .find(|package| package["name"] == PACKAGE)
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or_else(|| format!("cargo metadata: {PACKAGE} {VERSION} is not among the packages"))?;
    Ok(Path::new(manifest).parent().ok_or("cargo metadata: manifest path without folder")?.to_path_buf())
}

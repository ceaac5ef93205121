//! Generates `mesh-xds/src/proto/`: Rust types and a descriptor set for the part of the xDS API that the mesh speaks.
//!
//! The `.proto` files are those that the registry package `envoy-types` ships, plus the few in `xtask/proto/` that it
//! lacks. Those that [`roots::ROOTS`] name are compiled (by protox, so nobody needs protoc), cut to what they
//! reach, and turned into Rust by prost. The result is checked in: building the mesh runs none of this.

mod emit;
mod prune;
mod roots;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use std::process::ExitCode;

use prost::Message as _;

/// Any failure of generation; it is only ever printed.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// A generated tree: path below [`TARGET`] to content.
type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// Where the generated tree lies in the workspace.
const TARGET: &str = "mesh-xds/src/proto";

/// Runs [`write()`] or [`check()`] and prints what came of it.
#[expect(clippy::print_stderr, reason = "a command line tool reports on the terminal")]
pub(crate) fn run(workspace: &Path, command: fn(&Path) -> Result<String, Error>) -> ExitCode {
    match command(workspace) {
        Ok(done) => {
            eprintln!("{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("codegen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Replaces the checked-in tree by a freshly generated one.
pub(crate) fn write(workspace: &Path) -> Result<String, Error> {
    let target = workspace.join(TARGET);
    let tree = generate(workspace)?;
    if target.exists() {
        std::fs::remove_dir_all(&target)?;
    }
    for (path, content) in &tree {
        let path = target.join(path);
        std::fs::create_dir_all(path.parent().expect("joined below the target directory"))?;
        std::fs::write(path, content)?;
    }
    Ok(format!("wrote {} files to {}", tree.len(), target.display()))
}

/// Fails, naming each file, if the checked-in tree is not what [`write()`] would produce.
pub(crate) fn check(workspace: &Path) -> Result<String, Error> {
    let (expected, found) = (generate(workspace)?, read_tree(&workspace.join(TARGET))?);
    let stale: Vec<String> = expected
        .keys()
        .chain(found.keys().filter(|path| !expected.contains_key(*path)))
        .filter(|path| expected.get(*path) != found.get(*path))
        .map(|path| path.display().to_string())
        .collect();
    if stale.is_empty() {
        return Ok(format!("{} generated files are up to date", expected.len()));
    }
    Err(format!("out of date, run `cargo xtask codegen`: {}", stale.join(", ")).into())
}

fn generate(workspace: &Path) -> Result<Tree, Error> {
    let work = workspace.join("target/xtask-codegen");
    let includes = source::include_dirs(&work, &workspace.join("xtask/proto"))?;
    let all = source::compile(&includes, roots::ROOTS)?;
    let kept = prune::prune(&all, roots::ROOTS)?;
    let descriptors = kept.encode_to_vec();
    let mut tree = emit::rust(kept, &work.join("out"), workspace)?;
    tree.insert("descriptors.bin".into(), descriptors);
    Ok(tree)
}

fn read_tree(dir: &Path) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                tree.insert(path.strip_prefix(dir)?.to_path_buf(), std::fs::read(&path)?);
            }
        }
    }
    Ok(tree)
}

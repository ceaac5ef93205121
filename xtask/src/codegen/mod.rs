//! Generates `mesh-xds/src/proto/`: Rust types and a descriptor set for the part of the xDS API that the mesh speaks.
//!
//! The `.proto` files are those that the registry package `envoy-types` ships, plus the few in `xtask/proto/` that it
//! lacks. Those that [`roots::ROOTS`] name are compiled (by protox, so nobody needs protoc), cut to what they
//! reach, and turned into Rust by prost. The result is checked in: building the mesh runs none of this.
//!
//! The gRPC services of the examples are generated beside them ([`examples`]).

mod emit;
mod examples;
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

/// Replaces the checked-in trees by freshly generated ones.
pub(crate) fn write(workspace: &Path) -> Result<String, Error> {
    let mut done = Vec::new();
    for (target, tree) in generate(workspace)? {
        let dir = workspace.join(target);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        for (path, content) in &tree {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().expect("joined below the target directory"))?;
            std::fs::write(path, content)?;
        }
        done.push(format!("wrote {} files to {}", tree.len(), dir.display()));
    }
    Ok(done.join("\n"))
}

/// Fails, naming each file, if the checked-in trees are not what [`write()`] would produce.
pub(crate) fn check(workspace: &Path) -> Result<String, Error> {
    let mut stale = Vec::new();
    let mut up_to_date = 0;
    for (target, expected) in generate(workspace)? {
        let found = read_tree(&workspace.join(target))?;
        let paths = expected.keys().chain(found.keys().filter(|path| !expected.contains_key(*path)));
        for path in paths {
            if expected.get(path) == found.get(path) {
                up_to_date += 1;
            } else {
                stale.push(Path::new(target).join(path).display().to_string());
            }
        }
    }
    if stale.is_empty() {
        return Ok(format!("{up_to_date} generated files are up to date"));
    }
    Err(format!("out of date, run `cargo xtask codegen`: {}", stale.join(", ")).into())
}

/// Every generated tree with the folder it belongs in.
fn generate(workspace: &Path) -> Result<[(&'static str, Tree); 2], Error> {
    let work = workspace.join("target/xtask-codegen");
    Ok([(TARGET, xds(workspace, &work)?), (examples::TARGET, examples::generate(workspace, &work.join("examples"))?)])
}

fn xds(workspace: &Path, work: &Path) -> Result<Tree, Error> {
    let includes = source::include_dirs(work, &workspace.join("xtask/proto"))?;
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

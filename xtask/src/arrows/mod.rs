//! `cargo xtask arrows CRATE`: which top-level modules of a crate use which others.
//!
//! If two top-level modules of a crate use each other, directly or through others, neither can be understood, moved or
//! tested without the other, so `cargo xtask tidy` refuses such circles in the crates of [`WITHOUT_CIRCLES`]. An arrow
//! is a path that leads through the crate root; a name that `lib.rs` re-exports belongs to the module that defines it.
//! `lib.rs` and `main.rs` themselves put the modules together and belong to none of them.

mod source;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::source::crate_paths;

/// The crates in which `cargo xtask tidy` refuses circles of modules.
pub(crate) const WITHOUT_CIRCLES: &[&str] =
    &["mesh-core", "mesh-tower", "mesh-xds", "mesh-control", "mesh-proxy", "mesh-admin"];

/// Generated modules; their paths stay among themselves.
const GENERATED: &str = "mesh-xds/src/proto/";

/// The arrows of a crate: for each pair of modules, of which the first uses the second, where it does.
type Arrows = BTreeMap<(String, String), Vec<Place>>;

/// Where a module uses another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// From the root of the workspace.
    pub(crate) file: PathBuf,
    /// The first line is 1.
    pub(crate) line: usize,
    /// The path that is used: `crate::a::B`.
    pub(crate) path: String,
}

/// An arrow without which a circle of modules would not be closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    /// The modules in the order of their arrows, the first one repeated at the end. The closing arrow comes first.
    pub(crate) circle: Vec<String>,
    /// Where the first module of the circle uses the second.
    pub(crate) places: Vec<Place>,
}

/// Prints the arrows and circles of the crate in folder `name`. Fails if there is a circle.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on the terminal")]
pub(crate) fn run(root: &Path, name: &str) -> ExitCode {
    let arrows = match arrows(root, name) {
        Ok(arrows) => arrows,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut from = "";
    for ((module, used), places) in &arrows {
        if module != from {
            println!("{module}");
            from = module;
        }
        println!("  -> {used} ({})", places.len());
    }
    let circles = closing(&arrows);
    for Closing { circle, places } in &circles {
        println!("circle: {}, closed by", circle.join(" -> "));
        places.iter().for_each(|Place { file, line, path }| println!("  {}:{line}: {path}", file.display()));
    }
    if circles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The arrows that close the circles of modules in the crate in folder `name`; without them there would be no circle.
///
/// # Errors
///
/// If the crate cannot be read.
pub(crate) fn circles(root: &Path, name: &str) -> std::io::Result<Vec<Closing>> {
    Ok(closing(&arrows(root, name)?))
}

fn arrows(root: &Path, name: &str) -> std::io::Result<Arrows> {
    let mut files = Vec::new();
    let source = Path::new(name).join("src");
    list(root, &source, &mut files)?;
    let mut sources = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(root.join(&path))?;
        let module = module_of(path.strip_prefix(&source).expect("listed below the source folder"));
        sources.push(Source { path, module, text });
    }
    arrows_between(&sources)
}

/// The Rust files below `folder` that are neither tests nor generated, in order.
fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(root.join(folder))?
        .map(|entry| Ok(folder.join(entry?.file_name())))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let stem = path.file_stem().unwrap_or_default();
        if stem == "tests" || stem == "testing" || stem == "bin" || path.starts_with(GENERATED) {
            continue;
        }
        if root.join(&path).is_dir() {
            list(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "main" {
            files.push(path);
        }
    }
    Ok(())
}

/// The path of the module in a file of the source folder: `a::b` for `a/b.rs` and `a/b/mod.rs`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

struct Source {
    path: PathBuf,
    module: Vec<String>,
    text: String,
}

fn arrows_between(sources: &[Source]) -> std::io::Result<Arrows> {
    let is_module = |name: &str| sources.iter().any(|source| source.module.first().is_some_and(|first| first == name));
    let mut paths = Vec::new();
    for source in sources {
        let found = crate_paths(&source.text, &source.module)
            .map_err(|error| std::io::Error::other(format!("{}: {error}", source.path.display())))?;
        paths.push((source, found));
    }
    let mut reexported = BTreeMap::new();
    for path in paths.iter().filter(|(source, _)| source.module.is_empty()).flat_map(|(_, found)| found) {
        if let [module, _, ..] = path.segments.as_slice()
            && is_module(module)
        {
            reexported.insert(path.name.as_str(), module.as_str());
        }
    }
    let mut arrows = Arrows::new();
    for (source, found) in &paths {
        let Some(module) = source.module.first() else { continue };
        for path in found {
            let Some(first) = path.segments.first().map(String::as_str) else { continue };
            let used = if is_module(first) { Some(first) } else { reexported.get(first).copied() };
            if let Some(used) = used.filter(|used| used != module) {
                let places = arrows.entry((module.clone(), used.to_owned())).or_default();
                let file = source.path.clone();
                places.push(Place { file, line: path.line, path: format!("crate::{}", path.segments.join("::")) });
            }
        }
    }
    Ok(arrows)
}

/// Takes arrows away until no circle is left, those with the fewest places first, as they are the easiest to take away.
fn closing(arrows: &Arrows) -> Vec<Closing> {
    let mut left: Vec<(&str, &str)> = arrows.keys().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let mut by_places: Vec<_> = arrows.iter().collect();
    by_places.sort_by_key(|(_, places)| places.len());
    let mut closing = Vec::new();
    for ((from, to), places) in by_places {
        if let Some(way) = shortest_way(&left, to, from) {
            left.retain(|arrow| *arrow != (from, to));
            let circle = std::iter::once(from.clone()).chain(way.into_iter().map(str::to_owned)).collect();
            closing.push(Closing { circle, places: places.clone() });
        }
    }
    closing
}

/// The modules from `from` to `to` along the arrows, both included.
fn shortest_way<'a>(arrows: &[(&'a str, &'a str)], from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut reached_from = BTreeMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(module) = queue.pop_front() {
        if module == to {
            let mut way = vec![module];
            while let Some(&last) = way.last()
                && last != from
            {
                way.push(reached_from[last]);
            }
            way.reverse();
            return Some(way);
        }
        for (_, next) in arrows.iter().filter(|(start, _)| *start == module) {
            reached_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                module
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows_of(files: &[(&str, &str)]) -> Arrows {
        let sources: Vec<Source> = files
            .iter()
            .map(|&(path, text)| Source {
                path: path.into(),
                module: module_of(Path::new(path)),
                text: text.to_owned(),
            })
            .collect();
        arrows_between(&sources).unwrap()
    }

    fn place(file: &str, line: usize, path: &str) -> Place {
        Place { file: file.into(), line, path: path.to_owned() }
    }

    fn pairs(arrows: &Arrows) -> Vec<(&str, &str)> {
        arrows.keys().map(|(from, to)| (from.as_str(), to.as_str())).collect()
    }

    #[test]
    fn a_path_to_another_top_level_module_is_an_arrow() {
        let arrows = arrows_of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod inner;\nuse crate::a::inner::C; use crate::missing;"),
            ("a/inner.rs", "use super::C;\nuse super::super::b::D;"),
            ("b.rs", "pub struct D;"),
        ]);
        assert_eq!(pairs(&arrows), [("a", "b")]);
        assert_eq!(arrows[&("a".to_owned(), "b".to_owned())], [place("a/inner.rs", 2, "crate::b::D")]);
    }

    #[test]
    fn a_reexported_name_belongs_to_the_module_that_defines_it() {
        let arrows = arrows_of(&[
            ("lib.rs", "mod a; mod b;\npub use b::{Body, inner::Error as BodyError};\nuse crate::a::Only;"),
            ("a.rs", "use crate::{Body, BodyError};"),
            ("b.rs", "use crate::Only;"),
        ]);
        assert_eq!(pairs(&arrows), [("a", "b"), ("b", "a")]);
        assert_eq!(arrows[&("a".to_owned(), "b".to_owned())].len(), 2);
    }

    #[test]
    fn a_circle_is_closed_by_its_rarest_arrow() {
        let files = [
            ("a.rs", "use crate::b::{B, C};"),
            ("b.rs", "use crate::c::{D, E};"),
            ("c.rs", "\nuse crate::a::F;"),
            ("d.rs", "use crate::a::G;"),
        ];
        let circle = ["c", "a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(closing(&arrows_of(&files)), [Closing { circle, places: vec![place("c.rs", 2, "crate::a::F")] }]);
        assert_eq!(closing(&arrows_of(&files[1..])), []);
    }

    #[test]
    fn without_the_closing_arrows_no_circle_is_left() {
        let names = ["a", "b", "c", "d"];
        let everything: Vec<(String, String)> =
            names.map(|name| (format!("{name}.rs"), format!("use crate::{{{}}};", names.join(", ")))).to_vec();
        let files: Vec<(&str, &str)> = everything.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let mut arrows = arrows_of(&files);
        assert_eq!(arrows.len(), 12);
        let closing_arrows = closing(&arrows);
        arrows.retain(|(from, to), _| {
            !closing_arrows.iter().any(|closing| closing.circle[..2] == [from.clone(), to.clone()])
        });
        assert_eq!(arrows.len(), 6);
        assert_eq!(closing(&arrows), []);
    }
}

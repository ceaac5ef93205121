//! `cargo xtask external-types`: which crates the public signatures of the library crates name.
//!
//! A public signature that names a type of another crate ties our major version to that crate's. Only the crates of
//! [`ALLOWED`] may be named: those with a stable interface, and those whose types are meant to be exchanged. Everything
//! else is hidden behind a type of our own.
//!
//! The signatures are read from rustdoc's JSON. It is an unstable format, which `RUSTC_BOOTSTRAP` enables on the stable
//! toolchain.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Map, Value};

/// The crates whose signatures are checked: the facade, and those whose items it re-exports.
const CHECKED: &[&str] = &["mesh", "mesh_core", "mesh_tower"];

/// The crates that public signatures may name, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("alloc", "standard library"),
    ("core", "standard library"),
    ("std", "standard library"),
    ("mesh", "our own"),
    ("mesh_control", "our own"),
    ("mesh_core", "our own"),
    ("mesh_tower", "our own"),
    ("mesh_xds", "our own"),
    ("bytes", "stable 1.x; the data of bodies"),
    ("http", "stable 1.x; requests and responses"),
    ("http_body", "stable 1.x; the trait of bodies"),
    ("hyper", "stable 1.x; the bodies that its connections hand over"),
    ("ipnet", "stable 2.x; networks in the model"),
    ("tokio", "stable 1.x; sockets and streams that are handed over"),
    ("tower_layer", "0.3 for years, made to be shared; the trait of layers"),
    ("tower_service", "0.3 for years, made to be shared; the trait of services"),
    ("tracing", "0.1 for years, made to be shared; spans"),
];

/// A public item whose signature names a type of a crate that is not allowed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Where the item is declared: file and line.
    place: String,
    /// The item's path, such as `mesh::Mesh::channel`.
    item: String,
    /// The foreign type's path, such as `h2::Reason`.
    foreign: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} names {}", self.place, self.item, self.foreign)
    }
}

/// Documents the library crates of the workspace at `root` as JSON and prints all findings.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on the terminal")]
pub(crate) fn run(root: &Path) -> ExitCode {
    match check(root) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            eprintln!("{} public items name types of other crates; see xtask/src/external_types.rs", findings.len());
            ExitCode::FAILURE
        }
        Err(reason) => {
            eprintln!("external-types: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> Result<BTreeSet<Finding>, String> {
    let documents = document(root)?;
    let mut findings = BTreeSet::new();
    for name in CHECKED {
        let path = documents.join(name).with_extension("json");
        let json = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let json: Value = json
            .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let documented = Crate::new(&json).ok_or_else(|| format!("{}: not written by rustdoc", path.display()))?;
        findings.extend(documented.findings());
    }
    Ok(findings)
}

/// Runs rustdoc for the libraries of the workspace and returns the directory of what it has written.
fn document(root: &Path) -> Result<PathBuf, String> {
    // The whole workspace, because the dependencies then have the features with which `cargo doc` has built them.
    // `RUSTC_BOOTSTRAP` is set for rustdoc only: build scripts of dependencies change what they build if they see it.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["doc", "--workspace", "--lib", "--no-deps", "--locked", "--quiet"])
        .env("RUSTDOC", root.join("xtask/rustdoc-json"))
        .env("RUSTDOCFLAGS", "-Zunstable-options --output-format json")
        .current_dir(root)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("cargo doc: {status}")),
        Err(error) => return Err(format!("cargo doc: {error}")),
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(root.join(target).join("doc"))
}

/// The JSON of one crate.
struct Crate<'a> {
    /// ID of the crate's root module.
    root: String,
    /// The items of the crate, by ID.
    index: &'a Map<String, Value>,
    /// Paths of the items that signatures name, of any crate, by ID.
    paths: &'a Map<String, Value>,
    /// Names of other crates, by number.
    external_crates: &'a Map<String, Value>,
}

impl<'a> Crate<'a> {
    fn new(json: &'a Value) -> Option<Self> {
        Some(Self {
            root: json["root"].as_u64()?.to_string(),
            index: json["index"].as_object()?,
            paths: json["paths"].as_object()?,
            external_crates: json["external_crates"].as_object()?,
        })
    }

    /// Visits every item that can be reached from the root.
    fn findings(&self) -> BTreeSet<Finding> {
        let (mut findings, mut visited) = (BTreeSet::new(), HashSet::new());
        let mut waiting = vec![(self.root.clone(), String::new())];
        while let Some((id, parent)) = waiting.pop() {
            let Some(item) = self.index.get(&id).filter(|_| visited.insert(id)) else { continue };
            if is_generated(&item["inner"]["impl"]) {
                continue;
            }
            let path = match item["name"].as_str() {
                Some(name) if parent.is_empty() => name.to_owned(),
                Some(name) => format!("{parent}::{name}"),
                None => parent,
            };
            let mut named = Named::default();
            named.read(&item["inner"]);
            for foreign in named.types.iter().filter_map(|id| self.not_allowed(id)) {
                let line = &item["span"]["begin"][0];
                let place = format!("{}:{line}", item["span"]["filename"].as_str().unwrap_or("?"));
                findings.insert(Finding { place, item: path.clone(), foreign });
            }
            waiting.extend(named.items.into_iter().map(|id| (id, path.clone())));
        }
        findings
    }

    /// The path of a type, if it is of a crate that is not allowed.
    fn not_allowed(&self, id: &str) -> Option<String> {
        let named = self.paths.get(id)?;
        // Crate 0 is the crate itself, which is not in the table.
        let from = self.external_crates.get(&named["crate_id"].as_u64()?.to_string())?["name"].as_str()?;
        let parts: Vec<&str> = named["path"].as_array()?.iter().filter_map(Value::as_str).collect();
        (!ALLOWED.iter().any(|(allowed, _)| *allowed == from)).then(|| parts.join("::"))
    }
}

/// Whether an implementation is of an auto trait, or comes from a blanket implementation elsewhere.
fn is_generated(implementation: &Value) -> bool {
    implementation["is_synthetic"] == true || implementation["blanket_impl"].is_object()
}

/// What the declaration of an item names, by ID.
#[derive(Default)]
struct Named {
    /// The items in it: of a module, a type, a trait, an implementation; and what a re-export stands for.
    items: Vec<String>,
    /// The types and traits in its signature.
    types: Vec<String>,
}

impl Named {
    /// Reads a part of a declaration. The parts of every kind of item are lists of numbers under a few names, and a
    /// type or trait is an object with a path and a number.
    fn read(&mut self, part: &Value) {
        match part {
            Value::Array(parts) => parts.iter().for_each(|part| self.read(part)),
            Value::Object(parts) => {
                let id = parts.get("id").and_then(Value::as_u64).map(|id| id.to_string());
                if parts.contains_key("path") {
                    self.types.extend(id);
                } else if parts.contains_key("source") {
                    self.types.extend(id.clone());
                    self.items.extend(id);
                }
                for (name, part) in parts {
                    if let "items" | "fields" | "variants" | "tuple" | "impls" | "implementations" = name.as_str() {
                        let ids = part.as_array().into_iter().flatten().filter_map(Value::as_u64);
                        self.items.extend(ids.map(|id| id.to_string()));
                    }
                    self.read(part);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn function(name: &str, argument: u64) -> Value {
        json!({
            "name": name, "span": {"filename": "src/lib.rs", "begin": [7, 1]},
            "inner": {"function": {"sig": {"inputs": [["it", {"borrowed_ref": {"type": {"resolved_path":
                {"path": "It", "id": 90, "args": {"angle_bracketed": {"args": [
                    {"type": {"resolved_path": {"path": "Inner", "id": argument, "args": null}}}
                ]}}}
            }}}]], "output": null}}}
        })
    }

    fn implementation(blanket: &Value) -> Value {
        json!({
            "name": null, "span": {"filename": "src/lib.rs", "begin": [9, 1]},
            "inner": {"impl": {
                "is_synthetic": false, "blanket_impl": blanket, "items": [4],
                "trait": {"path": "From", "id": 90, "args": {"angle_bracketed": {"args": [
                    {"type": {"resolved_path": {"path": "Reason", "id": 91, "args": null}}}
                ]}}},
            }}
        })
    }

    fn findings(index: &Value) -> Vec<String> {
        let json = json!({
            "root": 0, "index": index,
            "paths": {
                "3": {"crate_id": 0, "path": ["mesh", "Own"]},
                "90": {"crate_id": 1, "path": ["core", "option", "Option"]},
                "91": {"crate_id": 2, "path": ["h2", "Reason"]},
            },
            "external_crates": {"1": {"name": "core"}, "2": {"name": "h2"}},
        });
        Crate::new(&json).unwrap().findings().iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_signature_is_read_to_its_innermost_type() {
        let module = json!({"name": "mesh", "inner": {"module": {"items": [1, 2]}}});
        let index = json!({"0": module, "1": function("fine", 3), "2": function("leaks", 91)});
        assert_eq!(findings(&index), ["src/lib.rs:7: mesh::leaks names h2::Reason"]);
    }

    #[test]
    fn fields_methods_and_traits_belong_to_their_type() {
        let module = json!({"name": "mesh", "inner": {"module": {"items": [3]}}});
        let own = json!({"name": "Own", "inner": {"struct": {"kind": {"tuple": [null, 2]}, "impls": [5, 6]}}});
        let index = json!({
            "0": module, "2": function("0", 91), "3": own, "4": function("from", 91),
            "5": implementation(&Value::Null), "6": implementation(&json!({"generic": "T"})),
        });
        let leaks = ["src/lib.rs:7: mesh::Own::0", "src/lib.rs:7: mesh::Own::from", "src/lib.rs:9: mesh::Own"];
        assert_eq!(findings(&index), leaks.map(|leak| format!("{leak} names h2::Reason")));
    }

    #[test]
    fn a_type_may_not_be_re_exported_and_an_unreachable_item_does_not_matter() {
        let module = json!({"name": "mesh", "inner": {"module": {"items": [1, 8]}}});
        let re_export = |id| {
            json!({"name": null, "span": {"filename": "src/lib.rs", "begin": [2, 1]},
                "inner": {"use": {"source": "somewhere", "name": "It", "id": id, "is_glob": false}}})
        };
        let index = json!({"0": module, "1": re_export(91), "8": re_export(4), "4": function("leaks", 91), "2": function("hidden", 91)});
        assert_eq!(
            findings(&index),
            ["src/lib.rs:2: mesh names h2::Reason", "src/lib.rs:7: mesh::leaks names h2::Reason"]
        );
    }
}

//! `mesh-control validate`.

use std::process::Command;

/// Exit code and output of `mesh-control validate` on a folder of `tests/data`.
fn validate(folder: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-control"))
        .args(["validate", folder])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
        .output()
        .expect("cargo has built the program");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn mistakes_are_shown_as_rustc_does_and_exit_with_1() {
    let (code, output) = validate("broken");
    assert_eq!(output, include_str!("../data/broken/expected.txt"));
    assert_eq!(code, Some(1));
}

#[test]
fn a_valid_directory_exits_with_0() {
    let (code, output) = validate("valid");
    assert_eq!(output, "6 resources in 1 file: 0 errors, 0 warnings\n");
    assert_eq!(code, Some(0));
}

#[test]
fn a_directory_that_is_not_there_exits_with_2() {
    let (code, output) = validate("nowhere");
    assert!(output.starts_with("error: cannot read the directory nowhere: "), "{output}");
    assert_eq!(code, Some(2));
}

#[test]
fn the_example_of_an_application_of_kubernetes_is_valid_and_has_addresses() {
    let (code, output) = validate("../../../examples/bookinfo/kubernetes");
    let expected = "ConfigMap (v1): 1 object is left alone, at ../../../examples/bookinfo/kubernetes/bookinfo.yaml:";
    assert!(output.starts_with(expected), "{output}");
    assert!(output.ends_with(": 0 errors, 0 warnings\n"), "{output}");
    assert_eq!(code, Some(0));
}

//! The program, as scripts see it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const GATEWAY: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge}\n\
                       spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: \
                       HTTP}, hosts: ['*']}]}\n";

/// A directory with one file, removed with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-control-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory can be written");
        fs::write(path.join("a.yaml"), text).expect("it is there");
        Self(path)
    }

    fn run(&self, command: &str, more: &[&str], stdout: Stdio) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_mesh-control"));
        program
            .arg(command)
            .arg(&self.0)
            .args(more)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .output()
            .expect("the program was built")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn exit_codes_distinguish_valid_invalid_and_unusable_input() {
    let good = Directory::new("good", GATEWAY);
    let bad = Directory::new("bad", "kind: Sidecar\n");
    let values = Directory::new("values", "replicas: 1\n");
    for (directory, command, more, expected) in [
        (&good, "validate", &[][..], 0),
        (&bad, "validate", &[], 1),
        (&good, "translate", &[], 0),
        (&good, "translate", &["--role", "gateway"], 0),
        (&good, "translate", &["--role", "sidecar"], 2),
        (&good, "translate", &["--service", "a b"], 2),
        (&bad, "translate", &["--service", "a"], 1),
        (&good, "validate", &["--nonsense"], 2),
        (&good, "validate", &["--namespace", "shop"], 0),
        (&good, "validate", &["--namespace", "A B"], 2),
        (&values, "validate", &[], 0),
        (&values, "validate", &["--strict"], 1),
        (&values, "translate", &["--strict"], 1),
    ] {
        let output = directory.run(command, more, Stdio::piped());
        assert_eq!(output.status.code(), Some(expected), "{command} {more:?}: {output:?}");
    }
}

#[test]
fn a_gateway_is_translated_without_a_service() {
    let output = Directory::new("gateway", GATEWAY).run("translate", &["--role", "gateway"], Stdio::piped());
    let resources: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(resources["listeners"][0]["address"]["socket_address"]["port_value"], 8080);
}

/// Linux has a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let directory = Directory::new("full", GATEWAY);
    for command in ["validate", "translate"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = directory.run(command, &[], full.into());
        assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{command}: {output:?}");
    }
}

#[cfg(feature = "ca")]
#[test]
fn a_certificate_takes_one_command_for_the_authority_and_one_for_the_workload() {
    let directory = Directory::new("ca", "");
    let path = |name: &str| directory.0.join(name).to_string_lossy().into_owned();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mesh-control")).arg("ca").args(arguments).output();
        let output = output.expect("the program was built");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (root, workload) = (path("root"), path("workload"));
    assert_eq!(run(&["init", &root]), (Some(0), String::new()));
    let (code, error) = run(&["init", &root]);
    assert_eq!(code, Some(2));
    assert!(error.ends_with("ca-cert.pem is there already, and is not overwritten\n"), "{error}");
    let identity = "spiffe://cluster.local/ns/default/sa/reviews";
    let issue = ["issue", "--dir", &root, "--identity", identity, "--out", &workload];
    assert_eq!(run(&issue), (Some(0), String::new()));
    for name in ["cert-chain.pem", "key.pem", "root-cert.pem"] {
        let text = fs::read_to_string(directory.0.join("workload").join(name)).expect(name);
        assert!(text.starts_with("-----BEGIN "), "{name}: {text}");
    }
    assert_eq!(run(&["init", &path("bad"), "--trust-domain", "A"]).0, Some(2));
    assert!(!directory.0.join("bad").exists());
}

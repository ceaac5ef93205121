//! Errors at the start, and validation without a start.

use std::{net::TcpListener, process::Command};

use crate::process::{Proxy, Upstream, bootstrap};

fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-proxy")).args(args).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn errors_at_the_start_are_reported_and_the_exit_code_is_1() {
    let owner = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = owner.local_addr().unwrap();
    let taken =
        bootstrap(Upstream::new().address()).replacen("port_value: 0", &format!("port_value: {}", address.port()), 1);
    let in_use = format!("{address}: address already in use");
    let cases: [(&[&str], &str); 6] = [
        (&["--config-yaml", &taken], &in_use),
        (&["--config-yaml", "{}", "--admin", &address.to_string()], &in_use),
        (&["-c", "/nonexistent/envoy.yaml"], "cannot read /nonexistent/envoy.yaml: No such file"),
        (&["--config-yaml", "static_resources: {clustres: []}"], "clustres"),
        (&["--istio", "/nonexistent", "--service", "a"], "/nonexistent"),
        (&["--istio", "/tmp"], "--role sidecar needs --service"),
    ];
    for (args, reason) in cases {
        let (code, output) = run(args);
        assert!(code == Some(1) && output.contains(reason), "{args:?}: {code:?} {output}");
    }
}

#[test]
fn validation_does_not_bind_ports() {
    let upstream = Upstream::new();
    let yaml = bootstrap(upstream.address());
    let proxy = Proxy::start(&["--config-yaml", &yaml]);
    let address = proxy.address_in("listener main: listening");
    let same_port = yaml.replacen("port_value: 0", &format!("port_value: {}", address.port()), 1);
    assert_eq!(run(&["--config-yaml", &same_port, "--mode", "validate"]).0, Some(0));
}

//! AuthorizationPolicies of a directory, enforced by a sidecar.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::process::{Directory, Proxy, Upstream, connect, free_port, get, ratings, tcp_ingress};

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// Everything that is received on a new connection after a request; empty if the connection is closed.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    let mut answer = String::new();
    // Either may fail if the connection is closed.
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    answer
}

#[test]
fn a_sidecar_denies_what_policies_deny() {
    let upstream = Upstream::new();
    let program = upstream.address();
    thread::spawn(move || {
        loop {
            let mut request = upstream.accept();
            // Fails if the client has closed its connection.
            let _ = write!(request, "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nstars");
        }
    });
    let directory = Directory::new("authorization");
    let (http, tcp) = (free_port(), free_port());
    let services = ratings(http, program, &tcp_ingress(tcp, program));
    directory.write("mesh.yaml", &services);
    let of_port = format!("{{operation: {{paths: [/admin*], ports: ['{http}']}}}}");
    let deny = format!("{{selector: {{matchLabels: {{app: ratings}}}}, action: DENY, rules: [{{to: [{of_port}]}}]}}");
    let allow = "{rules: [{to: [{operation: {methods: [GET]}}], when: [{key: source.ip, values: [127.0.0.0/8]}]}]}";
    directory.write("policies.yaml", &[policy("deny", &deny), policy("allow", allow)].concat());
    let path = directory.0.to_str().unwrap().to_owned();
    let proxy = Proxy::start(&["--istio", &path, "--service", "ratings"]);
    let admin = proxy.address_in("admin endpoint: listening");
    proxy.line_with("ready");
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let status = |answer: &str| answer.split(' ').nth(1).unwrap_or("closed").to_owned();

    assert_eq!(status(&get(address(http), "/stars")), "200");
    let denied = get(address(http), "/admin/users?x");
    assert!(denied.starts_with("HTTP/1.1 403 ") && denied.ends_with("RBAC: access denied"), "{denied}");
    let posted = "POST /stars HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&exchange(address(http), posted)), "403");
    // The path is the one that the program would get.
    for path in ["/./admin", "/x/../admin", "/%61dmin"] {
        assert_eq!(status(&get(address(http), path)), "403", "{path}");
    }
    // Connections have no method, so the policy that allows one allows none.
    let request = "GET / HTTP/1.0\r\n\r\n";
    assert_eq!(exchange(address(tcp), request), "");
    let statistics = get(admin, "/stats");
    for part in ["rbac.allowed: 1\n", "rbac.denied: 5\n", "tcp.rbac.denied: 1\n"] {
        assert!(statistics.contains(part), "{part} is not in\n{statistics}");
    }

    // A policy that cannot be enforced changes nothing.
    directory.write("policies.yaml", &policy("referring", "{targetRefs: [{kind: Gateway, name: a}], rules: [{}]}"));
    proxy.line_with("the last good one stays");
    assert_eq!(status(&get(address(http), "/admin")), "403");

    directory.write(
        "policies.yaml",
        &policy("ports", &format!("{{rules: [{{to: [{{operation: {{ports: ['{tcp}']}}}}]}}]}}")),
    );
    // Connections that arrive during the change may still be served under the previous policies.
    let deadline = Instant::now() + Duration::from_secs(20);
    let read = "GET /stars HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for (port, request, expected) in [(tcp, request, "200"), (http, read, "403")] {
        while status(&exchange(address(port), request)) != expected {
            assert!(Instant::now() < deadline, "the new policy is not in force");
        }
    }
}

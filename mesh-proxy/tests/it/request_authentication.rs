//! A gateway and a sidecar that authenticate end users, configured by a directory of Istio resources.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use crate::process::{Directory, Proxy, Upstream, connect, free_port, read_head};

/// A shared secret that is public: `an example secret, for tests only`.
const JWKS: &str =
    r#"{"keys":[{"kty":"oct","kid":"k1","alg":"HS256","k":"YW4gZXhhbXBsZSBzZWNyZXQsIGZvciB0ZXN0cyBvbmx5"}]}"#;

/// Of `alice` for `shop`.
const ALICE: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOiJzaG9wIiwiZXhwIjozMjUwMzY4MDAwMH0.4cWp_25D0zDpWnkp6jB23Npd1OGI7Txdwf_9O5v-j3w";
/// Of `tess`, whose claim `groups` has `testers`.
const TESTER: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoidGVzcyIsImF1ZCI6WyJzaG9wIl0sImdyb3VwcyI6WyJ1c2VycyIsInRlc3RlcnMiXSwiZXhwIjozMjUwMzY4MDAwMH0.LlxxdJAZYWa4U48NV1yuwycIbbHUEwUCysQ61GTaoHM";
const EXPIRED: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOiJzaG9wIiwiZXhwIjoxMDAwMDAwMDAwfQ.sOZyt1vvnLhawAdnLb19D2ueH-ul2TDnM1LbSRYBnBU";
const OTHER_AUDIENCE: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOiJiYW5rIiwiZXhwIjozMjUwMzY4MDAwMH0.G-AVBmfq9s_6R9ZvTy6zBdoCA0qgHixd3x5swpUAvdA";

/// The whole response to a request with these headers.
fn send(address: SocketAddr, headers: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET /cart HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn bearer(address: SocketAddr, token: &str) -> String {
    send(address, &format!("authorization: Bearer {token}\r\n"))
}

/// A service that answers with a name and the head of the request.
fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let body = format!("{name} {}", read_head(&mut stream));
            let length = body.len();
            // The client may have closed its connection.
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    address
}

fn service(name: &str, port: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
"
    )
}

fn policy(keys: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users}}
spec:
  jwtRules:
  - issuer: https://issuer.example
    audiences: [shop]
    {keys}
    outputClaimToHeaders: [{{header: x-user, claim: sub}}]
"
    )
}

/// A gateway on `port`: testers get the service `beta`, all others `shop`.
fn gateway(port: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: [shop.example]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http:
  - match: [{{headers: {{'@request.auth.claims.groups': {{exact: testers}}}}}}]
    route: [{{destination: {{host: beta.example}}}}]
  - route: [{{destination: {{host: shop.example}}}}]
"
    )
}

/// The response once it begins with `expected`.
fn eventually(expected: &str, send: impl Fn() -> String) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = send();
        if answer.starts_with(expected) {
            return answer;
        }
        assert!(Instant::now() < deadline, "expected {expected}, found {answer}");
        thread::yield_now();
    }
}

#[test]
fn a_gateway_verifies_tokens_and_routes_by_claims() {
    let (shop, beta, port) = (echo("shop"), echo("beta"), free_port());
    let directory = Directory::new("jwt");
    let mesh =
        [service("shop", shop.port()), service("beta", beta.port()), gateway(port), policy(&format!("jwks: '{JWKS}'"))];
    directory.write("mesh.yaml", &mesh.concat());
    let proxy = Proxy::start(&["--istio", directory.0.to_str().unwrap(), "--role", "gateway"]);
    proxy.line_with("ready");
    let address = SocketAddr::from(([127, 0, 0, 1], port));

    let anonymous = send(address, "x-user: admin\r\n");
    assert!(anonymous.starts_with("HTTP/1.1 200") && anonymous.contains("shop GET /cart"), "{anonymous}");
    assert!(!anonymous.contains("x-user"), "a client does not name its own user: {anonymous}");

    let alice = send(address, &format!("x-user: admin\r\nauthorization: bearer {ALICE}\r\n"));
    assert!(alice.starts_with("HTTP/1.1 200") && alice.contains("shop GET /cart"), "{alice}");
    assert!(alice.contains("x-user: alice\r\n") && !alice.contains("admin"), "{alice}");
    assert!(!alice.contains("authorization"), "the token is not passed on: {alice}");

    let tester = bearer(address, TESTER);
    assert!(tester.starts_with("HTTP/1.1 200") && tester.contains("beta GET /cart"), "{tester}");

    let expired = bearer(address, EXPIRED);
    assert!(expired.starts_with("HTTP/1.1 401") && expired.ends_with("Jwt is expired"), "{expired}");
    let challenge = "www-authenticate: Bearer realm=\"http://shop.example/cart\", error=\"invalid_token\"\r\n";
    assert!(expired.contains(challenge), "{expired}");
    let other = bearer(address, OTHER_AUDIENCE);
    assert!(other.starts_with("HTTP/1.1 403") && other.ends_with("Audiences in Jwt are not allowed"), "{other}");
    let forged = bearer(address, &format!("{}{}", &ALICE[..ALICE.len() - 4], "AAAA"));
    assert!(forged.starts_with("HTTP/1.1 401") && forged.ends_with("Jwt verification fails"), "{forged}");
}

#[test]
fn keys_are_fetched_and_without_them_no_token_is_valid() {
    let (shop, issuer, port) = (echo("shop"), Upstream::new(), free_port());
    let keys = issuer.address();
    drop(issuer);
    let directory = Directory::new("jwks");
    let remote = policy(&format!("jwksUri: http://{keys}/jwks"));
    directory.write(
        "mesh.yaml",
        &[service("shop", shop.port()), service("beta", shop.port()), gateway(port), remote].concat(),
    );
    let path = directory.0.to_str().unwrap();
    let refused = Proxy::start(&["--istio", path, "--role", "gateway"]);
    refused.line_with("is a loopback or link-local address");
    assert!(!refused.wait().success());

    let proxy = Proxy::start(&["--istio", path, "--role", "gateway", "--allow-local-jwks-uri"]);
    proxy.line_with("ready");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let failed = bearer(address, ALICE);
    assert!(failed.starts_with("HTTP/1.1 401") && failed.ends_with("Jwks remote fetch is failed"), "{failed}");
    proxy.line_with("cannot fetch the keys of JSON Web Tokens");
    assert!(send(address, "").starts_with("HTTP/1.1 200"), "a request without a token needs no keys");

    let listener = TcpListener::bind(keys).unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = read_head(&mut stream);
        let length = JWKS.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{JWKS}").unwrap();
        head
    });
    let alice = eventually("HTTP/1.1 200", || bearer(address, ALICE));
    assert!(alice.contains("x-user: alice\r\n"), "{alice}");
    let request = serving.join().unwrap();
    assert!(
        request.starts_with("GET /jwks HTTP/1.1\r\n") && request.contains(&format!("host: {keys}\r\n")),
        "{request}"
    );
    assert!(bearer(address, ALICE).starts_with("HTTP/1.1 200"), "the issuer answers once: {request}");
}

#[test]
fn a_sidecar_verifies_the_tokens_of_calls_to_its_workload() {
    let (program, port) = (echo("ratings"), free_port());
    let directory = Directory::new("jwt-sidecar");
    let sidecar = format!(
        "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: shop}}
spec:
  workloadSelector: {{labels: {{app: shop}}}}
  ingress:
  - {{port: {{number: {port}, protocol: HTTP, name: http}}, bind: 127.0.0.1, defaultEndpoint: '{program}'}}
"
    );
    let selecting =
        policy(&format!("jwks: '{JWKS}'")).replace("  jwtRules", "  selector: {matchLabels: {app: shop}}\n  jwtRules");
    directory.write("mesh.yaml", &[service("shop", 1), sidecar, selecting].concat());
    let path = directory.0.to_str().unwrap();
    let proxy = Proxy::start(&["--istio", path, "--service", "shop", "--label", "app=shop"]);
    proxy.line_with("ready");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert!(bearer(address, ALICE).contains("x-user: alice\r\n"));
    assert!(bearer(address, EXPIRED).starts_with("HTTP/1.1 401"));

    let text = std::fs::read_to_string(directory.0.join("mesh.yaml")).unwrap();
    directory.write(
        "mesh.yaml",
        &text.replace("selector: {matchLabels: {app: shop}}", "selector: {matchLabels: {app: other}}"),
    );
    let answer = eventually("HTTP/1.1 200", || bearer(address, EXPIRED));
    assert!(answer.contains("authorization: Bearer"), "{answer}");
}

//! The effect of SIGTERM on requests and connections.

use std::io::{Read, Write};

use crate::process::{Proxy, Upstream, bootstrap, connect, get, read_head};

#[test]
fn sigterm_lets_requests_finish_closes_idle_connections_and_exits_0() {
    let upstream = Upstream::new();
    let proxy = Proxy::start(&["--config-yaml", &bootstrap(upstream.address()), "--drain-time-s", "15"]);
    let admin = proxy.address_in("admin endpoint: listening");
    let address = proxy.address_in("listener main: listening");
    proxy.line_with("ready");
    assert!(get(admin, "/ready").ends_with("LIVE\n"));

    let (mut busy, mut idle) = (connect(address), connect(address));
    write!(busy, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let mut request = upstream.accept();
    proxy.terminate();
    proxy.line_with("SIGTERM: draining");
    assert!(get(admin, "/ready").contains("503"));
    let mut nothing = String::new();
    idle.read_to_string(&mut nothing).unwrap();
    assert_eq!(nothing, "", "the idle connection is closed");

    write!(request, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").unwrap();
    let head = read_head(&mut busy);
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("connection: close"), "{head}");
    let mut body = String::new();
    busy.read_to_string(&mut body).unwrap();
    assert_eq!(body, "done");
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_request_that_does_not_end_is_aborted_after_the_drain_time() {
    let upstream = Upstream::new();
    let proxy = Proxy::start(&["--config-yaml", &bootstrap(upstream.address()), "--drain-time-s", "1"]);
    let address = proxy.address_in("listener main: listening");
    let mut busy = connect(address);
    write!(busy, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let _request = upstream.accept();
    proxy.terminate();
    assert_eq!(proxy.wait().code(), Some(0));
    let mut nothing = Vec::new();
    // The connection may be closed or reset.
    let _ = busy.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
}

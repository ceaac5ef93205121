//! Processes of the program, and their upstreams and clients.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

/// Timeout of each step of a test.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A running proxy; killed at the end of the test.
pub(crate) struct Proxy {
    child: Child,
    log: Receiver<String>,
}

impl Proxy {
    /// Starts the program; its admin endpoint and listeners take free ports.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mesh-proxy"))
            .args(["--admin", "127.0.0.1:0", "--concurrency", "1"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = follow(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// The next line of the log with `part`.
    pub(crate) fn line_with(&self, part: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(TIMEOUT) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {part:?} in {seen:#?}"),
            }
        }
    }

    /// The address that a line of the log ends with.
    pub(crate) fn address_in(&self, part: &str) -> SocketAddr {
        self.line_with(part).rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Fails if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(stderr: ChildStderr) -> Receiver<String> {
    let (sender, log) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Fails when the test is over.
            let _ = sender.send(line);
        }
    });
    log
}

/// An upstream whose responses the test writes.
pub(crate) struct Upstream(TcpListener);

impl Upstream {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Its socket, for upstreams that read the request.
    pub(crate) fn listener(&self) -> &TcpListener {
        &self.0
    }

    /// The next request, whose head has arrived.
    pub(crate) fn accept(&self) -> TcpStream {
        let (mut stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        read_head(&mut stream);
        stream
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Reads the head of a message, with the empty line.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "ended after {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The whole response to a GET on a new connection.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    get_of("test", address, path)
}

/// [`get`] with this host.
pub(crate) fn get_of(host: &str, address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A directory that is deleted at the end of the test.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-proxy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Replaces a file atomically, so that it is never read half-written.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let draft = self.0.join(format!(".{name}"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.0.join(name)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Files that remain do no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A bootstrap with one listener on a free port, all of whose requests go to `upstream`.
pub(crate) fn bootstrap(upstream: SocketAddr) -> String {
    format!(
        r#"
static_resources:
  listeners:
  - name: main
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {{virtual_hosts: [{{name: v, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: up}}}}]}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: up
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: up
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]
"#,
        upstream.ip(),
        upstream.port()
    )
}

/// A port that is free, and that no other call returns.
///
/// It is not one of the ports that systems give to sockets without one, so no connection takes it before the proxy does.
pub(crate) fn free_port() -> u16 {
    const RANGE: Range<u32> = 10_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let of_process = std::process::id().wrapping_mul(97);
    loop {
        let offset = of_process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (RANGE.end - RANGE.start);
        let port = u16::try_from(RANGE.start + offset).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A service `ratings` whose program listens on `program`; its sidecar listens on `http`. `more` are further lines of the sidecar's
/// `spec`, which begin with items of `ingress`.
pub(crate) fn ratings(http: u16, program: SocketAddr, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: ratings}}
spec:
  hosts: [ratings.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {http}}}, labels: {{app: ratings, version: v1}}}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: ratings}}
spec:
  workloadSelector: {{labels: {{app: ratings}}}}
  ingress:
  - {{port: {{number: {http}, protocol: HTTP, name: http}}, bind: 127.0.0.1, defaultEndpoint: '{program}'}}
{more}"
    )
}

/// The item of a sidecar's `ingress` for connections on `port`.
pub(crate) fn tcp_ingress(port: u16, program: SocketAddr) -> String {
    format!(
        "  - {{port: {{number: {port}, protocol: TCP, name: tcp}}, bind: 127.0.0.1, defaultEndpoint: '{program}'}}\n"
    )
}

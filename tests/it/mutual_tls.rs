//! Mutual TLS between members of one machine, with the certificates of an authority in a directory.

use std::{net::SocketAddr, path::Path, time::Duration};

use axum::{Extension, Router, routing::get as handle};
use http::Request;
use mesh::{ConfigEvent, Mesh, MeshBuilder, PeerIdentity};
use mesh_control::ca::Authority;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt as _;

use crate::support::{ConfigDir, get, named, shop};

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

fn policy(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: {mode}}}}}
"
    )
}

/// Only the service account `client` may call the shop.
const CLIENT_ONLY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: client-only}
spec:
  selector: {matchLabels: {app: shop}}
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]}]
";

/// A connection has one request, so that each request has a handshake.
const SERIAL: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}
";

/// A new authority in a directory.
fn authority() -> ConfigDir {
    let dir = ConfigDir::new();
    let (_, files) = Authority::generate("cluster.local", std::time::SystemTime::now()).unwrap();
    files.write(dir.path()).unwrap();
    dir
}

/// A mesh with a service `shop` that responds with the identity of its client.
struct Scene {
    dir: ConfigDir,
    ca: ConfigDir,
    shop: SocketAddr,
    server: Mesh,
}

impl Scene {
    async fn start(mode: &str, more: &str) -> Self {
        let (dir, ca) = (ConfigDir::new(), authority());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let services = shop(address.port()).replace("labels:", "serviceAccount: shop, labels:");
        dir.write("services.yaml", &services);
        dir.write("policy.yaml", &format!("{}---\n{more}", policy(mode)));
        let member = Mesh::builder().config_dir(dir.path()).certificate_authority(ca.path());
        let scene = Self { shop: address, server: member.service("shop").build().await.unwrap(), dir, ca };
        let whoami = async |peer: Option<Extension<PeerIdentity>>| match peer {
            Some(Extension(peer)) if peer.is_verified => peer.certificate.uri_sans.join(","),
            Some(_) => "not verified".to_owned(),
            None => "nobody".to_owned(),
        };
        let serial = async |Extension(peer): Extension<PeerIdentity>| peer.certificate.serial.to_string();
        let router = Router::new().route("/", handle(whoami)).route("/serial", handle(serial));
        let server = scene.server.server("shop").unwrap();
        tokio::spawn(async move { server.serve(socket, router).await });
        scene
    }

    fn member(&self, ca: &Path) -> MeshBuilder {
        Mesh::builder().config_dir(self.dir.path()).certificate_authority(ca)
    }

    /// Calls the shop with a certificate of the authority for the service account.
    async fn call(&self, ca: &Path, account: &str) -> (u16, String) {
        let mesh = self.member(ca).service_account(account).build().await.unwrap();
        get(&mesh.channel("shop").unwrap(), "/").await
    }

    /// Sends a request in plain text. Returns everything that is received until the connection is closed.
    async fn plain_text(&self) -> String {
        let mut stream = TcpStream::connect(self.shop).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut received = Vec::new();
        // A reset is one way in which the server closes the connection.
        drop(stream.read_to_end(&mut received).await);
        String::from_utf8_lossy(&received).into_owned()
    }
}

#[tokio::test]
async fn a_strict_server_sees_who_its_client_is_and_refuses_plain_text() {
    let scene = Scene::start("STRICT", "").await;
    assert_eq!(scene.call(scene.ca.path(), "client").await, (200, CLIENT.to_owned()));
    assert!(!scene.plain_text().await.contains("HTTP/1.1"));

    let stranger = authority();
    let (status, body) = scene.call(stranger.path(), "client").await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn a_layer_serves_plain_text_unless_it_is_forbidden() {
    for (mode, is_served) in [("STRICT", false), ("PERMISSIVE", true), ("DISABLE", true)] {
        let scene = Scene::start(mode, "").await;
        let mesh = scene.member(scene.ca.path()).service("shop").build().await.unwrap();
        let layer = mesh.server("shop").unwrap().layer(scene.shop);
        assert_eq!(layer.is_ok(), is_served, "{mode}: {layer:?}");
        if let Err(error) = layer {
            assert!(error.report().contains("it requires TLS of all connections"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_layer_refuses_everything_after_an_edit_that_forbids_plain_text() {
    let scene = Scene::start("PERMISSIVE", "").await;
    let mesh = scene.member(scene.ca.path()).service("shop").build().await.unwrap();
    let layer = mesh.server("shop").unwrap().layer(scene.shop).unwrap();
    let service = tower::Layer::layer(&layer, named("shop"));
    let status = async || {
        let request = Request::get("/").header("host", "shop").body(String::new()).unwrap();
        service.clone().oneshot(request).await.unwrap_or_else(|never| match never {}).status().as_u16()
    };
    assert_eq!(status().await, 200);
    for (mode, expected) in [("STRICT", 403), ("PERMISSIVE", 200)] {
        let mut events = mesh.events();
        scene.dir.write("policy.yaml", &policy(mode));
        let applied = async { while !matches!(events.next().await.unwrap(), ConfigEvent::Applied(_)) {} };
        tokio::time::timeout(Duration::from_secs(20), applied).await.unwrap();
        assert_eq!(status().await, expected, "{mode}");
    }
}

/// The value of a label of the only `istio_requests_total` of this reporter.
fn label(mesh: &Mesh, reporter: &str, name: &str) -> String {
    let metrics = mesh.metrics();
    let start = format!("istio_requests_total{{reporter=\"{reporter}\",");
    let mut series = metrics.lines().filter_map(|line| line.strip_prefix(&start));
    let (Some(only), None) = (series.next(), series.next()) else { panic!("expected one series in {metrics}") };
    let (_, value) = only.split_once(&format!("{name}=\"")).unwrap();
    value.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn both_ends_report_the_identities_of_the_certificates() {
    let scene = Scene::start("STRICT", "").await;
    let client = scene.member(scene.ca.path()).service_account("client").build().await.unwrap();
    assert_eq!(get(&client.channel("shop").unwrap(), "/").await.0, 200);
    for (mesh, reporter, policy) in [(&client, "source", "unknown"), (&scene.server, "destination", "mutual_tls")] {
        assert_eq!(label(mesh, reporter, "source_principal"), CLIENT, "{reporter}");
        let server = "spiffe://cluster.local/ns/default/sa/shop";
        assert_eq!(label(mesh, reporter, "destination_principal"), server, "{reporter}");
        assert_eq!(label(mesh, reporter, "connection_security_policy"), policy);
    }

    let scene = Scene::start("PERMISSIVE", "").await;
    assert!(scene.plain_text().await.starts_with("HTTP/1.1 200 "));
    for (name, expected) in
        [("source_principal", "unknown"), ("destination_principal", "unknown"), ("connection_security_policy", "none")]
    {
        assert_eq!(label(&scene.server, "destination", name), expected);
    }
}

#[tokio::test]
async fn a_permissive_server_accepts_both() {
    let scene = Scene::start("PERMISSIVE", "").await;
    assert_eq!(scene.call(scene.ca.path(), "client").await, (200, CLIENT.to_owned()));
    let response = scene.plain_text().await;
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("nobody"), "{response}");
}

#[tokio::test]
async fn a_policy_about_principals_admits_one_identity_only() {
    let scene = Scene::start("STRICT", CLIENT_ONLY).await;
    assert_eq!(scene.call(scene.ca.path(), "client").await, (200, CLIENT.to_owned()));
    assert_eq!(scene.call(scene.ca.path(), "other").await, (403, "RBAC: access denied".to_owned()));
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_is_no_change_of_the_configuration() {
    let scene = Scene::start("STRICT", SERIAL).await;
    let lifetime = Duration::from_secs(2);
    let builder = scene.member(scene.ca.path()).service_account("client").certificate_lifetime(lifetime);
    let mesh = builder.build().await.unwrap();
    let (mut events, channel) = (mesh.events(), mesh.channel("shop").unwrap());
    let first = get(&channel, "/serial").await;
    assert_eq!(first.0, 200);
    let renewed = async { while get(&channel, "/serial").await == first {} };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
    let (status, second) = get(&channel, "/serial").await;
    assert!(status == 200 && second != first.1, "{second}");

    scene.dir.write("policy.yaml", &policy("STRICT"));
    let applied = async {
        loop {
            let event = events.next().await.unwrap();
            if let ConfigEvent::Applied(applied) = event {
                return applied;
            }
        }
    };
    let applied = tokio::time::timeout(Duration::from_secs(20), applied).await.unwrap();
    assert!(!applied.changed.iter().any(|name| name.contains("secret")), "{applied:?}");
}

#[tokio::test]
async fn a_lifetime_of_zero_is_an_error() {
    let scene = Scene::start("STRICT", "").await;
    let builder = scene.member(scene.ca.path()).service_account("client");
    let error = builder.certificate_lifetime(Duration::ZERO).build().await.unwrap_err();
    assert!(error.report().contains("a lifetime of 0 s: must be above 0"), "{error:?}");
}

#[tokio::test]
async fn strict_without_an_authority_is_an_error() {
    let scene = Scene::start("STRICT", "").await;
    let error = Mesh::builder().config_dir(scene.dir.path()).build().await.unwrap_err();
    assert!(error.is_config() && error.report().contains("there is no certificate authority"), "{error:?}");
}

#[tokio::test]
async fn an_authority_that_cannot_be_used_is_an_error() {
    let (dir, empty) = (ConfigDir::new(), ConfigDir::new());
    let error = Mesh::builder().config_dir(dir.path()).certificate_authority(empty.path()).build().await.unwrap_err();
    assert!(error.is_config() && error.report().contains("ca-cert.pem"), "{error:?}");
    let error = Mesh::builder().certificate_authority(authority().path()).build().await.unwrap_err();
    assert!(error.to_string().contains("only used with MeshBuilder::config_dir"), "{error}");
    let error = Mesh::builder().service_account("a/b").build().await.unwrap_err();
    assert!(error.is_invalid_name(), "{error}");
}

//! Servers and clients for the tests.

use std::{
    convert::Infallible,
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use mesh::{
    Body, Channel, Mesh,
    model::{
        Action, Cluster, Discovery, HttpProtocol, PathMatcher, Route, RouteAction, RouteConfiguration, RouteMatch,
        VirtualHost,
    },
};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt as _, service_fn};

/// A service `shop` with one endpoint on this machine at `port`.
pub(crate) fn shop(port: impl Display) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{app: shop, version: v1}}}}]
"
    )
}

/// A directory of configuration files that is deleted after the test.
pub(crate) struct ConfigDir(PathBuf);

impl ConfigDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mesh-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }
}

impl Drop for ConfigDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Serves the service `shop` of the mesh; responds with `name` and the path of the request.
pub(crate) async fn serve(mesh: &Mesh, name: &'static str) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = mesh.server("shop").unwrap();
    tokio::spawn(async move { server.serve(socket, named(name)).await });
    address
}

/// Responds with `name` and the requested path.
pub(crate) fn named(
    name: &'static str,
) -> impl Service<
    Request<Body>,
    Response = Response<String>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<String>, Infallible>> + Send,
> + Clone
+ Send
+ Sync
+ 'static {
    service_fn(
        move |request: Request<Body>| async move { Ok(Response::new(format!("{name} {}", request.uri().path()))) },
    )
}

/// `GET path`: status and body.
pub(crate) async fn get(channel: &Channel, path: &str) -> (u16, String) {
    let request = Request::get(path).body(String::new()).unwrap();
    let response = channel.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A channel to `address`, on a route that `configure` changes.
pub(crate) async fn channel_to(address: SocketAddr, http2: bool, configure: impl FnOnce(&mut RouteAction)) -> Channel {
    let mut cluster = Cluster::new("c", Discovery::Static([address].into_iter().collect()));
    cluster.http_protocol_options.protocol = if http2 { HttpProtocol::Http2 } else { HttpProtocol::Http1 };
    let mut action = RouteAction::to_cluster("c");
    configure(&mut action);
    let everything = RouteMatch::path(PathMatcher::Prefix("/".into()));
    let route = Route::new(everything, Action::Route(Box::new(action)));
    let routes = RouteConfiguration::new("target", vec![VirtualHost::new("target", vec![route])]);
    let mesh = Mesh::builder().cluster(cluster).routes("target:80", routes).build().await.unwrap();
    mesh.channel("target").unwrap()
}

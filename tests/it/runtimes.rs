//! One mesh in several runtimes.

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use axum::{
    Router,
    routing::{any, get as on_get},
};
use http::StatusCode;
use mesh::Mesh;
use tokio::{net::TcpListener, runtime::Runtime};

use crate::support::{ConfigDir, get};

/// An endpoint of both protocols, outside of the runtimes of the test. `/fails` always fails, `/slow` exceeds the timeout.
fn endpoint() -> SocketAddr {
    let (send, address) = mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async {
            let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(socket.local_addr().unwrap()).unwrap();
            let app = Router::new()
                .route("/", on_get(async || "here"))
                .route("/fails", any(async || StatusCode::SERVICE_UNAVAILABLE))
                .route("/slow", any(async || tokio::time::sleep(Duration::from_secs(60)).await));
            axum::serve(socket, app).await
        })
    });
    address.recv().unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Declares `shop` with HTTP/1.1 and `grpc` with HTTP/2, both at `address`, with a timeout and retries.
fn write_config(dir: &ConfigDir, address: SocketAddr) {
    for (name, protocol) in [("shop", "HTTP"), ("grpc", "HTTP2")] {
        dir.write(&format!("{name}.yaml"), &config(name, protocol, address.port(), "/"));
    }
}

fn config(name: &str, protocol: &str, port: u16, prefix: &str) -> String {
    format!(
        "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  ports: [{{number: 80, name: it, protocol: {protocol}, targetPort: {port}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  http:
    - match: [{{uri: {{prefix: {prefix}}}}}]
      timeout: 0.3s
      retries: {{attempts: 2, retryOn: 5xx}}
      route: [{{destination: {{host: {name}}}}}]
"
    )
}

/// Checks responses, retries and timeouts of both protocols.
async fn check(mesh: &Mesh) {
    for name in ["shop", "grpc"] {
        let channel = mesh.channel(name).unwrap();
        let answers = (0..8).map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move { get(&channel, "/").await })
        });
        for answer in answers.collect::<Vec<_>>() {
            assert_eq!(answer.await.unwrap(), (200, "here".to_owned()), "{name}");
        }
        assert_eq!(get(&channel, "/fails").await.0, 503, "{name}");
        assert_eq!(get(&channel, "/slow").await.0, 504, "{name}");
    }
}

#[test]
fn a_mesh_can_outlive_the_runtime_that_it_was_built_in() {
    let dir = ConfigDir::new();
    let address = endpoint();
    write_config(&dir, address);
    let first = runtime();
    let mesh = first.block_on(async {
        let mesh = Mesh::builder().config_dir(dir.path()).build().await.unwrap();
        check(&mesh).await;
        mesh
    });
    drop(first);
    for _ in 0..2 {
        runtime().block_on(check(&mesh));
    }

    // The directory is still followed, and channels are still configured.
    runtime().block_on(async {
        let mut events = mesh.events();
        dir.write("late.yaml", &config("late", "HTTP", address.port(), "/"));
        while mesh.channel("late").is_err() {
            events.next().await.unwrap();
        }
        let late = mesh.channel("late").unwrap();
        assert_eq!(get(&late, "/").await, (200, "here".to_owned()));
    });
}

#[test]
fn two_runtimes_can_use_a_mesh_concurrently() {
    let dir = ConfigDir::new();
    write_config(&dir, endpoint());
    let (first, second) = (runtime(), runtime());
    let mesh = first.block_on(Mesh::builder().config_dir(dir.path()).build()).unwrap();
    for _ in 0..2 {
        thread::scope(|scope| {
            for runtime in [&first, &second] {
                scope.spawn(|| runtime.block_on(check(&mesh)));
            }
        });
    }
    drop(first);
    second.block_on(check(&mesh));
}

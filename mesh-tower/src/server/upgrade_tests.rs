//! Programs that upgrade their connections.

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    time::{sleep, timeout},
};

use super::Server;
use crate::{Body, BoxError, telemetry::Telemetry};

const SECOND: Duration = Duration::from_secs(1);

/// A connection to a program that upgrades connections for the path `/ws`, and then repeats four bytes.
///
/// The program drains when the sender is dropped.
async fn program() -> (DuplexStream, mpsc::Sender<DuplexStream>) {
    let service = tower::service_fn(async |mut request: Request<Body>| {
        if request.uri().path() != "/ws" {
            return Ok::<_, BoxError>(Response::new(Body::from("page")));
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let mut text = [0; 4];
            io.read_exact(&mut text).await.unwrap();
            io.write_all(&text).await.unwrap();
        });
        let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
        Ok(response.body(Body::empty()).unwrap())
    });
    let (connections, incoming) = mpsc::channel(1);
    tokio::spawn(Server::new(Arc::default(), Telemetry::default()).serve(incoming, service, std::future::pending()));
    let (client, io) = tokio::io::duplex(64 * 1024);
    connections.send(io).await.unwrap();
    (client, connections)
}

#[tokio::test(start_paused = true)]
async fn a_program_may_upgrade_a_connection_after_other_requests() {
    const PAGE: &str = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    let cases: [(&[&str], usize); 4] = [
        (&[WEBSOCKET, "ping"], 0),
        (&[PAGE, WEBSOCKET, "ping"], 1),
        (&[&[PAGE, WEBSOCKET, "ping"].concat()], 1),
        (&[PAGE, PAGE, &WEBSOCKET[..30], &WEBSOCKET[30..], "pi", "ng"], 2),
    ];
    for (parts, pages) in cases {
        let (mut client, _connections) = program().await;
        for part in parts {
            client.write_all(part.as_bytes()).await.unwrap();
            sleep(SECOND / 4).await;
        }
        let mut answers = String::new();
        timeout(SECOND, client.read_to_string(&mut answers)).await.expect("an end").unwrap();
        assert_eq!(answers.matches("\r\n\r\npage").count(), pages, "{answers}");
        assert!(answers.contains("HTTP/1.1 101 ") && answers.ends_with("\r\n\r\nping"), "{answers}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_upgrade_the_program_ignores_is_closed() {
    let (mut client, _connections) = program().await;
    let request = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all([request, request].concat().as_bytes()).await.unwrap();
    let mut answers = String::new();
    timeout(SECOND, client.read_to_string(&mut answers)).await.expect("an end").unwrap();
    assert_eq!(answers.matches("\r\n\r\npage").count(), 1, "{answers}");
    assert!(answers.contains("connection: close\r\n"), "{answers}");
}

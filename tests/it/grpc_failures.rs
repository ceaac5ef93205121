//! Failed calls, as a tonic client sees them.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use mesh::Mesh;
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, service::Routes};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};

use crate::support;

/// Serves tonic's health service, whose `Watch` is a stream that does not end.
async fn serve() -> SocketAddr {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mesh = Mesh::builder().service("shop").build().await.unwrap();
    tokio::spawn(async move {
        let _reporter = reporter;
        mesh.server("shop").unwrap().serve(socket, Routes::new(health)).await
    });
    address
}

fn shop() -> HealthCheckRequest {
    HealthCheckRequest { service: "shop".to_owned() }
}

#[tokio::test]
async fn a_stream_that_exceeds_the_route_timeout_is_deadline_exceeded() {
    let timeout = Duration::from_millis(100);
    let channel = support::channel_to(serve().await, true, |route| route.timeout = timeout).await;
    let mut watched = HealthClient::new(channel).watch(shop()).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
    let status = watched.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn a_stream_whose_connection_is_lost_is_unavailable() {
    let server = serve().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let between = tokio::spawn(async move {
        let (mut client, _) = socket.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    });
    let channel = support::channel_to(address, true, |_| {}).await;
    let mut watched = HealthClient::new(channel).watch(shop()).await.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();
    between.abort();
    let status = watched.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_unavailable_with_a_cause() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unused = socket.local_addr().unwrap();
    drop(socket);
    let channel = support::channel_to(unused, true, |_| {}).await;
    let status = HealthClient::new(channel.clone()).check(shop()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);

    let same = HealthClient::new(channel.with_status_source()).check(shop()).await.unwrap_err();
    assert_eq!((same.code(), same.message()), (status.code(), status.message()));
    let mut causes = std::iter::successors(same.source(), |&cause| cause.source());
    let refused = causes.find_map(|cause| cause.downcast_ref::<io::Error>());
    assert_eq!(refused.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused), "{same:?}");
}

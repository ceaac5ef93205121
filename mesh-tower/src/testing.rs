//! Helpers for tests of layers: clusters of loopback endpoints, requests, responses.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use mesh_core::{
    cluster::{ClusterState, StatKind},
    model::{Cluster, Discovery},
    rng::SplitMix64,
};
use tower_service::Service;
use tower_test::mock::{Handle, Mock, Spawn};

use crate::{Body, BoxError, timer::now};

/// A service whose responses a test sends by a [`MockHandle`].
pub(crate) type MockService = Mock<Request<Body>, Response<Body>>;
/// The handle of a [`MockService`].
pub(crate) type MockHandle = Handle<Request<Body>, Response<Body>>;

/// A body that fails after its first frame, and then returns `None`, as those of hyper do.
#[derive(Default)]
pub(crate) struct HalfBody {
    polled: u32,
}

impl HttpBody for HalfBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.polled += 1;
        Poll::Ready(match self.polled {
            1 => Some(Ok(Frame::data(Bytes::from_static(b"half")))),
            2 => Some(Err("connection lost".into())),
            _ => None,
        })
    }
}

/// A cluster with endpoints on the ports 1, 2, ….
pub(crate) fn cluster(name: &str, endpoints: u16, configure: impl FnOnce(&mut Cluster)) -> Arc<ClusterState> {
    let addresses = (1..=endpoints).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut config = Cluster::new(name, Discovery::Static(addresses.collect()));
    configure(&mut config);
    Arc::new(ClusterState::new(Arc::new(config), now(), &mut SplitMix64::new(1)))
}

pub(crate) fn stat(cluster: &ClusterState, wanted: &str) -> u64 {
    let mut found = None;
    cluster.for_each_stat(&mut |name: &str, _: StatKind, value| {
        if name == wanted {
            found = Some(value);
        }
    });
    found.unwrap_or_else(|| panic!("no statistic {wanted}"))
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "shop.test").body(Body::empty()).unwrap()
}

pub(crate) fn answer(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// The status and the response flags.
pub(crate) fn status_and_flags<B>(response: &Response<B>) -> (u16, String) {
    (response.status().as_u16(), crate::call::flags_of(response).to_string())
}

/// Whether a service can take a request.
pub(crate) fn is_ready<S: Service<Request<Body>>>(service: &mut Spawn<S>) -> bool {
    service.poll_ready::<Request<Body>>().is_ready()
}

//! Behaviour that is specific to gRPC: the `user-agent`, and the status of a stream that fails.

use std::time::Duration;

use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt as _;
use mesh_core::{
    model::{Action, Cluster, Discovery, PathMatcher, Route, RouteAction, RouteMatch, VirtualHost},
    retry::ResetReason,
    rng::SplitMix64,
};
use parking_lot::Mutex;

use super::*;
use crate::{Protocol, Target, TransportError};

/// How a body ends.
type End = fn(&mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// An endpoint that sends one message and then ends the response with `end`. It records the `user-agent` of requests.
#[derive(Debug)]
struct Endpoint {
    end: End,
    user_agents: Arc<Mutex<Vec<Option<HeaderValue>>>>,
}

impl Transport for Endpoint {
    type Connection = ();

    async fn connection(&self, _: &Target<'_>, _: Protocol) -> Result<(), TransportError> {
        Ok(())
    }

    async fn send(&self, (): (), call: &mut Call) -> Result<(), TransportError> {
        self.user_agents.lock().push(call.head().headers.get(USER_AGENT).cloned());
        drop(call.take_request());
        call.respond(Response::new(Body::new(Half { message: Some(Bytes::from("message")), end: self.end })));
        Ok(())
    }
}

/// A body of one message that then ends with `end`.
struct Half {
    message: Option<Bytes>,
    end: End,
}

impl HttpBody for Half {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.message.take() {
            Some(message) => Poll::Ready(Some(Ok(Frame::data(message)))),
            None => (self.end)(cx),
        }
    }
}

const TARGET: &str = "echo.default.svc.cluster.local:80";

fn channel(endpoint: Endpoint, telemetry: &Telemetry) -> Channel<Endpoint> {
    let store = Arc::new(Store::new());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let cluster = Cluster::new("c", Discovery::Static([address].into_iter().collect()));
    store.set_cluster(Arc::new(cluster), now(), &mut SplitMix64::new(1));
    let action = RouteAction::to_cluster("c").with_timeout(Duration::from_secs(3));
    let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), Action::Route(Box::new(action)));
    store.set_routes(&Arc::new(RouteConfiguration::new("r", vec![VirtualHost::new("h", vec![route])]))).unwrap();
    let http = HttpConnectionManager::new("echo", RouteSource::Rds("r".into()));
    store.set_listener(Arc::new(Listener::api(TARGET, http)));
    Channel::new(Authority::from_static(TARGET), store, Upstream::with_transport(endpoint), telemetry.clone())
}

async fn call(channel: &Channel<Endpoint>, headers: &[(&'static str, &'static str)]) -> Response<ResponseBody> {
    let mut request = Request::post("/echo.Echo/Stream").body(Body::empty()).unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    channel.send(request).await
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn text<'a>(trailers: &'a HeaderMap, name: &str) -> &'a str {
    trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_ends_with_a_status() {
    let check = async |end, status: &str, message: &str| {
        let telemetry = Telemetry::default();
        let channel = channel(Endpoint { end, user_agents: Arc::default() }, &telemetry);
        let collected = call(&channel, &[GRPC]).await.into_body().collect().await.unwrap();
        let trailers = collected.trailers().unwrap().clone();
        assert_eq!((text(&trailers, "grpc-status"), text(&trailers, "grpc-message")), (status, message));
        assert_eq!(collected.to_bytes(), "message");
        let metrics = telemetry.istio.prometheus_text();
        assert!(metrics.contains(&format!("grpc_response_status=\"{status}\"")), "{metrics}");

        let body = call(&channel, &[]).await.into_body();
        assert!(body.collect().await.is_err(), "other than gRPC, the body ends with an error");
    };
    check(|_| Poll::Pending, "4", "upstream request timeout after the response began").await;
    let lost = |_: &mut Context<'_>| {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let error = TransportError::new(ResetReason::ConnectionTermination).with_source(broken);
        Poll::Ready(Some(Err(error.into())))
    };
    check(lost, "14", "the connection to the endpoint was lost: broken pipe").await;
}

#[tokio::test]
async fn a_grpc_call_has_a_user_agent() {
    let user_agents = Arc::default();
    let endpoint = Endpoint { end: |_| Poll::Ready(None), user_agents: Arc::clone(&user_agents) };
    let channel = channel(endpoint, &Telemetry::default());
    call(&channel, &[GRPC]).await;
    call(&channel, &[GRPC, ("user-agent", "mine/1")]).await;
    call(&channel, &[]).await;
    let ours = HeaderValue::from_static(concat!("grpc-rust-mesh/", env!("CARGO_PKG_VERSION")));
    assert_eq!(*user_agents.lock(), [Some(ours), Some(HeaderValue::from_static("mine/1")), None]);
}

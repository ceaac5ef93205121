//! The server, which does what the metadata of a call say.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use mesh::{Mesh, PeerIdentity};
use serde_json::json;
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    server::{Grpc, UnaryService},
};
use tower::service_fn;

use crate::{BoxError, codec::BytesCodec};

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address to serve on.
    address: SocketAddr,
    /// The name of this server in its answers.
    name: String,
    /// Serve under the configuration of a control plane; otherwise in plain text and without rules.
    #[arg(long)]
    xds: bool,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let builder = Mesh::builder();
        let mesh = if self.xds { builder.xds_from_env()? } else { builder }.build().await?;
        let socket = TcpListener::bind(self.address).await?;
        let port = socket.local_addr()?.port();
        let echo = Echo { name: self.name.into(), attempts: Arc::default() };
        let service = service_fn(move |request: http::Request<mesh::Body>| respond(echo.clone(), request));
        let ready = move |is_serving| {
            if is_serving {
                crate::print(&json!({ "port": port }));
            }
        };
        let end_of_input = async { drop(tokio::io::stdin().read_to_end(&mut Vec::new()).await) };
        let server = mesh.server("echo")?.on_serving(ready).with_graceful_shutdown(end_of_input);
        Ok(server.with_drain_time(Duration::from_secs(1)).serve(socket, service).await?)
    }
}

async fn respond(echo: Echo, request: http::Request<mesh::Body>) -> Result<http::Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        "/rig.Echo/Say" | "/rig.Echo/Other" => Grpc::new(BytesCodec).unary(echo, request).await,
        path => Status::unimplemented(format!("there is no method {path}")).into_http(),
    })
}

/// The methods of the service, which are all the same.
#[derive(Clone)]
struct Echo {
    name: Arc<str>,
    /// How often calls with each `x-rig-id` were to fail.
    attempts: Arc<Mutex<HashMap<String, u32>>>,
}

impl Echo {
    /// Waits and fails as the metadata of the call say.
    async fn misbehave(&self, request: &Request<Bytes>) -> Result<(), Status> {
        let metadata = |key| request.metadata().get(key).and_then(|value| value.to_str().ok());
        if let Some(milliseconds) = metadata("x-rig-sleep-ms").and_then(|text| text.parse().ok()) {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        let Some(code) = metadata("x-rig-fail") else { return Ok(()) };
        if metadata("x-rig-fail-by").is_some_and(|name| *name != *self.name) {
            return Ok(());
        }
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = attempts.entry(metadata("x-rig-id").unwrap_or_default().to_owned()).or_default();
            *count += 1;
            *count
        };
        let until = metadata("x-rig-fail-until").and_then(|text| text.parse::<u32>().ok());
        match until {
            Some(until) if attempt > until => Ok(()),
            _ => Err(Status::new(code_of(code), "asked to fail")),
        }
    }
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            echo.misbehave(&request).await?;
            let peer = request.extensions().get::<PeerIdentity>();
            let sans = peer.map(|peer| peer.certificate.uri_sans.iter().map(ToString::to_string).collect::<Vec<_>>());
            let text = String::from_utf8_lossy(request.get_ref()).into_owned();
            let answer = json!({"by": &*echo.name, "echo": text, "peer_sans": sans.unwrap_or_default()});
            Ok(Response::new(Bytes::from(answer.to_string())))
        })
    }
}

/// The code of this name; `UNKNOWN` if there is none.
fn code_of(name: &str) -> Code {
    (0..=16).map(Code::from_i32).find(|code| crate::call::name(*code) == name).unwrap_or(Code::Unknown)
}

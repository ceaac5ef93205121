//! gRPC's greeter, client and server, with a mesh that is configured from code.
//!
//! ```text
//! cargo run --example greeter -- server 50051
//! cargo run --example greeter -- server 50052
//! cargo run --example greeter -- client 50051 50052     # then stop one of the servers: no call fails
//! ```

#[path = "generated/helloworld.rs"]
mod helloworld;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ports = arguments.iter().skip(1).map(|port| port.parse()).collect::<Result<Vec<u16>, _>>()?;
    match (arguments.first().map(String::as_str), ports.as_slice()) {
        (Some("server"), &[port]) => server::run(port).await,
        (Some("client"), [_, ..]) => client::run(&ports).await,
        _ => Err("usage: greeter server PORT | greeter client PORT...".into()),
    }
}

mod server {
    use mesh::Mesh;
    use tokio::net::TcpListener;
    use tonic::{Request, Response, Status, service::Routes};

    use crate::helloworld::{
        HelloReply, HelloRequest,
        greeter_server::{Greeter, GreeterServer},
    };

    struct Polite {
        port: u16,
    }

    #[tonic::async_trait]
    impl Greeter for Polite {
        async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
            let message = format!("Hello {} from port {}", request.into_inner().name, self.port);
            Ok(Response::new(HelloReply { message }))
        }
    }

    pub(super) async fn run(port: u16) -> Result<(), crate::Error> {
        let mesh = Mesh::builder().service("greeter").build().await?;
        let socket = TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(mesh.server("greeter")?.serve(socket, Routes::new(GreeterServer::new(Polite { port }))).await?)
    }
}

mod client {
    use std::{net::SocketAddr, time::Duration};

    use mesh::{Mesh, Protocol};

    use crate::helloworld::{HelloRequest, greeter_client::GreeterClient};

    #[expect(clippy::print_stdout, reason = "the example's output")]
    pub(super) async fn run(ports: &[u16]) -> Result<(), crate::Error> {
        let servers = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port)));
        let mesh = Mesh::builder().endpoints("greeter:50051", Protocol::Grpc, servers).build().await?;
        let mut greeter = GreeterClient::new(mesh.channel("greeter")?);
        for number in 1.. {
            let reply = greeter.say_hello(HelloRequest { name: format!("caller {number}") }).await?;
            println!("{}", reply.into_inner().message);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }
}

//! Follows directories and registries as one mesh, and prints what becomes of each change, with the endpoints of all services.
//!
//! ```text
//! cargo run -p mesh-control --features consul,kubernetes --example follow -- [--kubeconfig FILE] [--consul HOST:PORT] [DIRECTORY...]
//! ```

#![expect(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};

use mesh_control::config::Options;
use mesh_control::diagnostic::Style;
use mesh_control::mesh::Mesh;
use mesh_control::source::consul::{Consul, ConsulOptions};
use mesh_control::source::kubernetes::{Kubernetes, KubernetesOptions};
use mesh_control::source::{ConfigSource, Directory, Follower, Reload};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let mut sources: Vec<Box<dyn ConfigSource>> = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        sources.push(match argument.as_str() {
            "--kubeconfig" => {
                let mut options = KubernetesOptions::default();
                options.kubeconfig = arguments.next().map(PathBuf::from);
                Box::new(Kubernetes::connect(options).await?)
            }
            "--consul" => {
                let mut options = ConsulOptions::default();
                options.address = arguments.next().unwrap_or(options.address);
                Box::new(Consul::new(options))
            }
            directory => Box::new(Directory::watch(Path::new(directory))?),
        });
    }
    let (follower, meshes) = Follower::open(sources, Options::default().with_certificates(true)).await?;
    print(&meshes.borrow());
    follower
        .run(|reload| match reload {
            Reload::Applied { mesh, .. } => print(mesh),
            refused => println!("{}", refused.report(Style::Plain).unwrap_or_default()),
        })
        .await;
    Ok(())
}

fn print(mesh: &Mesh) {
    println!("version {}: {} resources", mesh.version, mesh.config.len());
    for service in mesh.registry.services() {
        let endpoints: Vec<_> = service.endpoints.iter().map(|it| format!("{} {}", it.address, it.locality)).collect();
        println!("  {} {endpoints:?}", service.host);
    }
    for rules in mesh.virtual_services() {
        let hosts: Vec<_> = rules.hosts.iter().map(|host| host.as_str()).collect();
        println!("  {} for {hosts:?}", rules.metadata.resource());
    }
}

//! Istio's Bookinfo on one machine: four services, three of them with the mesh as a library, one behind `mesh-proxy`.
//!
//! ```text
//! cargo run --example bookinfo              # then open the page and edit examples/bookinfo/mesh/reviews.yaml
//! cargo run --example bookinfo -- --check   # runs on free ports without a user, exits 0 if all checks pass
//! ```

mod bookinfo;
mod certificates;
mod check;
mod configuration;
mod details;
mod fetch;
mod ports;
mod productpage;
#[path = "../generated/bookinfo.rs"]
mod proto;
mod proxy;
mod ratings;
mod reviews;
mod visitor;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    bookinfo::{Bookinfo, Site},
    certificates::Certificates,
    ports::{Listener, Ports},
};

/// Errors are only printed.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Istio's Bookinfo on one machine, all services in one mesh.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run without a user, on free ports and with a copy of the configuration, and check that everything works.
    #[arg(long)]
    check: bool,
    /// Directory of Istio resources.
    #[arg(long, value_name = "DIR", default_value_os_t = default_config())]
    config: PathBuf,
}

fn default_config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bookinfo/mesh")
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == proxy::ARGUMENT) {
        return mesh_proxy::run(std::iter::once(proxy::ARGUMENT.into()).chain(arguments));
    }
    run(&Arguments::parse())
}

#[tokio::main]
async fn run(arguments: &Arguments) -> ExitCode {
    let outcome = if arguments.check { check::run(&arguments.config).await } else { show(&arguments.config).await };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            print_error(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// The admin endpoints of the members, with Envoy's paths such as `/stats/prometheus` and `/clusters`.
const ADMINS: [(Listener, &str); 7] = [
    (Listener::ProductpageAdmin, "productpage, by the library like the next four"),
    (Listener::DetailsAdmin, "details"),
    (Listener::ReviewsV1Admin, "reviews v1"),
    (Listener::ReviewsV2Admin, "reviews v2"),
    (Listener::ReviewsV3Admin, "reviews v3"),
    (Listener::RatingsSidecarAdmin, "ratings' sidecar"),
    (Listener::GatewayAdmin, "gateway"),
];

/// Runs until Ctrl-C or SIGTERM and prints the effects of changes to the configuration.
#[expect(clippy::print_stdout, reason = "the example's output")]
async fn show(config: &Path) -> Result<ExitCode, Error> {
    let ports = Ports::usual();
    ports.require_unused()?;
    let certificates = Certificates::new()?;
    let mut bookinfo = Bookinfo::start(Site { config, certificates: &certificates }, ports).await?;
    println!("page          http://{}/productpage", ports.address(Listener::Productpage));
    println!("by a gateway  http://{}/productpage", ports.address(Listener::Gateway));
    println!(
        "with a token  curl -H \"authorization: Bearer $(cat examples/bookinfo/reader.jwt)\" http://{}/api/v1/products/0/reviews",
        ports.address(Listener::Gateway)
    );
    for (i, (listener, user)) in ADMINS.into_iter().enumerate() {
        let heading = if i == 0 { "admin" } else { "" };
        println!("{heading:<13} http://{}  {user}", ports.address(listener));
    }
    println!("configuration {}: edit it and watch; Ctrl-C ends", config.display());

    let mut events = bookinfo.mesh.events();
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            Some(event) = events.next() => println!("{event}"),
            error = bookinfo.failed() => return Err(error),
            signal = &mut stop => break signal?,
        }
    }
    bookinfo.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Waits for Ctrl-C or SIGTERM.
async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "the example's output")]
fn print_error(error: &(dyn std::error::Error + 'static)) {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because {cause}");
        source = cause.source();
    }
}

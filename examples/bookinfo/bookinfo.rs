//! All services of Bookinfo, each a member of the mesh as if it were a separate program.
//!
//! ```text
//!  browser ─► gateway (mesh-proxy) ─► productpage ─┬─► details   (gRPC, library on both sides)
//!                                     (library)    └─► reviews v1, v2, v3   (HTTP, library on both sides)
//!                                                          └─► ratings' sidecar (mesh-proxy) ─► ratings (plain)
//! ```
//!
//! Calls between members are encrypted, and each side knows the other's service account (`mesh/security.yaml`).

use std::{io, net::SocketAddr, path::Path, time::Duration};

use axum::Router;
use mesh::Mesh;
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    certificates::Certificates,
    details,
    ports::{Listener, Ports},
    productpage,
    proxy::Proxy,
    ratings, reviews, visitor,
};

/// Time that active requests have to finish during shutdown.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Time that a proxy has to become ready.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// What all services have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    /// The directory of Istio resources.
    pub(crate) config: &'a Path,
    pub(crate) certificates: &'a Certificates,
}

/// The running services.
#[derive(Debug)]
pub(crate) struct Bookinfo {
    /// The mesh of productpage.
    pub(crate) mesh: Mesh,
    sidecar: Option<Proxy>,
    gateway: Option<Proxy>,
    /// Services grouped by their depth in the call graph: callers first.
    tiers: [Tier; 3],
}

/// Services that are shut down together.
#[derive(Debug, Default)]
struct Tier {
    services: JoinSet<Result<(), Error>>,
    stop: CancellationToken,
}

const PRODUCTPAGE: usize = 0;
const REVIEWS_AND_DETAILS: usize = 1;
const RATINGS: usize = 2;

impl Tier {
    /// Shuts down, and waits for active requests to finish.
    async fn stop(mut self) {
        self.stop.cancel();
        let ended = async { while self.services.join_next().await.is_some() {} };
        drop(tokio::time::timeout(DRAIN_TIME, ended).await);
    }
}

impl Bookinfo {
    /// Starts all services with the configuration and certificates of `site`. Returns when all are ready.
    pub(crate) async fn start(site: Site<'_>, ports: Ports) -> Result<Self, Error> {
        let mesh = join_mesh(site, "productpage", "v1").await?;
        let mut bookinfo = Self {
            mesh,
            sidecar: Some(start_proxy("ratings", "sidecar", "app=ratings", site, ports.address(RATINGS_ADMIN))?),
            gateway: Some(start_proxy("gateway", "gateway", GATEWAY_LABEL, site, ports.address(GATEWAY_ADMIN))?),
            tiers: Default::default(),
        };
        bookinfo.serve_ratings(ports).await?;
        bookinfo.serve_reviews(site, ports).await?;
        bookinfo.serve_details(site, ports).await?;
        bookinfo.serve_productpage(ports).await?;
        await_ready(bookinfo.sidecar.as_mut(), ports.address(RATINGS_ADMIN)).await?;
        await_ready(bookinfo.gateway.as_mut(), ports.address(GATEWAY_ADMIN)).await?;
        Ok(bookinfo)
    }

    /// Starts ratings, the only service without the library.
    async fn serve_ratings(&mut self, ports: Ports) -> Result<(), Error> {
        let socket = listen(ports.address(Listener::Ratings)).await?;
        let tier = &mut self.tiers[RATINGS];
        let stopped = tier.stop.clone().cancelled_owned();
        let serving = axum::serve(socket, ratings::router()).with_graceful_shutdown(stopped);
        tier.services.spawn(async { Ok(serving.await?) });
        Ok(())
    }

    async fn serve_reviews(&mut self, site: Site<'_>, ports: Ports) -> Result<(), Error> {
        let listeners = [
            (Listener::ReviewsV1, Listener::ReviewsV1Admin),
            (Listener::ReviewsV2, Listener::ReviewsV2Admin),
            (Listener::ReviewsV3, Listener::ReviewsV3Admin),
        ];
        for (version, (listener, admin)) in reviews::VERSIONS.into_iter().zip(listeners) {
            let mesh = join_mesh(site, "reviews", version.name).await?;
            let service = reviews::router(version, mesh.channel("ratings:9080")?);
            let server = mesh.server("reviews")?.with_drain_time(DRAIN_TIME);
            let socket = listen(ports.address(listener)).await?;
            let tier = &mut self.tiers[REVIEWS_AND_DETAILS];
            let server = server.with_graceful_shutdown(tier.stop.clone().cancelled_owned());
            tier.services.spawn(async { Ok(server.serve(socket, service).await?) });
            self.serve_admin(&mesh, ports.address(admin)).await?;
        }
        Ok(())
    }

    async fn serve_details(&mut self, site: Site<'_>, ports: Ports) -> Result<(), Error> {
        let mesh = join_mesh(site, "details", "v1").await?;
        let socket = listen(ports.address(Listener::Details)).await?;
        let tier = &mut self.tiers[REVIEWS_AND_DETAILS];
        let server = mesh.server("details")?.with_drain_time(DRAIN_TIME);
        let server = server.with_graceful_shutdown(tier.stop.clone().cancelled_owned());
        tier.services.spawn(async { Ok(server.serve(socket, details::service()).await?) });
        self.serve_admin(&mesh, ports.address(Listener::DetailsAdmin)).await
    }

    async fn serve_productpage(&mut self, ports: Ports) -> Result<(), Error> {
        let details = self.mesh.channel("details.default:9080")?;
        let reviews = self.mesh.channel("reviews.default.svc.cluster.local:9080")?;
        let socket = listen(ports.address(Listener::Productpage)).await?;
        let tier = &mut self.tiers[PRODUCTPAGE];
        let server = self.mesh.server("productpage")?.with_drain_time(DRAIN_TIME);
        let server = server.with_graceful_shutdown(tier.stop.clone().cancelled_owned());
        tier.services.spawn(async { Ok(server.serve(socket, productpage::router(details, reviews)).await?) });
        let mesh = self.mesh.clone();
        self.serve_admin(&mesh, ports.address(Listener::ProductpageAdmin)).await
    }

    /// Serves the admin endpoint of a member, for operators and Prometheus.
    async fn serve_admin(&mut self, mesh: &Mesh, address: SocketAddr) -> Result<(), Error> {
        let router = Router::new().fallback_service(mesh.admin());
        let socket = listen(address).await?;
        // The admin endpoint stays available during shutdown.
        let tier = &mut self.tiers[RATINGS];
        let serving = axum::serve(socket, router).with_graceful_shutdown(tier.stop.clone().cancelled_owned());
        tier.services.spawn(async { Ok(serving.await?) });
        Ok(())
    }

    /// Waits until a service or a proxy stops unexpectedly, and returns the reason.
    pub(crate) async fn failed(&mut self) -> Error {
        let [first, second, third] = &mut self.tiers;
        tokio::select! {
            Some(stopped) = first.services.join_next() => reason(stopped),
            Some(stopped) = second.services.join_next() => reason(stopped),
            Some(stopped) = third.services.join_next() => reason(stopped),
            status = ended(self.sidecar.as_mut()) => format!("ratings' sidecar has stopped: {status}").into(),
            status = ended(self.gateway.as_mut()) => format!("the gateway has stopped: {status}").into(),
        }
    }

    /// Shuts down the sidecar of ratings only, as a rollout would.
    pub(crate) async fn stop_sidecar(&mut self, limit: Duration) -> io::Result<std::process::ExitStatus> {
        match self.sidecar.take() {
            Some(sidecar) => sidecar.terminate(limit).await,
            None => Err(io::Error::other("the sidecar has been stopped before")),
        }
    }

    /// Shuts down all services, callers before the services that they call, so that active requests are answered.
    pub(crate) async fn stop(self) {
        let [productpage, reviews_and_details, ratings] = self.tiers;
        stop_proxy(self.gateway).await;
        productpage.stop().await;
        reviews_and_details.stop().await;
        stop_proxy(self.sidecar).await;
        ratings.stop().await;
    }
}

async fn stop_proxy(proxy: Option<Proxy>) {
    if let Some(proxy) = proxy {
        // The result does not matter: a proxy that does not stop in time is killed.
        drop(proxy.terminate(DRAIN_TIME).await);
    }
}

/// Why a service has stopped unexpectedly.
fn reason(stopped: Result<Result<(), Error>, tokio::task::JoinError>) -> Error {
    match stopped {
        Ok(Ok(())) => "a service has stopped".into(),
        Ok(Err(error)) => error,
        Err(panic) => panic.into(),
    }
}

const RATINGS_ADMIN: Listener = Listener::RatingsSidecarAdmin;
const GATEWAY_ADMIN: Listener = Listener::GatewayAdmin;
const GATEWAY_LABEL: &str = "istio=ingressgateway";

async fn join_mesh(site: Site<'_>, service: &str, version: &str) -> Result<Mesh, Error> {
    let mesh = Mesh::builder().config_dir(site.config).service(service).label("app", service).label("version", version);
    let mesh = mesh.certificate_authority(site.certificates.dir()).certificate_lifetime(site.certificates.lifetime);
    Ok(mesh.build().await?)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}").into())
}

fn start_proxy(
    service: &'static str,
    role: &str,
    label: &str,
    site: Site<'_>,
    admin: SocketAddr,
) -> Result<Proxy, Error> {
    let config = site.config.to_str().ok_or("the path of the configuration is not UTF-8")?;
    let ca = site.certificates.dir().to_str().ok_or("the path of the certificate authority is not UTF-8")?;
    let ttl_s = site.certificates.lifetime.as_secs().to_string();
    let admin = admin.to_string();
    let drain_time_s = DRAIN_TIME.as_secs().to_string();
    let who = ["--istio", config, "--service", service, "--role", role, "--label", label];
    let how = ["--admin", &admin, "--drain-time-s", &drain_time_s, "--log-level", "off"];
    let certificate = ["--ca", ca, "--certificate-ttl-s", &ttl_s];
    Ok(Proxy::start(service, &[who.as_slice(), how.as_slice(), certificate.as_slice()].concat())?)
}

async fn ended(proxy: Option<&mut Proxy>) -> String {
    match proxy {
        Some(proxy) => proxy.ended().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
        None => std::future::pending().await,
    }
}

async fn await_ready(proxy: Option<&mut Proxy>, admin: SocketAddr) -> Result<(), Error> {
    let proxy = proxy.ok_or("the proxy has been stopped")?;
    let ready = async {
        while proxy.is_running() {
            if let Ok((status, _)) = visitor::get(admin, "/ready", None).await
                && status.is_success()
            {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(format!("the proxy with the admin address {admin} has stopped; its output says why").into())
    };
    match tokio::time::timeout(READY_LIMIT, ready).await {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(format!("the proxy with the admin address {admin} did not become ready in {READY_LIMIT:?}").into())
        }
    }
}

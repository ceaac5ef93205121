//! `--check`: an end-to-end test of Bookinfo.
//!
//! All services run on free ports with a copy of the configuration. Valid and invalid edits are made to the copy while
//! visitors request the page.

mod edits;
mod requests;
mod security;

use std::{fmt::Display, net::SocketAddr, path::Path, process::ExitCode, time::Duration};

use mesh::ConfigEvents;

use crate::{
    Error,
    bookinfo::{Bookinfo, Site},
    certificates::Certificates,
    configuration::Configuration,
    ports::{Listener, Ports},
};

/// Lifetime of all certificates, so that they are renewed several times meanwhile.
const LIFETIME: Duration = Duration::from_secs(10);

/// Runs all checks; those of security if the configuration has a `security.yaml`. The exit code is 0 if all pass.
#[expect(clippy::print_stdout, reason = "the example's output")]
pub(crate) async fn run(original: &Path) -> Result<ExitCode, Error> {
    let ports = Ports::free()?;
    let configuration = Configuration::copy(original, &ports)?;
    let certificates = Certificates::new()?.with_lifetime(LIFETIME);
    let site = Site { config: configuration.dir(), certificates: &certificates };
    let bookinfo = Bookinfo::start(site, ports).await?;
    let events = bookinfo.mesh.events();
    let mut scene = Scene { ports, configuration, bookinfo, events };

    let mut report = Report::default();
    report.add("the page shows details and reviews", requests::page_is_shown(&scene, Listener::Productpage).await);
    report.add("the gateway shows the page", requests::page_is_shown(&scene, Listener::Gateway).await);
    report.add("reviews are split as weighted", requests::split_is_as_weighted(&scene).await);
    report.add("a header chooses the version", requests::header_chooses_version(&scene).await);
    report.add("an edited weight shifts traffic", edits::weight_shifts_traffic(&mut scene).await);
    report.add("a broken edit changes nothing", edits::broken_edit_changes_nothing(&mut scene).await);
    report.add("its repair applies", edits::repair_applies(&mut scene).await);
    report.add("the library reports Istio's metrics", requests::library_reports_metrics(&scene).await);
    report.add("the sidecar reports Istio's metrics", requests::sidecar_reports_metrics(&scene).await);
    if original.join("security.yaml").exists() {
        report.add("reviews knows who calls over mutual TLS", security::caller_is_known(&scene).await);
        report.add("productpage may not call ratings", security::other_caller_is_denied(&scene).await);
        report.add("plain text is refused", security::plain_text_is_refused(&scene).await);
        report.add("the gateway's API needs a token", security::gateway_needs_token(&scene).await);
        report.add("certificates are renewed under load", security::certificates_are_renewed(&scene).await);
    } else {
        println!("      the configuration has no security.yaml: no checks of security");
    }
    report.add("the sidecar drains on SIGTERM", requests::sidecar_drains(&mut scene).await);

    scene.bookinfo.stop().await;
    println!("{} of {} checks passed", report.passed, report.passed + report.failed);
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The subject of the checks.
#[derive(Debug)]
struct Scene {
    ports: Ports,
    configuration: Configuration,
    bookinfo: Bookinfo,
    events: ConfigEvents,
}

impl Scene {
    fn page(&self) -> SocketAddr {
        self.ports.address(Listener::Productpage)
    }
}

/// The result of a check, or the reason for its failure.
type Outcome = Result<String, String>;

#[derive(Debug, Default)]
struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    #[expect(clippy::print_stdout, reason = "the example's output")]
    fn add(&mut self, what: impl Display, outcome: Outcome) {
        match outcome {
            Ok(seen) => {
                self.passed += 1;
                println!("ok    {what}: {seen}");
            }
            Err(wrong) => {
                self.failed += 1;
                println!("FAIL  {what}: {wrong}");
            }
        }
    }
}

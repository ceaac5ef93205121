//! The certificates of the clients, as secrets.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::causes::with_causes;
use mesh_core::rng::SplitMix64;

use super::StreamState;
use crate::identities::{Identities, Renewal};

/// Ends when a certificate is due; never, if none will be.
pub(super) async fn due(certificate: Option<&Certificate>) {
    match certificate.and_then(|certificate| certificate.renewal.poll_timeout()) {
        Some(due) => tokio::time::sleep(due.duration_since(SystemTime::now()).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

/// The certificate of a client.
#[derive(Debug)]
pub(super) struct Certificate {
    identities: Arc<dyn Identities>,
    renewal: Renewal,
    rng: SplitMix64,
}

impl Certificate {
    pub(super) fn new(identities: Arc<dyn Identities>) -> Self {
        // The standard library's hasher has a random key.
        let seed = std::hash::RandomState::new().hash_one(0);
        Self { identities, renewal: Renewal::default(), rng: SplitMix64::new(seed) }
    }

    /// Gives the client a certificate if one is due.
    pub(super) fn renew(&mut self, state: &mut StreamState, now: SystemTime) {
        self.renewal.handle_identity(state.identity(), now);
        let Some(identity) = self.renewal.poll_issue(now).map(str::to_owned) else { return };
        match self.identities.issue(&identity, now) {
            Ok(certificate) => {
                self.renewal.handle_issued(certificate.not_after, now, &mut self.rng);
                state.handle_certificate(&certificate);
            }
            Err(error) => {
                let wait = self.renewal.handle_failure(now, &mut self.rng);
                tracing::warn!("no certificate for {identity}, the next try is in {wait:?}: {}", with_causes(&error));
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "ca")]
mod tests {
    use std::time::Duration;

    use mesh_core::node::{Labels, Node, Role};
    use mesh_xds::client::Request;
    use mesh_xds::node;
    use mesh_xds::resource::ResourceType;

    use super::super::snapshot::Worlds;
    use super::super::{Caller, Form};
    use super::*;
    use crate::ca::Authority;
    use crate::config;
    use crate::diagnostic::Source;
    use crate::identities::{Unavailable, WorkloadCertificate};
    use crate::load::Loaded;

    const SERVICE: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: \
         [a.default.svc.cluster.local], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: \
         HTTP}], endpoints: [{address: 127.0.0.1, serviceAccount: one}]}\n";

    fn state(text: &str, certificates: bool) -> StreamState {
        let source = Arc::new(Source::new("a.yaml", text));
        let loaded = Loaded::from_sources(vec![source], config::Options::default().with_certificates(certificates));
        assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
        let mesh = Arc::new(loaded.mesh);
        let worlds = Arc::new(Worlds::new(Arc::clone(&mesh)));
        let mut state = StreamState::new(worlds, &mesh, Arc::default(), Form::StateOfTheWorld, Caller::Local);
        let node = Node::new(Role::Library, Some("a"), None, Labels::new()).unwrap();
        let first = Request {
            resource_type: ResourceType::Listener,
            resource_names: Arc::default(),
            version_info: Arc::default(),
            response_nonce: Arc::default(),
            node: Some(Arc::new(node::to_xds(&node))),
            error: None,
            changes: None,
        };
        state.handle_request(first).unwrap();
        state
    }

    #[test]
    fn a_client_has_the_identity_of_its_service_account() {
        assert_eq!(state(SERVICE, true).identity().unwrap(), "spiffe://cluster.local/ns/default/sa/one");
        let without = SERVICE.replace(", serviceAccount: one", "");
        assert_eq!(state(&without, true).identity().unwrap(), "spiffe://cluster.local/ns/default/sa/default");
        let several = SERVICE.replace("[{address", "[{address: 127.0.0.2, serviceAccount: two}, {address");
        assert_eq!(state(&several, true).identity().unwrap(), "spiffe://cluster.local/ns/default/sa/default");
        assert_eq!(state(SERVICE, false).identity(), None, "the mesh has no certificates");
    }

    /// Fails as often as it says, then issues.
    #[derive(Debug)]
    struct Flaky(Authority, std::sync::Mutex<u32>);

    impl Identities for Flaky {
        fn issue(&self, identity: &str, now: SystemTime) -> Result<WorkloadCertificate, Unavailable> {
            let mut left = self.1.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return Err(Unavailable("not now".into()));
            }
            Identities::issue(&self.0, identity, now)
        }
    }

    #[test]
    fn a_client_gets_its_certificate_and_the_next_one_in_time() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let authority = Authority::generate("cluster.local", start).unwrap().0;
        let roots = authority.roots().to_owned();
        let mut certificate = Certificate::new(Arc::new(Flaky(authority, 1.into())));
        let mut state = state(SERVICE, true);
        certificate.renew(&mut state, start);
        assert!(state.secrets().is_empty(), "the first try fails");
        let retry = certificate.renewal.poll_timeout().unwrap();
        certificate.renew(&mut state, retry);
        let first = state.secrets();
        let names: Vec<_> = first.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(names, ["default", "ROOTCA"]);
        assert!(format!("{:?}", first[1]).contains(roots.lines().nth(1).unwrap()));
        certificate.renew(&mut state, start + Duration::from_secs(3600));
        assert_eq!(state.secrets(), first, "it is not due");
        let due = certificate.renewal.poll_timeout().unwrap();
        assert!(due <= start + Duration::from_secs(12 * 3600 + 1) && due >= start + Duration::from_secs(9 * 3600));
        certificate.renew(&mut state, due);
        assert_ne!(state.secrets()[0], first[0]);
        assert_eq!(state.secrets()[1], first[1]);
        assert!(!format!("{state:?} {certificate:?}").contains("PRIVATE KEY"));
    }
}

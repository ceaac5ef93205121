//! Secrets in files: SDS with a `path_config_source`, as in the bootstrap of a proxy.
//!
//! The file has a discovery response whose resources are secrets. Their certificates and keys may be in further files. All of them are read
//! every second; a secret that has changed replaces its predecessor in the store, and the next handshake uses it. If a
//! file cannot be read or is invalid, the last good secret stays in use.
//!
//! So are the trust bundles of `SPIFFECertValidatorConfig`, whose file has a map of SPIFFE's bundles.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::model::{Secret, SecretValue, TrustBundle};
use mesh_core::store::Store;

use crate::json;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use crate::resource::{self, Resource, in_file};

/// How often the files are read.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads the secrets in files that the listeners and clusters of a store name, and reads them again when they change.
#[derive(Debug)]
pub struct FileSecrets {
    store: Arc<Store>,
    /// The errors that were reported last.
    reported: HashMap<Arc<str>, String>,
}

impl FileSecrets {
    /// The secrets that `store` names.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, reported: HashMap::new() }
    }

    /// Keeps the secrets up to date, for as long as the future is polled.
    pub async fn follow(mut self) {
        loop {
            self.refresh();
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Reads all files, and replaces the secrets that have changed.
    pub fn refresh(&mut self) {
        for name in names(&self.store) {
            match read(&name) {
                Ok(secret) => {
                    self.reported.remove(&name);
                    let slot = self.store.secret_slot(&name);
                    if slot.read(|current| current != Some(&secret)) {
                        tracing::info!("{name}: the secret was read");
                        self.store.set_secret(secret);
                    }
                }
                Err(error) if self.reported.get(&name) == Some(&error) => {}
                Err(error) => {
                    tracing::error!("{name}: {error}; the last good secret stays in use");
                    self.reported.insert(name, error);
                }
            }
        }
    }
}

/// Checks that all secrets in files that are named can be read.
///
/// # Errors
/// The first that cannot, with its file.
pub fn check<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> Result<(), String> {
    let mut files = names.into_iter().filter(|name| in_file(name).is_some());
    files.try_for_each(|name| read(name).map(drop).map_err(|error| format!("{name}: {error}")))
}

/// The names of all secrets in files.
fn names(store: &Store) -> Vec<Arc<str>> {
    let (listeners, clusters) = (store.listeners(), store.clusters());
    let of_listeners = listeners.values().flat_map(|listener| listener.secret_names());
    let all = of_listeners.chain(clusters.iter().flat_map(|cluster| cluster.config().secret_names()));
    let mut names: Vec<_> = all.filter(|name| in_file(name).is_some()).cloned().collect();
    names.sort();
    names.dedup();
    names
}

fn read(name_in_store: &Arc<str>) -> Result<Secret, String> {
    let (name, path) = in_file(name_in_store).ok_or("not a secret in a file")?;
    if name.is_empty() {
        let text = std::fs::read(path).map_err(|error| error.to_string())?;
        let bundles = TrustBundle::map_from_json(&text).map_err(|error| error.to_string())?;
        return Ok(Secret { name: Arc::clone(name_in_store), value: SecretValue::TrustBundles(bundles) });
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let response: DiscoveryResponse = json::from_text(&text, path).map_err(|error| error.to_string())?;
    for any in &response.resources {
        if resource::name(any) == name
            && let Resource::Secret(secret) = resource::decode(any).map_err(|error| error.to_string())?.resource
        {
            return Ok(Secret { name: Arc::clone(name_in_store), value: secret.value.clone() });
        }
    }
    Err(format!("there is no secret {name}"))
}

#[cfg(test)]
mod tests {
    use mesh_core::model::Listener;

    use super::*;
    use crate::bootstrap;

    const BOOTSTRAP: &str = "
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 1}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificate_sds_secret_configs: [{name: own, sds_config: {path_config_source: {path: PATH}}}]
      filters:
      - name: echo
        typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}
";

    fn secrets(chain: &str) -> String {
        format!(
            "resources: [{{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: own, \
             tls_certificate: {{certificate_chain: {{inline_string: {chain}}}, private_key: {{inline_string: key}}}}}}]"
        )
    }

    #[test]
    fn secrets_are_read_again_when_their_file_changes() {
        let directory = std::env::temp_dir().join(format!("mesh-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("sds.yaml");
        let text = BOOTSTRAP.replace("PATH", path.to_str().unwrap());
        let bootstrap = bootstrap::from_proto(&json::from_text(&text, "test").unwrap()).unwrap();
        let Resource::Listener(listener) = &bootstrap.resources[0] else { panic!("{:?}", bootstrap.resources) };
        let names: Vec<_> = listener.secret_names().collect();
        assert!(check(names.iter().copied()).unwrap_err().contains("sds.yaml: "), "the file does not exist");

        let store = Arc::new(Store::new());
        store.set_listener(Arc::<Listener>::clone(listener));
        let mut files = FileSecrets::new(Arc::clone(&store));
        let chain = || match &store.secret_slot(names[0]).load()?.value {
            SecretValue::TlsCertificate(certificate) => Some(certificate.certificate_chain.clone()),
            other => panic!("{other:?}"),
        };
        files.refresh();
        assert_eq!(chain(), None);
        for (content, expected) in [
            (secrets("one"), "one"),
            (secrets("two"), "two"),
            ("resources: [".to_owned(), "two"),
            ("resources: []".to_owned(), "two"),
            (secrets("three"), "three"),
        ] {
            std::fs::write(&path, content).unwrap();
            files.refresh();
            assert_eq!(chain().as_deref(), Some(expected.as_bytes()));
        }
        assert_eq!(check(names), Ok(()));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn trust_bundles_are_read_again_when_their_file_changes() {
        let path = std::env::temp_dir().join(format!("mesh-followed-bundles-{}.json", std::process::id()));
        let map = |domain: &str| {
            format!(
                "{{\"trust_domains\": {{\"{domain}\": {{\"keys\": [{{\"use\": \"x509-svid\", \"x5c\": [\"MQ==\"]}}]}}}}}}"
            )
        };
        std::fs::write(&path, map("one")).unwrap();
        let context = format!(
            "custom_validator_config: {{name: spiffe, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig, \
             trust_bundles: {{filename: {}}}}}}}",
            path.display()
        );
        let own = "tls_certificates: [{certificate_chain: {inline_string: c}, private_key: {inline_string: k}}]";
        let secrets =
            "tls_certificate_sds_secret_configs: [{name: own, sds_config: {path_config_source: {path: PATH}}}]";
        let text = BOOTSTRAP.replace(secrets, &format!("{own}\n            validation_context: {{{context}}}"));
        let bootstrap = bootstrap::from_proto(&json::from_text(&text, "test").unwrap()).unwrap();
        let Resource::Listener(listener) = &bootstrap.resources[0] else { panic!("{:?}", bootstrap.resources) };
        let names: Vec<_> = listener.secret_names().collect();
        assert_eq!(check(names.iter().copied()), Ok(()));
        let store = Arc::new(Store::new());
        store.set_listener(Arc::<Listener>::clone(listener));
        let mut files = FileSecrets::new(Arc::clone(&store));
        let mut domain = |content: &str| {
            std::fs::write(&path, content).unwrap();
            files.refresh();
            match &store.secret_slot(names[0]).load().unwrap().value {
                SecretValue::TrustBundles(bundles) => bundles[0].trust_domain.to_string(),
                other => panic!("{other:?}"),
            }
        };
        let found = [map("one"), map("two"), "{".to_owned(), map("three")].map(|content| domain(&content));
        assert_eq!(found, ["one", "two", "two", "three"]);
        std::fs::remove_file(&path).unwrap();
    }
}

//! The certificates of providers: files that are read into the secrets of a store.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mesh_core::model::{CertificateValidationContext, Secret, SecretValue, TlsCertificate};
use mesh_core::store::Store;

use super::FileWatcher;

/// The beginning of the names in the store of secrets that are of a provider. A control plane is not asked for them.
pub(crate) const OF_PROVIDER: &str = "certificate_provider:";

/// The name in the store of the certificate of the provider `instance`.
#[must_use]
pub fn identity_secret(instance: &str) -> Arc<str> {
    format!("{OF_PROVIDER}{instance}:identity").into()
}

/// The name in the store of the authorities that the provider `instance` trusts.
#[must_use]
pub fn roots_secret(instance: &str) -> Arc<str> {
    format!("{OF_PROVIDER}{instance}:roots").into()
}

/// Keeps the secrets of the provider `instance` in `store` equal to the files of `watcher`, for as long as the future is polled. If
/// files cannot be read, what was read last stays in use.
pub async fn keep(store: Arc<Store>, instance: Arc<str>, watcher: FileWatcher) {
    let mut reported = String::new();
    loop {
        let errors = refresh(&store, &instance, &watcher);
        if errors != reported {
            if !errors.is_empty() {
                tracing::error!("certificate provider {instance}: {errors}; the last good files stay in use");
            }
            reported = errors;
        }
        tokio::time::sleep(watcher.refresh_interval).await;
    }
}

/// Reads the files once; returns what could not be read.
pub(crate) fn refresh(store: &Store, instance: &str, watcher: &FileWatcher) -> String {
    let mut errors = Vec::new();
    let mut read = |path: &Path| match std::fs::read(path) {
        Ok(content) => Some(Bytes::from(content)),
        Err(error) => {
            errors.push(format!("{}: {error}", path.display()));
            None
        }
    };
    if let Some(files) = &watcher.certificate
        && let (Some(chain), Some(key)) = (read(&files.certificate_file), read(&files.private_key_file))
    {
        let value = SecretValue::TlsCertificate(TlsCertificate::new(chain, key));
        set(store, Secret { name: identity_secret(instance), value });
    }
    if let Some(path) = &watcher.ca_certificate_file
        && let Some(roots) = read(path)
    {
        let mut context = CertificateValidationContext::default();
        context.trusted_ca = Some(roots);
        set(store, Secret { name: roots_secret(instance), value: SecretValue::ValidationContext(context) });
    }
    errors.join("; ")
}

/// Sets a secret, unless it is in the store.
fn set(store: &Store, secret: Secret) {
    if store.secret_slot(&secret.name).read(|current| current != Some(&secret)) {
        tracing::info!("{}: the files were read", secret.name);
        store.set_secret(secret);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CertificateFiles;
    use super::*;

    #[test]
    fn secrets_follow_their_files() {
        let directory = std::env::temp_dir().join(format!("mesh-providers-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = |name| directory.join(name);
        let watcher = FileWatcher {
            certificate: Some(CertificateFiles { certificate_file: path("cert"), private_key_file: path("key") }),
            ca_certificate_file: Some(path("roots")),
            refresh_interval: FileWatcher::DEFAULT_REFRESH_INTERVAL,
        };
        let store = Store::new();
        let chain = || match &store.secret_slot(&identity_secret("default")).load()?.value {
            SecretValue::TlsCertificate(certificate) => Some(certificate.certificate_chain.clone()),
            other => panic!("{other:?}"),
        };
        assert!(refresh(&store, "default", &watcher).contains("cert: "));
        for (name, content) in [("cert", "one"), ("key", "key"), ("roots", "roots")] {
            std::fs::write(path(name), content).unwrap();
        }
        assert_eq!((refresh(&store, "default", &watcher), chain().as_deref()), (String::new(), Some(&b"one"[..])));
        std::fs::write(path("cert"), "two").unwrap();
        refresh(&store, "default", &watcher);
        assert_eq!(chain().as_deref(), Some(&b"two"[..]));
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(!refresh(&store, "default", &watcher).is_empty());
        assert_eq!(chain().as_deref(), Some(&b"two"[..]), "the last good files stay in use");
        assert!(store.secret_slot(&roots_secret("default")).load().is_some());
    }
}

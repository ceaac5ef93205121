//! The secrets of a context, and what is made of them.

use std::{error::Error, ptr, sync::Arc};

use arc_swap::ArcSwapOption;
use mesh_core::{
    model::{CertificateSource, CertificateValidationContext, CommonTlsContext, Secret, SecretValue, TlsCertificate},
    slot::SecretSlot,
};
use parking_lot::Mutex;

use super::TlsError;

/// The slots of a context's secrets.
#[derive(Debug)]
pub(super) struct Secrets {
    slots: Vec<Arc<SecretSlot>>,
    /// How many of them, from the first, must exist.
    required: usize,
}

/// Secrets at one time.
#[derive(Clone, Debug)]
pub(super) struct SecretValues(Vec<NamedSecret>);

type NamedSecret = (Arc<str>, Option<Arc<Secret>>);

/// Something that is made of secrets, and made again when one of them has changed.
#[derive(Debug)]
pub(super) struct MadeOfSecrets<T> {
    current: ArcSwapOption<Made<T>>,
    /// Held while it is made, so that a change makes it once.
    making: Mutex<()>,
}

#[derive(Debug)]
struct Made<T> {
    /// The secrets that were tried last. If they are invalid, `value` is made of their predecessors.
    of: SecretValues,
    value: Arc<T>,
}

impl Secrets {
    /// The slots of the secrets that `context` names.
    pub(super) fn new(context: &CommonTlsContext, slot: impl FnMut(&Arc<str>) -> Arc<SecretSlot>) -> Self {
        Self { slots: context.secret_names().map(slot).collect(), required: context.required_secret_names().count() }
    }

    /// Waits until all exist that must. The caller limits the time.
    pub(super) async fn wait(&self) {
        for slot in &self.slots[..self.required] {
            let mut watch = slot.watch();
            while slot.read(|secret| secret.is_none()) {
                watch.changed().await;
            }
        }
    }

    /// Whether all exist that must.
    pub(super) fn exist(&self) -> bool {
        self.slots[..self.required].iter().all(|slot| slot.read(|secret| secret.is_some()))
    }

    fn values(&self) -> SecretValues {
        SecretValues(self.slots.iter().map(|slot| (Arc::clone(slot.name()), slot.load())).collect())
    }
}

impl<T> MadeOfSecrets<T> {
    pub(super) fn new() -> Self {
        Self { current: ArcSwapOption::empty(), making: Mutex::new(()) }
    }

    /// What `make` makes of the current secrets. If that fails, what was made of the previous ones stays in use.
    ///
    /// # Errors
    /// If nothing could be made yet.
    pub(super) fn get(
        &self,
        secrets: &Secrets,
        make: impl FnOnce(&SecretValues) -> Result<T, TlsError>,
    ) -> Result<Arc<T>, TlsError> {
        if let Some(value) = self.up_to_date(secrets) {
            return Ok(value);
        }
        let _making = self.making.lock();
        if let Some(value) = self.up_to_date(secrets) {
            return Ok(value);
        }
        let of = secrets.values();
        let value = match (make(&of), self.current.load_full()) {
            (Ok(value), _) => Arc::new(value),
            (Err(error), Some(previous)) => {
                tracing::error!(
                    error = &error as &dyn Error,
                    "a certificate cannot be used; its predecessor stays in use"
                );
                Arc::clone(&previous.value)
            }
            (Err(error), None) => return Err(error),
        };
        self.current.store(Some(Arc::new(Made { of, value: Arc::clone(&value) })));
        Ok(value)
    }

    fn up_to_date(&self, secrets: &Secrets) -> Option<Arc<T>> {
        let current = self.current.load();
        let current = current.as_ref()?;
        let is_same = |(slot, (_, value)): (&Arc<SecretSlot>, &NamedSecret)| {
            slot.read(|now| now.map(ptr::from_ref) == value.as_deref().map(ptr::from_ref))
        };
        secrets.slots.iter().zip(&current.of.0).all(is_same).then(|| Arc::clone(&current.value))
    }
}

impl SecretValues {
    fn get(&self, name: &Arc<str>) -> Result<&SecretValue, TlsError> {
        let found = self.0.iter().find(|(own, _)| own == name).and_then(|(_, secret)| secret.as_deref());
        found.map(|secret| &secret.value).ok_or_else(|| TlsError::MissingSecret(Arc::clone(name)))
    }

    /// The certificate of `source`.
    ///
    /// # Errors
    /// If the secret does not exist, or is of another kind.
    pub(super) fn certificate<'a>(&'a self, source: &'a CertificateSource) -> Result<&'a TlsCertificate, TlsError> {
        let name = match source {
            CertificateSource::Inline(certificate) => return Ok(certificate),
            CertificateSource::Secret(name) => name,
        };
        match self.get(name)? {
            SecretValue::TlsCertificate(certificate) => Ok(certificate),
            _ => Err(TlsError::SecretKind { name: Arc::clone(name), expected: "TLS certificate" }),
        }
    }

    /// How peers are verified; `None` = they are not.
    ///
    /// # Errors
    /// If the secret does not exist, or is of another kind.
    pub(super) fn validation(
        &self,
        context: &CommonTlsContext,
    ) -> Result<Option<CertificateValidationContext>, TlsError> {
        let Some(source) = &context.validation else { return Ok(None) };
        let mut all = source.context.clone();
        if let Some(name) = &source.secret {
            let SecretValue::ValidationContext(secret) = self.get(name)? else {
                return Err(TlsError::SecretKind { name: Arc::clone(name), expected: "validation context" });
            };
            all = all.combined(secret);
        }
        if let Some(name) = &source.trust_bundles
            && let Ok(secret) = self.get(name)
        {
            let SecretValue::TrustBundles(bundles) = secret else {
                return Err(TlsError::SecretKind { name: Arc::clone(name), expected: "map of trust bundles" });
            };
            all.trust_domains.clone_from(bundles);
        }
        Ok(Some(all))
    }
}

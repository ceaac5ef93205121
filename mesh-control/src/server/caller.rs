//! Who has opened a stream.

use mesh_core::node::Node;

use super::Refusal;
use crate::mesh::Mesh;

/// Who has opened a stream, which decides about what it may get.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// A client of this process. It is believed to be who it says.
    Local,
    /// A client that has proved these identities, `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`. One must be that of
    /// its node.
    Verified(Vec<String>),
    /// Anyone. It gets no secrets.
    Anonymous,
}

impl Caller {
    /// Whether it may have private keys.
    pub(super) fn is_known(&self) -> bool {
        matches!(self, Self::Local | Self::Verified(_))
    }

    /// What it has proved.
    pub(super) fn identities(&self) -> &[String] {
        match self {
            Self::Verified(identities) => identities,
            Self::Local | Self::Anonymous => &[],
        }
    }

    /// The node, with the service account of the identity if it names none.
    ///
    /// # Errors
    ///
    /// If the node is not of the identity. istiod checks the same: `PILOT_ENABLE_XDS_IDENTITY_CHECK`.
    pub(super) fn check(&self, node: Node, mesh: &Mesh) -> Result<Node, Refusal> {
        let Self::Verified(identities) = self else { return Ok(node) };
        let account = identities.iter().find_map(|identity| account_of(identity, &node, mesh)).map(str::to_owned);
        match account {
            Some(account) => Ok(Node { service_account: Some(account), ..node }),
            None => {
                let account = node.service_account.unwrap_or_default();
                Err(Refusal::OtherIdentity { identities: identities.clone(), namespace: node.namespace, account })
            }
        }
    }
}

/// The service account of the identity, if it can be that of the node.
fn account_of<'a>(identity: &'a str, node: &Node, mesh: &Mesh) -> Option<&'a str> {
    let config = &mesh.config.mesh_config;
    let (trust_domain, rest) = identity.strip_prefix("spiffe://")?.split_once("/ns/")?;
    let (namespace, account) = rest.split_once("/sa/")?;
    let is_trusted = trust_domain == config.trust_domain()
        || config.trust_domain_aliases().iter().any(|alias| alias == trust_domain);
    let is_own = namespace == node.namespace && node.service_account.as_ref().is_none_or(|own| own == account);
    (is_trusted && is_own).then_some(account)
}

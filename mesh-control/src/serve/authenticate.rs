//! Who a call is from.

use std::time::SystemTime;

use mesh_core::causes::with_causes;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Status};

use super::incoming::Peer;
use crate::ca::Identity;
use crate::ca::service::{Authenticate, Authenticated, Proof, TokenVerifier, Unproven};
use crate::server::Caller;

/// Decides who a call is from: by the certificate of its connection or, if that has no identity, by a token.
#[derive(Debug)]
pub(super) struct Authenticator {
    trust_domain: String,
    /// `None` = tokens prove nothing.
    tokens: Option<TokenVerifier>,
}

impl Authenticator {
    pub(super) fn new(trust_domain: &str, tokens: Option<TokenVerifier>) -> Self {
        Self { trust_domain: trust_domain.to_owned(), tokens }
    }

    /// Who the call is from. One over TLS must prove an identity; what one in plain text says about itself is not looked at.
    ///
    /// # Errors
    ///
    /// If it proves none.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let now = SystemTime::now();
        match request.extensions().get().and_then(|peer: &Peer| peer.identities(now)) {
            None => Ok(Caller::Anonymous),
            Some(identities) if !identities.is_empty() => Ok(Caller::Verified(identities.to_vec())),
            Some(_) => match self.by_token(request.metadata(), now) {
                Ok(identity) => Ok(Caller::Verified(vec![identity.to_string()])),
                Err(error) => {
                    tracing::debug!("a caller is refused: {}", with_causes(&error));
                    // The text is istiod's.
                    Err(Status::unauthenticated("request authenticate failure"))
                }
            },
        }
    }

    fn by_token(&self, metadata: &MetadataMap, now: SystemTime) -> Result<Identity, Unproven> {
        let mut headers = metadata.get_all("authorization").iter().filter_map(|value| value.to_str().ok());
        let bearer = headers.next().and_then(bearer).filter(|_| headers.next().is_none());
        let token = bearer.ok_or(Unproven::Nothing)?;
        let tokens = self.tokens.as_ref().ok_or(Unproven::NoKeys)?;
        Ok(tokens.verify(token, now)?)
    }
}

impl Authenticate for Authenticator {
    fn authenticate(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        now: SystemTime,
    ) -> Result<Authenticated, Unproven> {
        let identities = extensions.get().and_then(|peer: &Peer| peer.identities(now)).ok_or(Unproven::Nothing)?;
        let authenticated = match identities {
            [] => Authenticated { identity: self.by_token(metadata, now)?, proof: Proof::Token },
            [identity] => Authenticated { identity: Identity::parse(identity)?, proof: Proof::Certificate },
            several => return Err(Unproven::Several(several.len())),
        };
        match authenticated.identity.trust_domain() {
            own if own == self.trust_domain => Ok(authenticated),
            other => Err(Unproven::TrustDomain(other.to_owned())),
        }
    }
}

/// The token of `Bearer TOKEN`; the scheme is in any case. RFC 9110 section 11.1.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' ')).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_that_ends_while_its_connection_lasts_proves_nothing_more() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let identities = vec!["spiffe://td/ns/n/sa/a".to_owned()];
        let mut extensions = Extensions::new();
        extensions.insert(Peer::Tls { identities, not_after: end });
        let authenticator = Authenticator::new("td", None);
        let at = |now| authenticator.authenticate(&MetadataMap::new(), &extensions, now);
        assert_eq!(at(end - Duration::from_secs(1)).unwrap().proof, Proof::Certificate);
        assert!(matches!(at(end), Err(Unproven::Nothing)));
    }
}

//! The authentication of one request.
//!
//! It runs without waiting as long as keys are there. When they are not, [`Attempt::advance`] says whose, and is called again when
//! the caller has waited for them; then the current check begins anew. A check changes the request only when it has
//! succeeded.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue, request::Parts};
use mesh_core::{
    filter::jwt_authn::{
        Allow, Audiences, Check, Evaluation, Found, Jwt, JwtAuthn, JwtStatus, Location, Outcome, Requirement, Sections,
        Step, claim, header_value,
    },
    model::MetadataValue,
    request::RequestHead,
};
use smallvec::SmallVec;

use super::{
    JwtAuthnFilter,
    provider_keys::{KeySet, Keys},
};
use crate::timer;

/// Maximum number of tokens of a request that are verified.
const MAX_TOKENS: usize = 16;

/// The authentication of one request.
pub(super) struct Attempt<'c> {
    filter: &'c JwtAuthnFilter,
    evaluation: Evaluation<'c>,
    step: Step<'c>,
    /// The providers whose keys were waited for.
    waited: SmallVec<[usize; 2]>,
    /// What is set in the metadata of the filter.
    metadata: BTreeMap<Box<str>, MetadataValue>,
    clears_route_cache: bool,
}

/// How far it has come.
pub(super) enum Progress {
    /// The requirement is fulfilled or not.
    Done(Outcome),
    /// The keys of the provider in this position have to be waited for.
    Wait(usize),
}

/// Why a token is not accepted now.
enum Refused {
    Status(JwtStatus),
    /// The keys of this provider have to be waited for.
    Wait(usize),
}

impl From<JwtStatus> for Refused {
    fn from(status: JwtStatus) -> Self {
        Self::Status(status)
    }
}

/// A valid token, and what it changes.
struct Accepted<'c> {
    provider: usize,
    location: Location<'c>,
    headers: Vec<(HeaderName, HeaderValue)>,
    jwt: Arc<Jwt>,
}

impl<'c> Attempt<'c> {
    pub(super) fn new(filter: &'c JwtAuthnFilter, requirement: &'c Requirement) -> Self {
        let (evaluation, step) = Evaluation::start(requirement);
        Self { filter, evaluation, step, waited: SmallVec::new(), metadata: BTreeMap::new(), clears_route_cache: false }
    }

    /// What is set in the metadata of the filter.
    pub(super) fn take_metadata(&mut self) -> BTreeMap<Box<str>, MetadataValue> {
        std::mem::take(&mut self.metadata)
    }

    /// Whether the request has to be routed again.
    pub(super) fn clears_route_cache(&self) -> bool {
        self.clears_route_cache
    }

    /// Notes that the keys of a provider were waited for.
    pub(super) fn has_waited_for(&mut self, provider: usize) {
        self.waited.push(provider);
    }

    /// Goes on until the end, or until keys are missing.
    pub(super) fn advance(&mut self, head: &mut Parts) -> Progress {
        loop {
            let check = match self.step {
                Step::Done(outcome) => return Progress::Done(outcome),
                Step::Check(check) => check,
            };
            let outcome = match self.check(check, head) {
                Ok(()) => Ok(()),
                Err(Refused::Status(status)) => Err(status),
                Err(Refused::Wait(provider)) => return Progress::Wait(provider),
            };
            if let (Err(status), Check::Provider { provider, .. }) = (outcome, check) {
                self.note_failure(provider, status);
            }
            self.step = self.evaluation.resume(outcome);
        }
    }

    fn check(&mut self, check: Check<'c>, head: &mut Parts) -> Result<(), Refused> {
        let config: &'c JwtAuthn = &self.filter.config;
        let accepted = {
            let request = RequestHead::from_parts(head);
            let tokens = config.tokens(check, &request);
            match check {
                Check::Provider { provider, audiences } => {
                    let token = match &tokens[..] {
                        [] => return Err(JwtStatus::Missed.into()),
                        [token] => token,
                        _ => return Err(JwtStatus::MultipleTokens.into()),
                    };
                    vec![self.verify_for(provider, audiences, token)?]
                }
                Check::AnyProvider(allow) => self.verify_all(&tokens, allow)?,
            }
        };
        for token in accepted {
            self.apply(token, head);
        }
        Ok(())
    }

    /// Verifies all tokens, which may be of different providers.
    fn verify_all(&self, tokens: &[Found<'c, '_>], allow: Allow) -> Result<Vec<Accepted<'c>>, Refused> {
        if tokens.is_empty() {
            return Ok(allow.outcome(JwtStatus::Missed).map(|()| Vec::new())?);
        }
        let (mut accepted, mut failure) = (Vec::new(), None);
        if tokens.len() > MAX_TOKENS || has_two_in_one_location(tokens) {
            failure = Some(JwtStatus::MultipleTokens);
        }
        for token in tokens.iter().take(MAX_TOKENS) {
            match self.verify_for_issuer(token) {
                Ok(token) => accepted.push(token),
                Err(Refused::Status(status)) => failure = failure.or(Some(status)),
                Err(wait @ Refused::Wait(_)) => return Err(wait),
            }
        }
        match failure.map_or(Ok(()), |failure| allow.outcome(failure)) {
            Ok(()) => Ok(accepted),
            Err(status) => Err(status.into()),
        }
    }

    fn verify_for_issuer(&self, found: &Found<'c, '_>) -> Result<Accepted<'c>, Refused> {
        let jwt = Arc::new(Jwt::parse(&found.token)?);
        let config = &self.filter.config;
        let provider = config.provider_of(&jwt.iss).filter(|_| found.location.allows(&jwt.iss));
        let provider = provider.ok_or(JwtStatus::UnknownIssuer)?;
        config.providers()[provider].check_claims(&jwt, None, SystemTime::now())?;
        let keys = self.keys(provider)?;
        self.verify_signature(provider, &keys, &jwt, &found.token)?;
        self.accept(provider, found, jwt)
    }

    fn verify_for(
        &self,
        provider: usize,
        audiences: Option<&Audiences>,
        found: &Found<'c, '_>,
    ) -> Result<Accepted<'c>, Refused> {
        let (keys_of, config) = (&self.filter.keys[provider], &self.filter.config.providers()[provider]);
        let keys = self.keys(provider);
        let remembered = keys.as_ref().ok().and_then(|keys| keys_of.remembered(&found.token, keys));
        let stats = &self.filter.stats;
        if remembered.is_some() { &stats.jwt_cache_hit } else { &stats.jwt_cache_miss }.inc();
        let is_new = remembered.is_none();
        let jwt = match remembered {
            Some(jwt) => jwt,
            None => Arc::new(Jwt::parse(&found.token)?),
        };
        if !found.location.allows(&jwt.iss) {
            return Err(JwtStatus::UnknownIssuer.into());
        }
        if let Err(status) = config.check_claims(&jwt, audiences, SystemTime::now()) {
            if status == JwtStatus::Expired && !is_new {
                keys_of.forget(&found.token);
            }
            return Err(status.into());
        }
        if is_new {
            let keys = keys?;
            self.verify_signature(provider, &keys, &jwt, &found.token)?;
            keys_of.remember(&found.token, &jwt, &keys);
        }
        self.accept(provider, found, jwt)
    }

    fn keys(&self, provider: usize) -> Result<KeySet, Refused> {
        match self.filter.keys[provider].current(timer::now(), self.waited.contains(&provider)) {
            Keys::Ready(keys) => Ok(keys),
            Keys::Wait => Err(Refused::Wait(provider)),
            Keys::Fail(status) => Err(status.into()),
        }
    }

    fn verify_signature(&self, provider: usize, keys: &KeySet, jwt: &Jwt, token: &str) -> Result<(), Refused> {
        let signed = Sections::of(token).ok_or(JwtStatus::BadFormat)?.signed;
        let has_waited = self.waited.contains(&provider);
        match self.filter.keys[provider].verify(keys, jwt, signed, has_waited) {
            Some(verified) => Ok(verified?),
            None => Err(Refused::Wait(provider)),
        }
    }

    /// A valid token, with the headers that it sets.
    fn accept(&self, provider: usize, found: &Found<'c, '_>, jwt: Arc<Jwt>) -> Result<Accepted<'c>, Refused> {
        let config = &self.filter.config.providers()[provider];
        let mut headers = Vec::new();
        if let Some(name) = &config.forward_payload_header {
            let section = Sections::of(&found.token).ok_or(JwtStatus::BadFormat)?.payload;
            headers.extend(config.payload_for_header(section).map(|value| (name.clone(), value)));
        }
        for of_claim in &config.claim_to_headers {
            let value = claim(&jwt.payload, &of_claim.path).map(header_value).transpose()?.flatten();
            headers.extend(value.map(|value| (of_claim.header_name.clone(), value)));
        }
        Ok(Accepted { provider, location: found.location, headers, jwt })
    }

    /// Changes the request as a valid token requires.
    fn apply(&mut self, accepted: Accepted<'c>, head: &mut Parts) {
        let Accepted { provider, location, headers, jwt } = accepted;
        let config = &self.filter.config.providers()[provider];
        if !config.forward {
            location.remove_token(&mut head.uri, &mut head.headers);
        }
        // Another provider may have set them before.
        for name in config.output_headers() {
            head.headers.remove(name);
        }
        let sets_claims = !headers.is_empty() || config.payload_in_metadata.is_some();
        self.clears_route_cache |= config.clear_route_cache && sets_claims;
        for (name, value) in headers {
            head.headers.append(name, value);
        }
        if let Some(key) = &config.header_in_metadata {
            self.metadata.insert(key.clone(), jwt.header.clone());
        }
        if let Some(key) = &config.payload_in_metadata {
            self.metadata.insert(key.clone(), config.payload_for_metadata(&jwt.payload));
        }
    }

    fn note_failure(&mut self, provider: usize, status: JwtStatus) {
        if let Some(key) = &self.filter.config.providers()[provider].failed_status_in_metadata {
            let fields = [
                ("code".into(), MetadataValue::Number(f64::from(status.code()))),
                ("message".into(), MetadataValue::String(status.as_str().into())),
            ];
            self.metadata.insert(key.clone(), MetadataValue::Object(fields.into()));
        }
    }
}

fn has_two_in_one_location(tokens: &[Found<'_, '_>]) -> bool {
    tokens
        .iter()
        .enumerate()
        .any(|(position, token)| tokens[..position].iter().any(|before| before.location == token.location))
}

//! Claims: which tokens a provider accepts, and claims in headers and metadata.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use http::HeaderValue;

use super::{
    provider::{Audiences, Provider},
    status::JwtStatus,
    token::Jwt,
};
use crate::value::MetadataValue;

impl Provider {
    /// Whether the claims of `jwt` are accepted. `audiences` replace the provider's.
    ///
    /// # Errors
    /// Why not.
    pub fn check_claims(&self, jwt: &Jwt, audiences: Option<&Audiences>, now: SystemTime) -> Result<(), JwtStatus> {
        if !self.issuer.is_empty() && self.issuer != jwt.iss {
            return Err(JwtStatus::UnknownIssuer);
        }
        if self.subjects.as_ref().is_some_and(|subjects| !subjects.matches(&jwt.sub)) {
            return Err(JwtStatus::VerificationFail);
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let skew = self.clock_skew.as_secs();
        if jwt.nbf.is_some_and(|nbf| now.as_secs().saturating_add(skew) < nbf) {
            return Err(JwtStatus::NotYetValid);
        }
        if jwt.exp.is_some_and(|exp| now.as_secs() > exp.saturating_add(skew)) {
            return Err(JwtStatus::Expired);
        }
        let lifetime = jwt.exp.map(|exp| std::time::Duration::from_secs(exp).saturating_sub(now));
        let lives_too_long = match (lifetime, self.max_lifetime) {
            (None, max) => self.require_expiration || max.is_some(),
            (Some(lifetime), Some(max)) => lifetime >= max,
            (Some(_), None) => false,
        };
        if lives_too_long {
            return Err(JwtStatus::VerificationFail);
        }
        match audiences.unwrap_or(&self.audiences).allow(&jwt.aud) {
            true => Ok(()),
            false => Err(JwtStatus::AudienceNotAllowed),
        }
    }

    /// The payload as it is set in metadata.
    #[must_use]
    pub fn payload_for_metadata(&self, payload: &MetadataValue) -> MetadataValue {
        let mut payload = payload.clone();
        if let MetadataValue::Object(claims) = &mut payload {
            for name in &self.space_delimited_claims {
                let Some(claim) = claims.get_mut(name) else { continue };
                if let MetadataValue::String(text) = claim {
                    let words = text.split(' ').filter(|word| !word.is_empty());
                    *claim = MetadataValue::List(words.map(|word| MetadataValue::String(word.into())).collect());
                }
            }
        }
        payload
    }

    /// The value of the payload's header.
    #[must_use]
    pub fn payload_for_header(&self, section: &str) -> Option<HeaderValue> {
        let padding = match self.pad_forward_payload_header {
            true => "=".repeat(section.len().next_multiple_of(4) - section.len()),
            false => String::new(),
        };
        HeaderValue::try_from(format!("{section}{padding}")).ok()
    }
}

/// The claim at `path`.
#[must_use]
pub fn claim<'p>(payload: &'p MetadataValue, path: &[Box<str>]) -> Option<&'p MetadataValue> {
    path.iter().try_fold(payload, |value, key| crate::json::field(value, key))
}

/// A claim as the value of a header; `None` if it has none, which null and empty texts do not have. Lists and objects are
/// JSON in base64url, as in Envoy.
///
/// # Errors
/// If the text has control characters: it must not end the header.
pub fn header_value(claim: &MetadataValue) -> Result<Option<HeaderValue>, JwtStatus> {
    let text = match claim {
        MetadataValue::Null => return Ok(None),
        MetadataValue::Bool(value) => value.to_string(),
        MetadataValue::Number(number) => number_text(*number),
        MetadataValue::String(text) => text.clone().into_string(),
        MetadataValue::List(_) | MetadataValue::Object(_) => {
            let mut json = Vec::new();
            claim.write_json(&mut json);
            URL_SAFE.encode(json)
        }
    };
    if text.is_empty() {
        return Ok(None);
    }
    HeaderValue::try_from(text).map(Some).map_err(|_| JwtStatus::VerificationFail)
}

/// Envoy's text for a number: whole ones have no fraction, others have six digits.
fn number_text(number: f64) -> String {
    let whole = (0.0..18_446_744_073_709_551_615.0).contains(&number) && number.fract() == 0.0;
    if whole { format!("{number:.0}") } else { format!("{number:.6}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::{
        filter::jwt_authn::{Jwks, JwksSource},
        value::{StringMatcher, StringPattern},
    };

    fn provider() -> Provider {
        Provider::new("issuer", JwksSource::Local(Jwks::default()))
    }

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn jwt(claims: &str) -> Jwt {
        Jwt::parse(&format!("{}.{}.AAAA", encode(r#"{"alg":"RS256"}"#), encode(claims))).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn checked(provider: &Provider, claims: &str) -> Result<(), JwtStatus> {
        provider.check_claims(&jwt(claims), None, at(1000))
    }

    #[test]
    fn times_are_compared_with_a_tolerance() {
        for (claims, expected) in [
            (r#"{"iss":"issuer"}"#, Ok(())),
            (r#"{"iss":"issuer","exp":940}"#, Ok(())),
            (r#"{"iss":"issuer","exp":941}"#, Ok(())),
            (r#"{"iss":"issuer","exp":939}"#, Err(JwtStatus::Expired)),
            (r#"{"iss":"issuer","exp":0}"#, Err(JwtStatus::Expired)),
            (r#"{"iss":"issuer","exp":18446744073709549568}"#, Ok(())),
            (r#"{"iss":"issuer","nbf":1060}"#, Ok(())),
            (r#"{"iss":"issuer","nbf":1061}"#, Err(JwtStatus::NotYetValid)),
            (r#"{"iss":"issuer","iat":5000}"#, Ok(())),
        ] {
            assert_eq!(checked(&provider(), claims), expected, "{claims}");
        }
        let mut exact = provider();
        exact.clock_skew = Duration::from_secs(1);
        assert_eq!(checked(&exact, r#"{"iss":"issuer","exp":998}"#), Err(JwtStatus::Expired));
        assert_eq!(checked(&exact, r#"{"iss":"issuer","exp":999}"#), Ok(()));
    }

    #[test]
    fn issuer_and_subject_are_compared_exactly() {
        for iss in ["issuer/", "Issuer", "issue", ""] {
            let claims = format!(r#"{{"iss":"{iss}"}}"#);
            assert_eq!(checked(&provider(), &claims), Err(JwtStatus::UnknownIssuer), "{iss}");
        }
        assert_eq!(checked(&provider(), "{}"), Err(JwtStatus::UnknownIssuer));
        let mut any = provider();
        any.issuer = "".into();
        assert_eq!(checked(&any, r#"{"iss":"other"}"#), Ok(()));
        any.subjects = Some(StringMatcher::new(StringPattern::Prefix("svc-".into()), false));
        assert_eq!(checked(&any, r#"{"sub":"svc-a"}"#), Ok(()));
        assert_eq!(checked(&any, r#"{"sub":"a"}"#), Err(JwtStatus::VerificationFail));
        assert_eq!(checked(&any, "{}"), Err(JwtStatus::VerificationFail));
    }

    #[test]
    fn tokens_must_expire_in_time_if_that_is_required() {
        let mut provider = provider();
        provider.require_expiration = true;
        assert_eq!(checked(&provider, r#"{"iss":"issuer"}"#), Err(JwtStatus::VerificationFail));
        assert_eq!(checked(&provider, r#"{"iss":"issuer","exp":9999999999}"#), Ok(()));
        provider.require_expiration = false;
        provider.max_lifetime = Some(Duration::from_secs(100));
        assert_eq!(checked(&provider, r#"{"iss":"issuer"}"#), Err(JwtStatus::VerificationFail));
        assert_eq!(checked(&provider, r#"{"iss":"issuer","exp":1099}"#), Ok(()));
        assert_eq!(checked(&provider, r#"{"iss":"issuer","exp":1100}"#), Err(JwtStatus::VerificationFail));
    }

    #[test]
    fn audiences_of_a_requirement_replace_those_of_the_provider() {
        let mut provider = provider();
        provider.audiences = Audiences::new(["a"]);
        let (claims, other) = (r#"{"iss":"issuer","aud":["a"]}"#, Audiences::new(["b"]));
        assert_eq!(checked(&provider, claims), Ok(()));
        let replaced = provider.check_claims(&jwt(claims), Some(&other), at(1000));
        assert_eq!(replaced, Err(JwtStatus::AudienceNotAllowed));
        assert_eq!(checked(&provider, r#"{"iss":"issuer"}"#), Err(JwtStatus::AudienceNotAllowed));
    }

    #[test]
    fn a_claim_becomes_the_value_of_a_header() {
        let claims =
            jwt(r#"{"s":"text","e":"","n":7,"d":1.5,"m":-3,"t":true,"z":null,"l":[1,"a"],"o":{"k":{"d":"deep"}},
                "o.k":"dotted","crlf":"a\r\nx: y","u":"\u00e9"}"#);
        let header = |path: &[&str]| {
            let path: Vec<Box<str>> = path.iter().map(|key| Box::from(*key)).collect();
            let value = claim(&claims.payload, &path).map(header_value);
            value.map(|value| {
                value.map(|value| value.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
            })
        };
        let text = |text: &str| Some(Ok(Some(text.to_owned())));
        assert_eq!(header(&["s"]), text("text"));
        assert_eq!(header(&["e"]), Some(Ok(None)));
        assert_eq!(header(&["z"]), Some(Ok(None)));
        assert_eq!(header(&["n"]), text("7"));
        assert_eq!(header(&["d"]), text("1.500000"));
        assert_eq!(header(&["m"]), text("-3.000000"));
        assert_eq!(header(&["t"]), text("true"));
        assert_eq!(header(&["l"]), text(&URL_SAFE.encode(r#"[1,"a"]"#)));
        assert_eq!(header(&["o", "k", "d"]), text("deep"));
        assert_eq!(header(&["o.k"]), text("dotted"));
        assert_eq!(header(&["u"]), text("\u{e9}"));
        assert_eq!(header(&["crlf"]), Some(Err(JwtStatus::VerificationFail)));
        assert_eq!(header(&["s", "x"]), None);
        assert_eq!(header(&["missing"]), None);
    }

    #[test]
    fn space_delimited_claims_are_lists_in_metadata() {
        let mut provider = provider();
        provider.space_delimited_claims = vec!["scope".into(), "n".into(), "missing".into()];
        let claims = jwt(r#"{"scope":" read  write ","other":"a b","n":1}"#);
        let mut json = Vec::new();
        provider.payload_for_metadata(&claims.payload).write_json(&mut json);
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"n":1,"other":"a b","scope":["read","write"]}"#);
    }

    #[test]
    fn the_payload_is_padded_on_request() {
        let mut provider = provider();
        assert_eq!(provider.payload_for_header("e30").unwrap(), "e30");
        provider.pad_forward_payload_header = true;
        assert_eq!(provider.payload_for_header("e30").unwrap(), "e30=");
        assert_eq!(provider.payload_for_header("eyJhIjoxfQ").unwrap(), "eyJhIjoxfQ==");
        assert_eq!(provider.payload_for_header("AAAA").unwrap(), "AAAA");
    }
}

//! Reading of tokens: the compact serialization of a signed JSON Web Token.
//!
//! Strict, because a token is a stranger's: the size and the depth are bounded, keys of JSON occur once, base64url has no
//! padding and no spare bits. Headers that bring a key, or say where one is, are refused, as is `crit`, since no extension is
//! understood. RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (best practices).

use base64::{
    DecodeError, Engine as _,
    alphabet::URL_SAFE,
    engine::{
        GeneralPurpose,
        general_purpose::{NO_PAD, URL_SAFE_NO_PAD},
    },
};

use super::{algorithm::Algorithm, status::JwtStatus};
use crate::{json, value::MetadataValue};

/// Maximum length of a token in bytes. Envoy has no limit other than that of headers.
pub const MAX_TOKEN_BYTES: usize = 32 * 1024;

/// Header fields with which a token would choose its own key, and extensions that must be understood.
const REFUSED_HEADERS: [&str; 5] = ["crit", "jwk", "jku", "x5u", "x5c"];

/// A token whose signature has not been verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`; `None` if it is missing or empty.
    pub kid: Option<Box<str>>,
    /// The header.
    pub header: MetadataValue,
    /// The claims.
    pub payload: MetadataValue,
    /// The issuer; empty if missing.
    pub iss: Box<str>,
    /// The subject; empty if missing.
    pub sub: Box<str>,
    /// The audiences.
    pub aud: Vec<Box<str>>,
    /// Valid until, in seconds since 1970.
    pub exp: Option<u64>,
    /// Valid from, in seconds since 1970.
    pub nbf: Option<u64>,
    /// The signature.
    pub signature: Box<[u8]>,
}

/// The sections of a token as they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections<'t> {
    /// Header and payload with the dot between them: what is signed.
    pub signed: &'t str,
    /// The header.
    pub header: &'t str,
    /// The payload.
    pub payload: &'t str,
    /// The signature.
    pub signature: &'t str,
}

impl<'t> Sections<'t> {
    /// Divides a token. `None` unless it has three sections, none of them empty.
    #[must_use]
    pub fn of(token: &'t str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let complete = !header.is_empty() && !payload.is_empty() && !signature.is_empty() && !payload.contains('.');
        complete.then_some(Self { signed, header, payload, signature })
    }
}

impl Jwt {
    /// Reads a token.
    ///
    /// # Errors
    /// If it is larger than [`MAX_TOKEN_BYTES`] or not a token that can be verified.
    pub fn parse(token: &str) -> Result<Self, JwtStatus> {
        let sections = Sections::of(token).filter(|_| token.len() <= MAX_TOKEN_BYTES).ok_or(JwtStatus::BadFormat)?;
        let (algorithm, kid, header) = read_header(sections.header)?;
        let payload = object(sections.payload, JwtStatus::PayloadBadBase64, JwtStatus::PayloadBadJson)?;
        let iss = text(&payload, "iss", JwtStatus::IssNotString)?;
        let sub = text(&payload, "sub", JwtStatus::SubNotString)?;
        seconds(&payload, "iat", JwtStatus::IatNotInteger, JwtStatus::IatOutOfRange)?;
        let nbf = seconds(&payload, "nbf", JwtStatus::NbfNotInteger, JwtStatus::NbfOutOfRange)?;
        let exp = seconds(&payload, "exp", JwtStatus::ExpNotInteger, JwtStatus::ExpOutOfRange)?;
        text(&payload, "jti", JwtStatus::JtiNotString)?;
        let aud = audiences(&payload)?;
        let signature = URL_SAFE_NO_PAD.decode(sections.signature).map_err(|_| JwtStatus::SignatureBadBase64)?;
        Ok(Self { algorithm, kid, header, payload, iss, sub, aud, exp, nbf, signature: signature.into() })
    }
}

fn read_header(section: &str) -> Result<(Algorithm, Option<Box<str>>, MetadataValue), JwtStatus> {
    let header = object(section, JwtStatus::HeaderBadBase64, JwtStatus::HeaderBadJson)?;
    let algorithm = json::field(&header, "alg").and_then(json::string).ok_or(JwtStatus::HeaderBadAlg)?;
    let algorithm = Algorithm::parse(algorithm).ok_or(JwtStatus::HeaderUnknownAlg)?;
    let kid = text(&header, "kid", JwtStatus::HeaderBadKid)?;
    if REFUSED_HEADERS.iter().any(|name| json::field(&header, name).is_some()) {
        return Err(JwtStatus::VerificationFail);
    }
    Ok((algorithm, (!kid.is_empty()).then_some(kid), header))
}

/// The object in a section. One with spare bits is refused; if they are its only fault, that is the reason, as Envoy does not
/// find it.
fn object(section: &str, bad_base64: JwtStatus, bad_json: JwtStatus) -> Result<MetadataValue, JwtStatus> {
    match URL_SAFE_NO_PAD.decode(section) {
        Ok(bytes) => json::object(&bytes).ok_or(bad_json),
        Err(DecodeError::InvalidLastSymbol(..)) => {
            let bytes = SPARE_BITS.decode(section).map_err(|_| bad_base64)?;
            Err(json::object(&bytes).map_or(bad_json, |_| bad_base64))
        }
        Err(_) => Err(bad_base64),
    }
}

/// Reads base64url whose last character has bits that are not used.
const SPARE_BITS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// A string; empty if it is missing.
fn text(object: &MetadataValue, name: &str, wrong: JwtStatus) -> Result<Box<str>, JwtStatus> {
    match json::field(object, name) {
        None => Ok("".into()),
        Some(MetadataValue::String(text)) => Ok(text.clone()),
        Some(_) => Err(wrong),
    }
}

/// A time in whole seconds; a fraction is cut off (RFC 7519 `NumericDate`).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range of u64")]
fn seconds(
    payload: &MetadataValue,
    name: &str,
    wrong: JwtStatus,
    out_of_range: JwtStatus,
) -> Result<Option<u64>, JwtStatus> {
    match json::field(payload, name) {
        None => Ok(None),
        Some(MetadataValue::Number(number)) if (0.0..18_446_744_073_709_551_616.0).contains(number) => {
            Ok(Some(*number as u64))
        }
        Some(MetadataValue::Number(_)) => Err(out_of_range),
        Some(_) => Err(wrong),
    }
}

fn audiences(payload: &MetadataValue) -> Result<Vec<Box<str>>, JwtStatus> {
    let text = |value: &MetadataValue| json::string(value).map(Box::from).ok_or(JwtStatus::AudNotString);
    match json::field(payload, "aud") {
        None => Ok(Vec::new()),
        Some(MetadataValue::List(items)) => items.iter().map(text).collect(),
        Some(value) => Ok(vec![text(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(json: &str) -> String {
        URL_SAFE_NO_PAD.encode(json)
    }

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.AAAA", encode(header), encode(payload))
    }

    const HEADER: &str = r#"{"alg":"RS256","kid":"k"}"#;

    #[test]
    fn a_token_is_read() {
        let payload = r#"{"iss":"i","sub":"s","aud":["a","b"],"exp":12,"nbf":1.9,"iat":3,"jti":"j","x":{"y":1}}"#;
        let jwt = Jwt::parse(&token(HEADER, payload)).unwrap();
        assert_eq!((jwt.algorithm, jwt.kid.as_deref()), (Algorithm::Rs256, Some("k")));
        assert_eq!((&*jwt.iss, &*jwt.sub, jwt.exp, jwt.nbf), ("i", "s", Some(12), Some(1)));
        assert_eq!(jwt.aud, ["a".into(), "b".into()] as [Box<str>; 2]);
        assert_eq!(*jwt.signature, [0, 0, 0]);
        let one = Jwt::parse(&token(r#"{"alg":"EdDSA","kid":"","typ":"JWT"}"#, r#"{"aud":"a"}"#)).unwrap();
        assert_eq!((one.kid, one.exp, one.aud), (None, None, vec!["a".into()]));
    }

    #[test]
    fn a_header_that_cannot_be_trusted_is_refused() {
        for (header, expected) in [
            (r#"{"kid":"k"}"#, JwtStatus::HeaderBadAlg),
            (r#"{"alg":["RS256"]}"#, JwtStatus::HeaderBadAlg),
            (r#"{"alg":"none"}"#, JwtStatus::HeaderUnknownAlg),
            (r#"{"alg":"None"}"#, JwtStatus::HeaderUnknownAlg),
            (r#"{"alg":"rs256"}"#, JwtStatus::HeaderUnknownAlg),
            (r#"{"alg":"RS256","alg":"none"}"#, JwtStatus::HeaderBadJson),
            (r#"{"alg":"RS256","kid":1}"#, JwtStatus::HeaderBadKid),
            (r#"{"alg":"RS256","crit":["exp"]}"#, JwtStatus::VerificationFail),
            (r#"{"alg":"RS256","jwk":{}}"#, JwtStatus::VerificationFail),
            (r#"{"alg":"RS256","jku":"http://127.0.0.1/"}"#, JwtStatus::VerificationFail),
            (r#"{"alg":"RS256","x5u":"http://127.0.0.1/"}"#, JwtStatus::VerificationFail),
            (r#"{"alg":"RS256","x5c":[]}"#, JwtStatus::VerificationFail),
            (r#"["RS256"]"#, JwtStatus::HeaderBadJson),
        ] {
            assert_eq!(Jwt::parse(&token(header, "{}")).unwrap_err(), expected, "{header}");
        }
    }

    #[test]
    fn claims_of_wrong_types_are_refused() {
        for (payload, expected) in [
            (r#"{"iss":1}"#, JwtStatus::IssNotString),
            (r#"{"sub":["s"]}"#, JwtStatus::SubNotString),
            (r#"{"exp":"123"}"#, JwtStatus::ExpNotInteger),
            (r#"{"exp":1e30}"#, JwtStatus::ExpOutOfRange),
            (r#"{"exp":-1}"#, JwtStatus::ExpOutOfRange),
            (r#"{"exp":null}"#, JwtStatus::ExpNotInteger),
            (r#"{"nbf":"1"}"#, JwtStatus::NbfNotInteger),
            (r#"{"nbf":-1}"#, JwtStatus::NbfOutOfRange),
            (r#"{"iat":true}"#, JwtStatus::IatNotInteger),
            (r#"{"iat":-0.5}"#, JwtStatus::IatOutOfRange),
            (r#"{"jti":1}"#, JwtStatus::JtiNotString),
            (r#"{"aud":1}"#, JwtStatus::AudNotString),
            (r#"{"aud":["a",1]}"#, JwtStatus::AudNotString),
            (r#"{"sub":"a","sub":"b"}"#, JwtStatus::PayloadBadJson),
            (r#"{"sub":"a","\u0073ub":"b"}"#, JwtStatus::PayloadBadJson),
            ("{", JwtStatus::PayloadBadJson),
            ("1", JwtStatus::PayloadBadJson),
        ] {
            assert_eq!(Jwt::parse(&token(HEADER, payload)).unwrap_err(), expected, "{payload}");
        }
    }

    #[test]
    fn the_form_of_a_token_is_strict() {
        let (header, payload) = (encode(HEADER), encode("{}"));
        for (token, expected) in [
            (String::new(), JwtStatus::BadFormat),
            (format!("{header}.{payload}"), JwtStatus::BadFormat),
            (format!("{header}.{payload}."), JwtStatus::BadFormat),
            (format!("{header}..AAAA"), JwtStatus::BadFormat),
            (format!("{header}..{payload}.AAAA"), JwtStatus::BadFormat),
            (format!("{header}.{payload}.AAAA.AAAA"), JwtStatus::BadFormat),
            (format!("{{\"payload\":\"{payload}\",\"signatures\":[]}}"), JwtStatus::BadFormat),
            (format!("{header}.{payload}.{}", "A".repeat(MAX_TOKEN_BYTES)), JwtStatus::BadFormat),
            ("not.a.jwt".to_owned(), JwtStatus::HeaderBadJson),
            (format!("{}R.{payload}.AAAA", &encode(r#"{"alg":"RS256" }"#)[..21]), JwtStatus::HeaderBadBase64),
            (format!("{header}=.{payload}.AAAA"), JwtStatus::HeaderBadBase64),
            (format!("{header}.{payload}==.AAAA"), JwtStatus::PayloadBadBase64),
            (format!("{header}.{payload}.AA=="), JwtStatus::SignatureBadBase64),
            (format!("{header}.{payload}.AB"), JwtStatus::SignatureBadBase64),
            (format!("{header}.{payload}.A+/_"), JwtStatus::SignatureBadBase64),
            (format!("{header}.{payload}.AAAA "), JwtStatus::SignatureBadBase64),
            (format!("{header}.{payload}.AA\nAA"), JwtStatus::SignatureBadBase64),
        ] {
            assert_eq!(Jwt::parse(&token).unwrap_err(), expected, "{}", &token[..token.len().min(80)]);
        }
    }
}

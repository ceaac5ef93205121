//! `RequestAuthentication`: the tokens of end users that some workloads accept.
//!
//! Source: `security/v1beta1/request_authentication.proto`, and istiod's validation of it. A request without a token passes;
//! one with a token that no rule accepts does not. Keys that a rule would have to discover (OpenID Connect) are refused:
//! without its keys no token of the rule would be valid.

mod jwks_uri;

use std::time::Duration;

use mesh_core::filter::jwt_authn::Jwks;

pub use jwks_uri::JwksUri;

use super::Resource;
use super::metadata::Metadata;
use super::scalar::{Labels, labels};
use crate::diagnostic::{Code, Diagnostic, Position};
use crate::document::{Context, FromNode, Located, Node, Object};

/// The tokens of end users that some workloads accept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestAuthentication {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Labels of the workloads; empty means all workloads of the namespace, and in the root namespace of the mesh.
    pub selector: Labels,
    /// The issuers, of which one must have issued a token.
    pub jwt_rules: Vec<JwtRule>,
}

/// An issuer of tokens. Istio `JWTRule`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JwtRule {
    /// Its position.
    pub position: Position,
    /// `iss` of its tokens.
    pub issuer: String,
    /// `aud` must have one of these; empty = any.
    pub audiences: Vec<String>,
    /// Its keys.
    pub keys: JwtKeys,
    /// Headers with the token, with the text before it. Without locations: `Authorization: Bearer`, and `access_token` in the
    /// query.
    pub from_headers: Vec<JwtHeader>,
    /// Parameters of the query with the token.
    pub from_params: Vec<String>,
    /// Cookies with the token.
    pub from_cookies: Vec<String>,
    /// Header in which the payload is passed on; none means not at all.
    pub output_payload_to_header: Option<String>,
    /// Whether the token is passed on; default false.
    pub forward_original_token: bool,
    /// Headers in which claims are passed on.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Maximum time to fetch keys, default 5 s.
    pub timeout: Option<Duration>,
    /// Claims, besides `scope` and `permission`, that are lists divided by spaces.
    pub space_delimited_claims: Vec<String>,
}

/// The keys of an issuer.
#[derive(Clone, Debug)]
pub enum JwtKeys {
    /// A JSON Web Key Set. Istio `jwks`.
    Inline(String),
    /// The place of one. Istio `jwksUri`.
    Remote(Located<JwksUri>),
}

/// A header with a token. Istio `JWTHeader`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtHeader {
    /// Its name.
    pub name: String,
    /// The text before the token.
    pub prefix: String,
}

/// A claim in a header. Istio `ClaimToHeader`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimToHeader {
    /// The header.
    pub header: String,
    /// The claim; dots lead to nested ones.
    pub claim: String,
    position: Position,
}

impl Resource for RequestAuthentication {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let selector = read_selector(&object);
        let jwt_rules = object.list("jwtRules");
        let selects_by_reference = ["targetRef", "targetRefs"].into_iter().any(|name| object.has(name));
        object.unsupported(&["targetRef", "targetRefs"]);
        object.finish();
        // Without its targets the policy would be about other workloads.
        (!selects_by_reference).then_some(Self { metadata, selector, jwt_rules })
    }
}

fn read_selector(object: &Object<'_>) -> Labels {
    let Some(node) = object.node("selector") else { return Labels::new() };
    let Some(selector) = Object::new(node, object.cx.field("selector")) else { return Labels::new() };
    let found = labels(&selector, "matchLabels").unwrap_or_default();
    selector.finish();
    found
}

impl FromNode for JwtRule {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let issuer: Option<Located<String>> = object.required("issuer");
        if let Some(issuer) = issuer.as_ref().filter(|issuer| issuer.is_empty()) {
            cx.field("issuer").refuse(
                issuer.position.clone(),
                "issuer is empty",
                "expected the claim iss of the tokens",
            );
        }
        let output_claim_to_headers: Vec<ClaimToHeader> = object.list("outputClaimToHeaders");
        check_unique(&output_claim_to_headers, cx);
        let payload_header = object.optional::<Located<String>>("outputPayloadToHeader");
        if let Some(header) = payload_header.as_ref().filter(|header| !header.is_empty() && !is_header(header)) {
            refuse_header(header, cx.field("outputPayloadToHeader"));
        }
        let rule = Self {
            position: object.position(),
            audiences: texts(&object, "audiences"),
            from_headers: object.list("fromHeaders"),
            from_params: texts(&object, "fromParams"),
            from_cookies: texts(&object, "fromCookies"),
            output_payload_to_header: payload_header.map(|header| header.value).filter(|header| !header.is_empty()),
            forward_original_token: object.flag("forwardOriginalToken"),
            output_claim_to_headers,
            timeout: object.optional("timeout"),
            space_delimited_claims: texts(&object, "spaceDelimitedClaims"),
            keys: read_keys(&object).unwrap_or(JwtKeys::Inline(String::new())),
            issuer: issuer?.value,
        };
        object.finish();
        Some(rule)
    }
}

/// Exactly one source of keys. `None` if there is a diagnostic about it.
fn read_keys(object: &Object<'_>) -> Option<JwtKeys> {
    let cx = object.cx;
    let inline = object.optional::<Located<String>>("jwks").filter(|jwks| !jwks.is_empty());
    let uri = object.optional::<Located<String>>("jwksUri").filter(|uri| !uri.is_empty());
    match (inline, uri) {
        (Some(_), Some(_)) => {
            cx.field("jwks").invalid(object.key_mark("jwks"), "jwks and jwksUri are both set", "expected one of them");
            None
        }
        (Some(jwks), None) => match Jwks::parse(jwks.as_bytes()) {
            Ok(_) => Some(JwtKeys::Inline(jwks.value)),
            Err(error) => {
                cx.field("jwks").refuse(jwks.position, format!("invalid jwks: {error}"), "expected a JSON Web Key Set");
                None
            }
        },
        (None, Some(uri)) => match JwksUri::parse(&uri) {
            Ok(value) => Some(JwtKeys::Remote(Located { value, position: uri.position })),
            Err(reason) => {
                let message = format!("{:?}: {reason}", uri.value);
                cx.field("jwksUri").refuse(uri.position, message, "expected https://HOST/PATH");
                None
            }
        },
        (None, None) => {
            // An error also for a lenient reader: no token of the issuer would be valid.
            let message =
                "neither jwks nor jwksUri is set, and the discovery of keys by OpenID Connect is not supported yet";
            let error = Diagnostic::error(Code::Unsupported, object.position(), message).label("needs jwks or jwksUri");
            cx.field("jwksUri").report(error.help("see jwks_uri in /.well-known/openid-configuration of the issuer"));
            None
        }
    }
}

/// Texts, none of them empty.
fn texts(object: &Object<'_>, name: &'static str) -> Vec<String> {
    let texts: Vec<Located<String>> = object.list(name);
    for (index, text) in texts.iter().enumerate().filter(|(_, text)| text.is_empty()) {
        let cx = object.cx.field(name);
        cx.index(index).refuse(text.position.clone(), format!("{name} has an empty item"), "expected a text");
    }
    texts.into_iter().map(|text| text.value).collect()
}

impl FromNode for JwtHeader {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let name: Option<Located<String>> = object.required("name");
        if let Some(name) = name.as_ref().filter(|name| !is_header(name)) {
            refuse_header(name, cx.field("name"));
        }
        let prefix = object.optional("prefix").unwrap_or_default();
        object.finish();
        Some(Self { name: name?.value, prefix })
    }
}

impl FromNode for ClaimToHeader {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let header: Option<Located<String>> = object.required("header");
        if let Some(header) = header.as_ref().filter(|header| !is_header(header)) {
            refuse_header(header, cx.field("header"));
        }
        let claim: Option<Located<String>> = object.required("claim");
        if let Some(claim) = claim.as_ref().filter(|claim| claim.is_empty()) {
            cx.field("claim").refuse(claim.position.clone(), "claim is empty", "expected the name of a claim");
        }
        let position = object.position();
        object.finish();
        Some(Self { header: header?.value, claim: claim?.value, position })
    }
}

/// Istio's form of the names of such headers.
fn is_header(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn refuse_header(header: &Located<String>, cx: Context<'_>) {
    let message = format!("{:?} is not the name of a header", header.value);
    cx.refuse(header.position.clone(), message, "expected letters, digits, - and _");
}

/// A header has one claim.
fn check_unique(claims: &[ClaimToHeader], cx: Context<'_>) {
    for (index, claim) in claims.iter().enumerate() {
        if claims[..index].iter().any(|before| before.header.eq_ignore_ascii_case(&claim.header)) {
            let cx = cx.field("outputClaimToHeaders");
            let message = format!("header {:?} has two claims", claim.header);
            cx.index(index).refuse(claim.position.clone(), message, "expected unique headers");
        }
    }
}

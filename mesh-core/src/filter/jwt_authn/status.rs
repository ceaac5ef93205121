//! Why a request is not authenticated.

use http::StatusCode;

/// Why a token, or its absence, does not fulfil a requirement. Texts, and the numbers in metadata, are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtStatus {
    /// No configured location of the request has a token.
    Missed,
    /// `nbf` is in the future.
    NotYetValid,
    /// `exp` is in the past.
    Expired,
    /// Not three sections, or larger than the limit.
    BadFormat,
    /// The header is not base64url.
    HeaderBadBase64,
    /// The header is not a JSON object, has a key twice, or is nested too deeply.
    HeaderBadJson,
    /// `alg` is missing, or not a string.
    HeaderBadAlg,
    /// `alg` is none of those that can be verified.
    HeaderUnknownAlg,
    /// `kid` is not a string.
    HeaderBadKid,
    /// The payload is not base64url.
    PayloadBadBase64,
    /// The payload is not a JSON object, has a key twice, or is nested too deeply.
    PayloadBadJson,
    /// `iss` is not a string.
    IssNotString,
    /// `sub` is not a string.
    SubNotString,
    /// `iat` is not a number.
    IatNotInteger,
    /// `iat` is negative or too large.
    IatOutOfRange,
    /// `nbf` is not a number.
    NbfNotInteger,
    /// `nbf` is negative or too large.
    NbfOutOfRange,
    /// `exp` is not a number.
    ExpNotInteger,
    /// `exp` is negative or too large.
    ExpOutOfRange,
    /// `jti` is not a string.
    JtiNotString,
    /// `aud` is neither a string nor a list of strings.
    AudNotString,
    /// The signature is not base64url.
    SignatureBadBase64,
    /// The signature of EdDSA does not have 64 bytes.
    Ed25519SignatureWrongLength,
    /// The token's issuer is not that of the provider, or of any provider.
    UnknownIssuer,
    /// None of the token's audiences is allowed.
    AudienceNotAllowed,
    /// The signature is wrong, or the token is refused for another reason.
    VerificationFail,
    /// The request has more than one token for a provider.
    MultipleTokens,
    /// The provider has no key.
    JwksNoValidKeys,
    /// No key of the provider fits the token's `kid` and `alg`.
    JwksKidAlgMismatch,
    /// The provider's keys could not be fetched.
    JwksFetchFail,
}

impl JwtStatus {
    /// Envoy's text, which is the body of the response.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "Jwt is missing",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::BadFormat => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Self::HeaderBadBase64 => "Jwt header is an invalid Base64url encoded",
            Self::HeaderBadJson => "Jwt header is an invalid JSON",
            Self::HeaderBadAlg => "Jwt header [alg] field is required and must be a string",
            Self::HeaderUnknownAlg => "Jwt header [alg] is not supported",
            Self::HeaderBadKid => "Jwt header [kid] field is not a string",
            Self::PayloadBadBase64 => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadBadJson => "Jwt payload is an invalid JSON",
            Self::IssNotString => "Jwt payload [iss] field is not a string",
            Self::SubNotString => "Jwt payload [sub] field is not a string",
            Self::IatNotInteger => "Jwt payload [iat] field is not an integer",
            Self::IatOutOfRange => "Jwt payload [iat] field is not a positive 64 bit integer",
            Self::NbfNotInteger => "Jwt payload [nbf] field is not an integer",
            Self::NbfOutOfRange => "Jwt payload [nbf] field is not a positive 64 bit integer",
            Self::ExpNotInteger => "Jwt payload [exp] field is not an integer",
            Self::ExpOutOfRange => "Jwt payload [exp] field is not a positive 64 bit integer",
            Self::JtiNotString => "Jwt payload [jti] field is not a string",
            Self::AudNotString => "Jwt payload [aud] field is not a string or string list",
            Self::SignatureBadBase64 => "Jwt signature is an invalid Base64url encoded",
            Self::Ed25519SignatureWrongLength => "Jwt ED25519 signature is wrong length",
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::AudienceNotAllowed => "Audiences in Jwt are not allowed",
            Self::VerificationFail => "Jwt verification fails",
            Self::MultipleTokens => "Found multiple Jwt tokens",
            Self::JwksNoValidKeys => "Jwks doesn't have any valid public key",
            Self::JwksKidAlgMismatch => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::JwksFetchFail => "Jwks remote fetch is failed",
        }
    }

    /// Envoy's number for it, in the metadata of `failed_status_in_metadata`.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Missed => 1,
            Self::NotYetValid => 2,
            Self::Expired => 3,
            Self::BadFormat => 4,
            Self::HeaderBadBase64 => 5,
            Self::HeaderBadJson => 6,
            Self::HeaderBadAlg => 7,
            Self::HeaderUnknownAlg => 8,
            Self::HeaderBadKid => 9,
            Self::PayloadBadBase64 => 10,
            Self::PayloadBadJson => 11,
            Self::IssNotString => 12,
            Self::SubNotString => 13,
            Self::IatNotInteger => 14,
            Self::IatOutOfRange => 15,
            Self::NbfNotInteger => 16,
            Self::NbfOutOfRange => 17,
            Self::ExpNotInteger => 18,
            Self::ExpOutOfRange => 19,
            Self::JtiNotString => 20,
            Self::AudNotString => 21,
            Self::SignatureBadBase64 => 22,
            Self::Ed25519SignatureWrongLength => 23,
            Self::UnknownIssuer => 24,
            Self::AudienceNotAllowed => 25,
            Self::VerificationFail => 26,
            Self::MultipleTokens => 27,
            Self::JwksNoValidKeys => 31,
            Self::JwksKidAlgMismatch => 32,
            Self::JwksFetchFail => 40,
        }
    }

    /// The status of the response: 403 if only the audience is wrong, else 401.
    #[must_use]
    pub const fn http_status(self) -> StatusCode {
        match self {
            Self::AudienceNotAllowed => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

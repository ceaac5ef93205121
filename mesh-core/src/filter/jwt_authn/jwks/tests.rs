use super::*;

fn encoded(length: usize) -> String {
    URL_SAFE_NO_PAD.encode(vec![1; length])
}

fn rsa(more: &str) -> String {
    format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"{more}}}"#, encoded(256))
}

fn ec(crv: &str, length: usize, more: &str) -> String {
    let coordinate = encoded(length);
    format!(r#"{{"kty":"EC","crv":"{crv}","x":"{coordinate}","y":"{coordinate}"{more}}}"#)
}

fn set(keys: &[String]) -> Result<Jwks, JwksError> {
    Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
}

/// The positions of the keys that may have signed a token.
fn chosen(keys: &[String], header: &str) -> Result<Vec<usize>, JwtStatus> {
    let token = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"));
    let (jwks, jwt) = (set(keys).unwrap(), Jwt::parse(&token).unwrap());
    jwks.candidates(&jwt).map(Iterator::collect)
}

#[test]
fn a_key_is_chosen_by_kid_and_alg() {
    let keys = [rsa(r#","kid":"a""#), rsa(r#","kid":"b","alg":"PS256""#), ec("P-256", 32, r#","kid":"c""#)];
    for (header, expected) in [
        (r#"{"alg":"RS256","kid":"a"}"#, Ok(vec![0])),
        (r#"{"alg":"PS256","kid":"a"}"#, Ok(vec![0])),
        (r#"{"alg":"PS256","kid":"b"}"#, Ok(vec![1])),
        (r#"{"alg":"RS256","kid":"b"}"#, Err(JwtStatus::JwksKidAlgMismatch)),
        (r#"{"alg":"ES256","kid":"c"}"#, Ok(vec![2])),
        (r#"{"alg":"ES384","kid":"c"}"#, Err(JwtStatus::JwksKidAlgMismatch)),
        (r#"{"alg":"RS256","kid":"c"}"#, Err(JwtStatus::JwksKidAlgMismatch)),
        (r#"{"alg":"RS256","kid":"../../etc/passwd"}"#, Err(JwtStatus::JwksKidAlgMismatch)),
        (r#"{"alg":"RS256","kid":"A"}"#, Err(JwtStatus::JwksKidAlgMismatch)),
        (r#"{"alg":"HS256","kid":"a"}"#, Err(JwtStatus::JwksKidAlgMismatch)),
        (r#"{"alg":"ES256"}"#, Ok(vec![2])),
        (r#"{"alg":"RS256"}"#, Ok(vec![0])),
        (r#"{"alg":"PS256"}"#, Err(JwtStatus::JwksKidAlgMismatch)),
        (r#"{"alg":"EdDSA"}"#, Err(JwtStatus::JwksKidAlgMismatch)),
    ] {
        assert_eq!(chosen(&keys, header), expected, "{header}");
    }
}

#[test]
fn keys_without_kid_fit_every_kid() {
    let keys = [rsa(""), rsa(r#","kid":"b""#)];
    assert_eq!(chosen(&keys, r#"{"alg":"RS256","kid":"a"}"#), Ok(vec![0]));
    assert_eq!(chosen(&keys, r#"{"alg":"RS256","kid":"b"}"#), Ok(vec![0, 1]));
}

#[test]
fn a_kid_that_no_key_has_is_known() {
    let lacks = |keys: &[String], header: &str| {
        let token = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"));
        set(keys).unwrap().lacks_kid_of(&Jwt::parse(&token).unwrap())
    };
    let keys = [rsa(r#","kid":"a""#), rsa(r#","kid":"b""#)];
    assert!(lacks(&keys, r#"{"alg":"RS256","kid":"c"}"#));
    assert!(!lacks(&keys, r#"{"alg":"ES256","kid":"a"}"#) && !lacks(&keys, r#"{"alg":"RS256"}"#));
    assert!(!lacks(&[rsa("")], r#"{"alg":"RS256","kid":"c"}"#));
}

#[test]
fn keys_that_cannot_verify_are_left_out() {
    let oct = |more: &str| format!(r#"{{"kty":"oct","k":"AAAA"{more}}}"#);
    let okp = |crv: &str, length: usize| format!(r#"{{"kty":"OKP","crv":"{crv}","x":"{}"}}"#, encoded(length));
    for (key, expected) in [
        (rsa(r#","use":"enc""#), JwkError::NotForSignatures),
        (rsa(r#","use":["sig"]"#), JwkError::NotForSignatures),
        (rsa(r#","key_ops":["sign"]"#), JwkError::NotForSignatures),
        (rsa(r#","key_ops":"verify""#), JwkError::NotForSignatures),
        (rsa(r#","alg":"RSA-OAEP""#), JwkError::Alg),
        (rsa(r#","alg":"HS256""#), JwkError::Alg),
        (rsa(r#","alg":"ES256""#), JwkError::Alg),
        (rsa(r#","kid":1"#), JwkError::NotString),
        (ec("P-256", 32, r#","alg":"ES384""#), JwkError::Alg),
        (ec("P-256", 31, ""), JwkError::Material),
        (ec("P-224", 28, ""), JwkError::Crv),
        (okp("X25519", 32), JwkError::Crv),
        (okp("Ed25519", 31), JwkError::Material),
        (oct(r#","alg":"RS256""#), JwkError::Alg),
        (oct("").replace("AAAA", ""), JwkError::Material),
        (oct("").replace("AAAA", "AA=="), JwkError::Material),
        (rsa("").replace("AQAB", "AA"), JwkError::Material),
        (rsa("").replace(r#""e":"AQAB""#, r#""x":1"#), JwkError::Material),
        (rsa("").replace("RSA", "rsa"), JwkError::Kty),
        ("{}".to_owned(), JwkError::Kty),
        ("1".to_owned(), JwkError::Kty),
    ] {
        assert_eq!(set(std::slice::from_ref(&key)), Err(JwksError::NoValidKeys(Some(expected))), "{key}");
        assert_eq!(set(&[key, rsa("")]).unwrap().keys().len(), 1);
    }
    let all = [
        rsa(r#","use":"sig","key_ops":["verify"],"alg":"PS512""#),
        ec("P-384", 48, ""),
        ec("P-521", 66, ""),
        ec("secp256k1", 32, r#","alg":"ES256K""#),
        okp("Ed25519", 32),
        oct(r#","alg":"HS384""#),
    ];
    assert_eq!(set(&all).unwrap().keys().len(), all.len());
}

#[test]
fn a_set_has_limits() {
    assert_eq!(Jwks::parse(b""), Err(JwksError::NotJson));
    assert_eq!(Jwks::parse(br#"{"keys":[],"keys":[]}"#), Err(JwksError::NotJson));
    assert_eq!(Jwks::parse(b"{}"), Err(JwksError::NoKeys));
    assert_eq!(Jwks::parse(br#"{"keys":{}}"#), Err(JwksError::NoKeys));
    assert_eq!(Jwks::parse(br#"{"keys":[]}"#), Err(JwksError::NoValidKeys(None)));
    let many = vec![ec("P-256", 32, ""); MAX_JWKS_KEYS + 1];
    assert_eq!(set(&many), Err(JwksError::TooManyKeys(MAX_JWKS_KEYS + 1)));
    assert_eq!(set(&many[1..]).unwrap().keys().len(), MAX_JWKS_KEYS);
    let large = vec![b' '; MAX_JWKS_BYTES + 1];
    assert_eq!(Jwks::parse(&large), Err(JwksError::TooLarge(large.len())));
}

#[test]
fn secrets_are_not_printed() {
    let jwks = set(&[r#"{"kty":"oct","k":"c2VjcmV0","kid":"k"}"#.to_owned()]).unwrap();
    assert_eq!(format!("{:?}", jwks.keys()[0].key), "oct");
}

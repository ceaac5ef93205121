//! The examples of RFC 7515 (appendix A), RFC 7520 (section 4) and RFC 8037 (appendix A.4), and forgeries.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mesh_core::model::MetadataValue;

use super::*;

const HS256_KEY: &str =
    r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
const RS256_KEY: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
const ES256_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ES512_KEY: &str = r#"{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#;
const BILBO_RSA: &str = r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","e":"AQAB","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"}"#;
const BILBO_EC: &str = r#"{"kty":"EC","kid":"bilbo.baggins@hobbiton.example","use":"sig","crv":"P-521","x":"AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt","y":"AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"}"#;
const COOKBOOK_OCT: &str = r#"{"kty":"oct","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037","use":"sig","alg":"HS256","k":"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}"#;
const ED25519_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const ROAD: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";

/// Section, key, algorithm, `kid`, header, payload, signature.
type Example = (&'static str, &'static str, Algorithm, &'static str, &'static str, &'static str, &'static str);

const BILBO: &str = "bilbo.baggins@hobbiton.example";

const EXAMPLES: [Example; 9] = [
    (
        "7515 A.1",
        HS256_KEY,
        Algorithm::Hs256,
        "",
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        JOE,
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    (
        "7515 A.2",
        RS256_KEY,
        Algorithm::Rs256,
        "",
        "eyJhbGciOiJSUzI1NiJ9",
        JOE,
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    (
        "7515 A.3",
        ES256_KEY,
        Algorithm::Es256,
        "",
        "eyJhbGciOiJFUzI1NiJ9",
        JOE,
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
    (
        "7515 A.4",
        ES512_KEY,
        Algorithm::Es512,
        "",
        "eyJhbGciOiJFUzUxMiJ9",
        "UGF5bG9hZA",
        "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
    ),
    (
        "7520 4.1",
        BILBO_RSA,
        Algorithm::Rs256,
        BILBO,
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        ROAD,
        "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
    ),
    (
        "7520 4.2",
        BILBO_RSA,
        Algorithm::Ps384,
        BILBO,
        "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        ROAD,
        "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
    ),
    (
        "7520 4.3",
        BILBO_EC,
        Algorithm::Es512,
        BILBO,
        "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        ROAD,
        "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2",
    ),
    (
        "7520 4.4",
        COOKBOOK_OCT,
        Algorithm::Hs256,
        "018c0ae5-4d9b-471b-bfd6-eef314bc7037",
        "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
        ROAD,
        "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
    ),
    (
        "8037 A.4",
        ED25519_KEY,
        Algorithm::EdDsa,
        "",
        "eyJhbGciOiJFZERTQSJ9",
        "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    ),
];

fn keys(keys: &[&str]) -> VerificationKeys {
    VerificationKeys::new(Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap())
}

/// A token with a payload of any kind, as in the examples of the RFCs.
fn jwt(algorithm: Algorithm, kid: &str, signature: Vec<u8>) -> Jwt {
    let text = "eyJhbGciOiJSUzI1NiJ9.e30.AAAA";
    let mut jwt = Jwt::parse(text).unwrap();
    (jwt.algorithm, jwt.header, jwt.payload) = (algorithm, MetadataValue::Null, MetadataValue::Null);
    jwt.kid = (!kid.is_empty()).then(|| kid.into());
    jwt.signature = signature.into();
    jwt
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[test]
fn the_examples_of_the_standards_are_valid() {
    for (name, key, algorithm, kid, header, payload, signature) in EXAMPLES {
        let (keys, signed) = (keys(&[key]), format!("{header}.{payload}"));
        let token = jwt(algorithm, kid, decode(signature));
        assert_eq!(keys.verify(&token, &signed), Ok(()), "{name}");
        assert_eq!(keys.verify(&token, &format!("{signed}A")), Err(JwtStatus::VerificationFail), "{name}");
        for position in [0, token.signature.len() / 2, token.signature.len() - 1] {
            let mut forged = token.signature.to_vec();
            forged[position] ^= 1;
            let forged = jwt(algorithm, kid, forged);
            assert_eq!(keys.verify(&forged, &signed), Err(JwtStatus::VerificationFail), "{name} at {position}");
        }
        let other = if kid.is_empty() { "other" } else { "" };
        let of_other_kid = keys.verify(&jwt(algorithm, &format!("{kid}x"), decode(signature)), &signed);
        let expected = if other == "other" { Ok(()) } else { Err(JwtStatus::JwksKidAlgMismatch) };
        assert_eq!(of_other_kid, expected, "{name}: a key without kid fits every kid");
    }
}

#[test]
fn a_signature_of_a_wrong_length_is_invalid() {
    for (name, key, algorithm, kid, header, payload, signature) in EXAMPLES {
        let (keys, signed, signature) = (keys(&[key]), format!("{header}.{payload}"), decode(signature));
        for wrong in [vec![], signature[..signature.len() - 1].to_vec(), [&signature[..], &[0]].concat()] {
            let result = keys.verify(&jwt(algorithm, kid, wrong), &signed);
            let expected = match algorithm {
                Algorithm::EdDsa => JwtStatus::Ed25519SignatureWrongLength,
                _ => JwtStatus::VerificationFail,
            };
            assert_eq!(result, Err(expected), "{name}");
        }
    }
}

#[test]
fn a_public_key_is_never_the_secret_of_an_hmac() {
    let modulus = decode(RS256_KEY.split('"').nth(11).unwrap());
    let signed = format!("eyJhbGciOiJIUzI1NiJ9.{JOE}");
    for secret in [&modulus[..], RS256_KEY.as_bytes()] {
        let forged = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        let token = jwt(Algorithm::Hs256, "", forged.as_ref().to_vec());
        assert_eq!(keys(&[RS256_KEY]).verify(&token, &signed), Err(JwtStatus::JwksKidAlgMismatch));
    }
}

#[test]
fn each_curve_has_its_algorithm() {
    let curves: [(&str, Algorithm, &'static EcdsaSigningAlgorithm); 4] = [
        ("P-256", Algorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
        ("P-384", Algorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        ("P-521", Algorithm::Es512, &ECDSA_P521_SHA512_FIXED_SIGNING),
        ("secp256k1", Algorithm::Es256k, &ECDSA_P256K1_SHA256_FIXED_SIGNING),
    ];
    for (curve, algorithm, signing) in curves {
        let pair = EcdsaKeyPair::generate(signing).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let keys = keys(&[&format!(r#"{{"kty":"EC","crv":"{curve}","x":"{x}","y":"{y}"}}"#)]);
        let signature = pair.sign(&SystemRandom::new(), b"a.b").unwrap().as_ref().to_vec();
        assert_eq!(keys.verify(&jwt(algorithm, "", signature.clone()), "a.b"), Ok(()), "{curve}");
        assert_eq!(keys.verify(&jwt(algorithm, "", signature.clone()), "a.c"), Err(JwtStatus::VerificationFail));
        let zero = vec![0; signature.len()];
        assert_eq!(keys.verify(&jwt(algorithm, "", zero), "a.b"), Err(JwtStatus::VerificationFail), "r = s = 0");
        let other = if algorithm == Algorithm::Es256 { Algorithm::Es256k } else { Algorithm::Es256 };
        assert_eq!(keys.verify(&jwt(other, "", signature), "a.b"), Err(JwtStatus::JwksKidAlgMismatch));
    }
}

#[test]
fn keys_that_the_library_refuses_verify_nothing() {
    let short = format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}"}}"#, URL_SAFE_NO_PAD.encode([0xff; 128]));
    let off_curve = ES256_KEY.replace("f83O", "f83P");
    for key in [&short, &off_curve] {
        let refused = keys(&[key]);
        assert!(!refused.any_usable(), "{key}");
        assert!(keys(&[key, HS256_KEY]).any_usable());
    }
}

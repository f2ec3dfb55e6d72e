//! Verification as a whole: vectors of the RFCs, another implementation as oracle, the decision table, mutations.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// 2023-11-14T22:13:20Z.
const NOW: u64 = 1_700_000_000_000;
const NOW_S: i64 = 1_700_000_000;
const SECRET: &str = "gM5vQ8rT2yW4zX6bN1cK9dF3hJ7lP0sA";
const OTHER_SECRET: &str = "Zx7Yw3Vu9Ts5Rq1Po8Nm4Lk2Ji6Hg0Fe";

fn secret_source(secret: &str, algorithms: &[&str]) -> KeySource {
    KeySource { algorithms: names(algorithms), keys: SourceKeys::Secret(Secret::new(secret)) }
}

fn set_source(jwks: Option<Value>, algorithms: &[&str]) -> KeySource {
    KeySource { algorithms: names(algorithms), keys: SourceKeys::Set(jwks.map(key_set)) }
}

fn key_set(keys: Value) -> KeySet {
    let jwks = Jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    KeySet { jwks: Arc::new(jwks), fetched_at: NOW - 60_000 }
}

fn names(algorithms: &[&str]) -> Vec<String> {
    algorithms.iter().map(|&name| name.to_owned()).collect()
}

fn verifier(options: &Jwt, source: KeySource) -> JwtVerifier {
    JwtVerifier::new(options, vec![source]).unwrap()
}

fn hs256(options: &Jwt) -> JwtVerifier {
    verifier(options, secret_source(SECRET, &["HS256"]))
}

fn map(claims: Value) -> Map<String, Value> {
    let Value::Object(claims) = claims else { panic!("an object") };
    claims
}

fn token(claims: Value) -> String {
    sign_hmac(SECRET.as_bytes(), Algorithm::Hs256, &map(claims)).unwrap().expose().to_owned()
}

/// A token with this header and payload, signed with [`SECRET`] by HS256 whatever the header says.
fn raw_token(header: &str, payload: &str) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn refusal(verifier: &JwtVerifier, token: &str) -> JwtRefusal {
    verifier.verify(token, NOW).unwrap_err()
}

#[track_caller]
fn check_refused(verifier: &JwtVerifier, token: &str, diagnosis: &str, text: &str) -> JwtRefusal {
    let refusal = refusal(verifier, token);
    assert_eq!((refusal.diagnosis(), refusal.client_text()), (diagnosis, text), "{refusal:?}");
    refusal
}

mod vectors {
    use super::*;

    /// RFC 7515, appendix A.2.
    const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const RS256: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    /// RFC 7515, appendix A.3.
    const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    /// RFC 7515, appendix A.1: the key as base64url, and the token.
    const HS256_KEY: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const HS256: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    /// RFC 8037, appendix A.4. Its payload is no JSON, so the signature alone is checked.
    const EDDSA_INPUT: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    const EDDSA_SIGNATURE: &str =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    const EDDSA_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const EXP: u64 = 1_300_819_380_000;

    fn check(key: Value, algorithm: &str, token: &str) {
        let mut options = Jwt { leeway: 0, ..Jwt::default() };
        options.claims.user = "iss".to_owned();
        let verifier = verifier(&options, set_source(Some(json!([key])), &[algorithm]));
        let verified = verifier.verify(token, EXP - 1).unwrap();
        assert_eq!((verified.user(), verified.expires_at()), ("joe", Some(EXP)));
        assert_eq!(verified.claims()["http://example.com/is_root"], json!(true));
        assert_eq!(verifier.verify(token, EXP).unwrap_err().diagnosis(), "jwt.expired");
    }

    #[test]
    fn rfc_7515_rs256() {
        check(json!({ "kty": "RSA", "n": RSA_N, "e": "AQAB" }), "RS256", RS256);
    }

    #[test]
    fn rfc_7515_es256() {
        let (x, y) =
            ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        check(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }), "ES256", ES256);
    }

    #[test]
    fn rfc_7515_hs256() {
        check(json!({ "kty": "oct", "k": HS256_KEY }), "HS256", HS256);
    }

    #[test]
    fn rfc_8037_eddsa() {
        let set = key_set(json!([{ "kty": "OKP", "crv": "Ed25519", "x": EDDSA_X }]));
        let key = set.jwks.candidates(None, Algorithm::EdDsa).next().unwrap();
        let signature = URL_SAFE_NO_PAD.decode(EDDSA_SIGNATURE).unwrap();
        assert!(key.verify(Algorithm::EdDsa, EDDSA_INPUT.as_bytes(), &signature));
        assert!(!key.verify(Algorithm::EdDsa, &EDDSA_INPUT.as_bytes()[1..], &signature));
        // A right signature under a name that is not the key's is none.
        assert!(!key.verify(Algorithm::Es256, EDDSA_INPUT.as_bytes(), &signature));
        assert!(!key.verify(Algorithm::EdDsa, EDDSA_INPUT.as_bytes(), &signature[1..]));
    }
}

/// The crate `jsonwebtoken` signs, we verify.
mod oracle {
    use super::*;

    fn check(key: &EncodingKey, jwk: Value, algorithms: &[jsonwebtoken::Algorithm]) {
        let set = json!([{ "kty": "other" }, jwk]);
        for &algorithm in algorithms {
            let name = format!("{algorithm:?}");
            let verifier = verifier(&Jwt::default(), set_source(Some(set.clone()), &[&name]));
            for kid in [None, Some("k1".to_owned())] {
                let header = jsonwebtoken::Header { kid, ..jsonwebtoken::Header::new(algorithm) };
                let token = jsonwebtoken::encode(&header, &json!({ "sub": "u1" }), key).unwrap();
                assert_eq!(verifier.verify(&token, NOW).unwrap().user(), "u1", "{name}");
                let forged = jsonwebtoken::encode(&header, &json!({ "sub": "u2" }), key).unwrap();
                let spliced =
                    [&forged[..forged.rfind('.').unwrap()], &token[token.rfind('.').unwrap()..]].concat();
                check_refused(&verifier, &spliced, "jwt.signature", "Invalid token");
            }
        }
    }

    fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> (EncodingKey, Vec<u8>) {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        (EncodingKey::from_ec_der(der.as_ref()), pair.public_key().as_ref().to_vec())
    }

    fn ec_jwk(curve: &str, point: &[u8]) -> Value {
        let (x, y) = point[1..].split_at(point.len() / 2);
        json!({ "kty": "EC", "kid": "k1", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
    }

    #[test]
    fn rsa() {
        use jsonwebtoken::Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'static>>::as_der(&pair).unwrap();
        let components: RsaPublicKeyComponents<Vec<u8>> = pair.public_key().into();
        let jwk = json!({
            "kty": "RSA", "kid": "k1",
            "n": URL_SAFE_NO_PAD.encode(&components.n), "e": URL_SAFE_NO_PAD.encode(&components.e),
        });
        let key = EncodingKey::from_rsa_der(pkcs1(der.as_ref()));
        check(&key, jwk, &[RS256, RS384, RS512, PS256, PS384, PS512]);
    }

    #[test]
    fn ecdsa() {
        let (key, point) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
        check(&key, ec_jwk("P-256", &point), &[jsonwebtoken::Algorithm::ES256]);
        let (key, point) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING);
        check(&key, ec_jwk("P-384", &point), &[jsonwebtoken::Algorithm::ES384]);
    }

    #[test]
    fn eddsa() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let jwk = json!({ "kty": "OKP", "kid": "k1", "crv": "Ed25519", "x": x });
        check(&EncodingKey::from_ed_der(der.as_ref()), jwk, &[jsonwebtoken::Algorithm::EdDSA]);
    }

    #[test]
    fn hmac_both_ways() {
        use jsonwebtoken::{Algorithm as Theirs, DecodingKey, Validation};
        for (ours, theirs) in [
            (Algorithm::Hs256, Theirs::HS256),
            (Algorithm::Hs384, Theirs::HS384),
            (Algorithm::Hs512, Theirs::HS512),
        ] {
            let claims = json!({ "sub": "u1", "exp": 4_000_000_000_u64 });
            let verifier = verifier(&Jwt::default(), secret_source(SECRET, &[ours.as_str()]));
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            let token = jsonwebtoken::encode(&jsonwebtoken::Header::new(theirs), &claims, &key).unwrap();
            assert_eq!(verifier.verify(&token, NOW).unwrap().user(), "u1");
            let token = verifier.sign(&map(claims.clone())).unwrap();
            let key = DecodingKey::from_secret(SECRET.as_bytes());
            let read = jsonwebtoken::decode::<Value>(token.expose(), &key, &Validation::new(theirs)).unwrap();
            assert_eq!(read.claims, claims);
        }
    }

    /// The RSAPrivateKey inside a PKCS #8 document: what begins at the last `30 82` in front of a version 0.
    fn pkcs1(pkcs8: &[u8]) -> &[u8] {
        let start = pkcs8.windows(7).rposition(|bytes| bytes[..2] == [0x30, 0x82] && bytes[4..] == [2, 1, 0]);
        &pkcs8[start.unwrap()..]
    }
}

// S3-12: identity from the claims; a number is used in decimal form.
#[test]
fn claims_become_an_identity() {
    let options = Jwt { default_role: "tourist".to_owned(), ..Jwt::default() };
    let verifier = hs256(&options);
    let claims = json!({
        "sub": 42, "role": ["staff", "", 7, "admin"], "sid": "s1", "jti": "t1", "exp": NOW_S + 60, "iat": NOW_S,
        "nbf": NOW_S, "email": "a@example.com", "perms": ["x"], "aud": "ws", "iss": "me",
    });
    let verified = verifier.verify(&token(claims), NOW).unwrap();
    assert_eq!(verified.claims()["sub"], json!(42));
    let identity = verified.into_identity();
    assert_eq!(identity.user.as_deref(), Some("42"));
    assert_eq!(identity.roles, ["staff", "admin"]);
    assert!(!identity.has_default_role);
    assert_eq!(identity.session.as_deref(), Some("s1"));
    assert_eq!(identity.token_id.as_deref(), Some("t1"));
    assert_eq!(identity.auth, AuthKind::Jwt);
    // S3-16: it holds until exp + leeway.
    assert_eq!(identity.expires_at, Some(NOW + 90_000));
    assert_eq!(identity.channels, None);
    assert_eq!(identity.claims.keys().collect::<Vec<_>>(), ["aud", "email", "iss", "perms"]);
    assert!(identity.has_permission("x"));

    let identity =
        verifier.verify(&token(json!({ "sub": "u", "role": "staff" })), NOW).unwrap().into_identity();
    assert_eq!(
        (identity.roles, identity.expires_at, identity.token_id),
        (vec!["staff".to_owned()], None, None)
    );
    for role in [json!(null), json!(""), json!([]), json!({ "a": 1 })] {
        let verified = verifier.verify(&token(json!({ "sub": "u", "role": role })), NOW).unwrap();
        assert_eq!(verified.roles(), ["tourist"], "{role}");
        // `role.defaulted`: whoever refuses it can say why.
        assert!(verified.into_identity().has_default_role, "{role}");
    }
}

// S3-12: claim names are configurable; a name with dots is a path where no claim has that name.
#[test]
fn claims_are_found_by_configured_names_and_paths() {
    let mut options = Jwt::default();
    options.claims.user = "user_id".to_owned();
    options.claims.roles = "realm_access.roles".to_owned();
    options.claims.session = String::new();
    options.claims.required = vec!["email".to_owned(), "https://a.example/org".to_owned()];
    let claims = json!({
        "user_id": "u", "realm_access": { "roles": ["a"] }, "email": "e", "https://a.example/org": 1, "sid": "s",
    });
    let verified = hs256(&options).verify(&token(claims), NOW).unwrap();
    assert_eq!((verified.user(), verified.roles()), ("u", ["a".to_owned()].as_slice()));
    let identity = verified.into_identity();
    assert_eq!(identity.session, None);
    assert!(identity.claims.contains_key("sid") && identity.claims.contains_key("realm_access"));
}

// S3-12: `sub`, and what is required, must be there and not empty.
#[test]
fn missing_claims_are_named() {
    let mut options = Jwt::default();
    options.claims.required = vec!["email".to_owned(), "sub".to_owned()];
    options.require_exp = true;
    let verifier = hs256(&options);
    for (claims, missing) in [
        (json!({}), "sub, exp, email"),
        (json!({ "sub": "", "email": " ", "exp": null }), "sub, exp, email"),
        (json!({ "sub": null, "email": [], "exp": NOW_S + 1 }), "sub, email"),
        (json!({ "sub": true, "email": {}, "exp": NOW_S + 1 }), "sub, email"),
        (json!({ "sub": 1.5, "email": "e", "exp": NOW_S + 1 }), "sub"),
        (json!({ "sub": 1e30, "email": "e", "exp": NOW_S + 1 }), "sub"),
        (json!({ "sub": ["a"], "email": "e", "exp": NOW_S + 1 }), "sub"),
        (json!({ "sub": "u", "email": "e" }), "exp"),
    ] {
        let refusal = check_refused(&verifier, &token(claims), "jwt.claims-missing", "Invalid token payload");
        assert_eq!(refusal.facts()[0], ("missing", missing.to_owned()));
        assert_eq!(refusal.status(), 403);
    }
    let claims = json!({ "sub": 18_446_744_073_709_551_615_u64, "email": 0, "exp": NOW_S + 1 });
    assert_eq!(verifier.verify(&token(claims), NOW).unwrap().user(), "18446744073709551615");
    let claims = raw_token(r#"{"alg":"HS256"}"#, r#"{"sub":7.0,"email":"e","exp":1700000001.5}"#);
    assert_eq!(verifier.verify(&claims, NOW).unwrap().user(), "7");
}

// S3-13: `exp`, `nbf` and `iat` with leeway, to the millisecond.
#[test]
fn times_are_checked_with_leeway() {
    let verifier = hs256(&Jwt { leeway: 30, ..Jwt::default() });
    let at = |claims: Value, now: u64| verifier.verify(&token(claims), now);
    let exp = json!({ "sub": "u", "exp": NOW_S });
    assert_eq!(at(exp.clone(), NOW + 29_999).unwrap().expires_at(), Some(NOW + 30_000));
    let refusal = at(exp, NOW + 30_000).unwrap_err();
    assert_eq!((refusal.diagnosis(), refusal.client_text()), ("jwt.expired", "Token expired"));
    assert_eq!(refusal.facts()[..2], [("now", (NOW + 30_000).to_string()), ("leeway", "30000".to_owned())]);
    for claim in ["nbf", "iat"] {
        let claims = json!({ "sub": "u", claim: NOW_S });
        assert!(at(claims.clone(), NOW - 30_000).is_ok());
        let refusal = at(claims, NOW - 30_001).unwrap_err();
        assert_eq!(
            (refusal.diagnosis(), refusal.client_text()),
            ("jwt.not-yet-valid", "Token not yet valid")
        );
        assert_eq!(refusal.facts()[..2], [("claim", claim.to_owned()), ("ahead", "30001".to_owned())]);
    }
    for exp in [json!(-1), json!(-1e300), json!(0), json!(i64::MIN)] {
        assert_eq!(at(json!({ "sub": "u", "exp": exp }), NOW).unwrap_err().diagnosis(), "jwt.expired");
    }
    for exp in [json!(1e300), json!(i64::MAX), json!(u64::MAX)] {
        assert!(at(json!({ "sub": "u", "exp": exp }), NOW).is_ok());
    }
    for (claim, value) in [("exp", json!("1800000000")), ("nbf", json!([])), ("iat", json!(true))] {
        let refusal = at(json!({ "sub": "u", claim: value }), NOW).unwrap_err();
        assert_eq!((refusal.diagnosis(), refusal.client_text()), ("jwt.malformed", "Invalid token"));
        assert_eq!(refusal.facts()[0].1, format!("the claim {claim} is of another type"));
    }
}

// S3-13: `iss` and `aud` are checked when configured, and only then.
#[test]
fn issuer_and_audience_are_checked_when_configured() {
    let options =
        Jwt { issuer: Some("https://me".to_owned()), audience: Some("ws".to_owned()), ..Jwt::default() };
    let verifier = hs256(&options);
    let claims = |iss: Value, aud: Value| token(json!({ "sub": "u", "iss": iss, "aud": aud }));
    for aud in [json!("ws"), json!(["a", "ws"])] {
        assert!(verifier.verify(&claims(json!("https://me"), aud.clone()), NOW).is_ok());
        let other = claims(json!("https://you"), aud);
        let refusal = check_refused(&verifier, &other, "jwt.issuer", "Invalid token");
        assert_eq!(refusal.facts()[1], ("expected", "https://me".to_owned()));
        assert!(hs256(&Jwt::default()).verify(&other, NOW).is_ok());
    }
    for iss in [json!(null), json!(["https://me"]), json!(7)] {
        check_refused(&verifier, &claims(iss, json!("ws")), "jwt.issuer", "Invalid token");
    }
    for aud in [json!(null), json!("w"), json!([]), json!(["w", 7]), json!({ "ws": 1 })] {
        check_refused(&verifier, &claims(json!("https://me"), aud), "jwt.audience", "Invalid token");
    }
}

// S3-10: `none` always, and every algorithm that is not on the list of the key.
#[test]
fn algorithms_off_the_list_are_refused() {
    let options = Jwt::default();
    let payload = r#"{"sub":"u"}"#;
    for alg in ["none", "None", "HS384", "RS256", "ES256", "", "HS256 "] {
        let token = raw_token(&json!({ "alg": alg }).to_string(), payload);
        let refusal = check_refused(&hs256(&options), &token, "jwt.alg-not-allowed", "Invalid token");
        assert_eq!(refusal.token.unwrap().algorithm, alg);
    }
    let unsigned = raw_token(r#"{"alg":"none"}"#, payload);
    let unsigned = &unsigned[..=unsigned.rfind('.').unwrap()];
    check_refused(&hs256(&options), unsigned, "jwt.alg-not-allowed", "Invalid token");
    // The same secret, permitted for another algorithm only.
    let verifier = verifier(&options, secret_source(SECRET, &["HS512"]));
    check_refused(
        &verifier,
        &raw_token(r#"{"alg":"HS256"}"#, payload),
        "jwt.alg-not-allowed",
        "Invalid token",
    );
}

/// A public key must not become an HMAC secret, the oldest trick against verifiers.
#[test]
fn a_public_key_is_no_secret() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let set = json!([{ "kty": "OKP", "kid": "k", "crv": "Ed25519", "x": x }]);
    let verifier = JwtVerifier::new(
        &Jwt::default(),
        vec![set_source(Some(set), &["EdDSA", "HS256"]), secret_source(SECRET, &["HS256"])],
    )
    .unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(x).unwrap();
    for secret in [x.as_bytes(), &bytes] {
        let token = sign_hmac(secret, Algorithm::Hs256, &map(json!({ "sub": "u" }))).unwrap();
        check_refused(&verifier, token.expose(), "jwt.signature", "Invalid token");
    }
}

// S3-10: several secrets: the first signs, all verify.
#[test]
fn secrets_rotate() {
    let keys = |secrets: &[&str]| secrets.iter().map(|secret| secret_source(secret, &["HS256"])).collect();
    let old = JwtVerifier::new(&Jwt::default(), keys(&[SECRET])).unwrap();
    let both = JwtVerifier::new(&Jwt::default(), keys(&[OTHER_SECRET, SECRET])).unwrap();
    let new = JwtVerifier::new(&Jwt::default(), keys(&[OTHER_SECRET])).unwrap();
    let claims = map(json!({ "sub": "u" }));
    let (by_old, by_both) = (old.sign(&claims).unwrap(), both.sign(&claims).unwrap());
    assert!(both.verify(by_old.expose(), NOW).is_ok() && both.verify(by_both.expose(), NOW).is_ok());
    assert!(new.verify(by_both.expose(), NOW).is_ok());
    check_refused(&new, by_old.expose(), "jwt.signature", "Invalid token");
    check_refused(&old, by_both.expose(), "jwt.signature", "Invalid token");
    // A `kid` does not keep a secret from being tried: secrets have no id.
    let with_kid = raw_token(r#"{"alg":"HS256","kid":"x"}"#, r#"{"sub":"u"}"#);
    assert!(both.verify(&with_kid, NOW).is_ok());
}

fn oct(kid: &str, secret: &str) -> Value {
    json!({ "kty": "oct", "kid": kid, "k": URL_SAFE_NO_PAD.encode(secret), "alg": "HS256" })
}

// S3-11: sets are exchanged; an unknown key asks for a refresh; only an empty set is 503.
#[test]
fn key_sets_are_exchanged() {
    let token = raw_token(r#"{"alg":"HS256","kid":"new"}"#, r#"{"sub":"u"}"#);
    let before = verifier(&Jwt::default(), set_source(None, &["HS256"]));
    let refusal = check_refused(&before, &token, "jwt.jwks-unreachable", "Service unavailable");
    assert!(refusal.status() == 503 && refusal.needs_refresh());
    let empty = before.with_set(0, key_set(json!([]))).unwrap();
    check_refused(&empty, &token, "jwt.jwks-unreachable", "Service unavailable");

    let old = before.with_set(0, key_set(json!([oct("old", OTHER_SECRET)]))).unwrap();
    let refusal = check_refused(&old, &token, "jwt.unknown-key", "Invalid token");
    assert!(refusal.status() == 403 && refusal.needs_refresh());
    assert_eq!(refusal.facts()[0], ("keys_fetched_at", (NOW - 60_000).to_string()));
    assert!(refusal.facts().contains(&("kid", "new".to_owned())));

    let new = old.with_set(0, key_set(json!([oct("old", OTHER_SECRET), oct("new", SECRET)]))).unwrap();
    assert!(new.verify(&token, NOW).is_ok());
    assert_eq!(new.set(0).unwrap().jwks.len(), 2);
    // The verifier in use meanwhile is what it was.
    assert_eq!(old.verify(&token, NOW).unwrap_err().diagnosis(), "jwt.unknown-key");
    // Without an id every key is tried; with the id of another key only that one.
    assert!(new.verify(&raw_token(r#"{"alg":"HS256"}"#, r#"{"sub":"u"}"#), NOW).is_ok());
    let other = raw_token(r#"{"alg":"HS256","kid":"old"}"#, r#"{"sub":"u"}"#);
    let refusal = check_refused(&new, &other, "jwt.signature", "Invalid token");
    assert!(!refusal.needs_refresh());
    // The key is known, and for another algorithm.
    let bound = verifier(&Jwt::default(), set_source(Some(json!([oct("new", SECRET)])), &["HS256", "HS512"]));
    let other = raw_token(r#"{"alg":"HS512","kid":"new"}"#, r#"{"sub":"u"}"#);
    check_refused(&bound, &other, "jwt.alg-not-allowed", "Invalid token");
    assert_eq!(new.sign(&map(json!({}))).unwrap_err(), JwtSignError::NoSecret);
}

// S3-11: a set that is absent does not matter to tokens that another key verifies.
#[test]
fn an_absent_set_does_not_stop_a_secret() {
    let keys = vec![set_source(None, &["RS256"]), secret_source(SECRET, &["HS256"])];
    let verifier = JwtVerifier::new(&Jwt::default(), keys).unwrap();
    assert!(verifier.verify(&token(json!({ "sub": "u" })), NOW).is_ok());
    let rs256 = raw_token(r#"{"alg":"RS256"}"#, r#"{"sub":"u"}"#);
    check_refused(&verifier, &rs256, "jwt.jwks-unreachable", "Service unavailable");
}

// S3-10: weak secrets make the start fail unless allowed; all problems are told, no secret is.
#[test]
fn bad_configurations_are_refused_with_all_problems() {
    let options = Jwt { leeway: 301, ..Jwt::default() };
    let keys = vec![
        secret_source("hunter2", &["HS256"]),
        secret_source(SECRET, &["HS256", "none", "RS256"]),
        set_source(None, &[]),
        set_source(Some(json!([oct("a", "short")])), &["HS256"]),
        set_source(Some(json!([oct("a", "short")])), &["RS256"]),
        secret_source("", &["HS256"]),
    ];
    let errors = JwtVerifier::new(&options, keys.clone()).unwrap_err();
    assert_eq!(
        errors,
        [
            JwtConfigError::Leeway { leeway: 301 },
            JwtConfigError::WeakSecret { key: 0, problem: WeakSecret::Short },
            JwtConfigError::UnknownAlgorithm { key: 1, name: "none".to_owned() },
            JwtConfigError::NotHmac { key: 1, algorithm: Algorithm::Rs256 },
            JwtConfigError::NoAlgorithms { key: 2 },
            JwtConfigError::WeakSecret { key: 3, problem: WeakSecret::Short },
            JwtConfigError::EmptySecret { key: 5 },
        ]
    );
    let text = errors.iter().map(ToString::to_string).collect::<String>();
    assert!(!text.contains("hunter2") && !text.contains(SECRET), "{text}");
    let lax = Jwt { allow_weak_secret: true, ..Jwt::default() };
    let weak = JwtVerifier::new(&lax, vec![keys[0].clone(), keys[3].clone()]).unwrap();
    let signed = weak.sign(&map(json!({ "sub": "u" }))).unwrap();
    assert!(weak.verify(signed.expose(), NOW).is_ok());
    // An empty secret is none, whatever is allowed.
    assert!(JwtVerifier::new(&lax, vec![keys[5].clone()]).is_err());
    assert_eq!(JwtVerifier::new(&lax, Vec::new()).unwrap_err(), [JwtConfigError::NoKeys]);
    let strict = verifier(&Jwt::default(), set_source(None, &["HS256"]));
    let weak_set = key_set(json!([oct("a", "short")]));
    assert_eq!(
        strict.with_set(0, weak_set.clone()).unwrap_err(),
        JwtConfigError::WeakSecret { key: 0, problem: WeakSecret::Short }
    );
    assert_eq!(strict.with_set(1, weak_set.clone()).unwrap_err(), JwtConfigError::NotASet { key: 1 });
    assert_eq!(weak.with_set(0, weak_set).unwrap_err(), JwtConfigError::NotASet { key: 0 });
}

// S3-14: too long before anything is parsed.
#[test]
fn long_tokens_are_refused_unread() {
    let verifier = hs256(&Jwt::default());
    let refusal = check_refused(&verifier, &"a".repeat(MAX_TOKEN + 1), "jwt.too-long", "Invalid token");
    assert_eq!(refusal.facts(), [("length", "8193".to_owned())]);
    check_refused(&verifier, &"a".repeat(MAX_TOKEN), "jwt.malformed", "Invalid token");
    let mut claims = json!({ "sub": "u", "pad": "" });
    claims["pad"] = json!("x".repeat((MAX_TOKEN - token(claims.clone()).len()) * 3 / 4 - 2));
    let longest = token(claims);
    assert!(longest.len() <= MAX_TOKEN && longest.len() > MAX_TOKEN - 8, "{}", longest.len());
    assert!(verifier.verify(&longest, NOW).is_ok());
    check_refused(&verifier, "", "jwt.missing", "Missing token");
}

#[test]
fn malformed_tokens_say_what_and_why() {
    let verifier = hs256(&Jwt::default());
    let good = token(json!({ "sub": "u" }));
    let hint = |token: &str| match refusal(&verifier, token).reason {
        JwtReason::Malformed { hint, .. } => hint,
        reason => panic!("{reason:?}"),
    };
    assert_eq!(hint(&format!("Bearer {good}")), Some(MalformedHint::BearerPrefix));
    assert_eq!(hint(&format!("bearer%20{good}")), Some(MalformedHint::BearerPrefix));
    assert_eq!(hint(&format!("\"{good}\"")), Some(MalformedHint::Quotes));
    assert_eq!(hint(&good.replace('.', "%2E")), Some(MalformedHint::EncodedTwice));
    assert_eq!(hint(&format!("{good}\n")), Some(MalformedHint::WhiteSpace));
    assert_eq!(hint(&format!("{good}=")), Some(MalformedHint::PlainBase64));
    assert_eq!(hint("undefined"), Some(MalformedHint::Placeholder));
    assert_eq!(hint("${TOKEN}"), Some(MalformedHint::Placeholder));
    assert_eq!(hint("eyJhbGciOiJIUzI1NiJ9.eyJ"), Some(MalformedHint::CutOff));
    assert_eq!(hint("a.b.c.d.e"), Some(MalformedHint::Encrypted));
    assert_eq!(hint("hello"), None);

    let part = |token: &str| match refusal(&verifier, token).reason {
        JwtReason::Malformed { part, .. } => part,
        reason => panic!("{reason:?}"),
    };
    let (header, payload) = (r#"{"alg":"HS256"}"#, r#"{"sub":"u"}"#);
    assert_eq!(part("a.b"), MalformedPart::Parts { n_parts: 2 });
    assert_eq!(part(&format!("!{good}")), MalformedPart::HeaderEncoding);
    assert_eq!(part(&raw_token("{}", payload)), MalformedPart::Header);
    assert_eq!(part(&raw_token(r#"{"alg":7}"#, payload)), MalformedPart::Header);
    assert_eq!(part(&raw_token(r#"{"alg":"HS256","kid":7}"#, payload)), MalformedPart::Header);
    assert_eq!(part(&raw_token(r#"{"alg":"HS256","alg":"HS256"}"#, payload)), MalformedPart::Header);
    // RFC 7515, section 4.1.11, and RFC 7797: an extension that changes what is signed.
    assert_eq!(
        part(&raw_token(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, payload)),
        MalformedPart::CriticalHeader
    );
    assert_eq!(part(&good.replacen('.', ".!", 1)), MalformedPart::PayloadEncoding);
    assert_eq!(part(&raw_token(header, "[]")), MalformedPart::Payload);
    assert_eq!(part(&raw_token(header, &"[".repeat(5_000))), MalformedPart::Payload);
    assert_eq!(part(&format!("{good}!")), MalformedPart::SignatureEncoding);
    assert_eq!(refusal(&verifier, "hello").client_text(), "Invalid token");
}

// S3-14: from an unverified token only alg, kid, times and the names of claims, each bounded. S3-70: no token.
#[test]
fn facts_hold_names_and_no_values() {
    let verifier = hs256(&Jwt::default());
    let mut claims = map(json!({ "sub": "secret-user", "exp": NOW_S, "a\nb": 1 }));
    claims.extend((0..100).map(|n| (format!("claim{n}"), json!("secret-value"))));
    let kid = format!("kid\n{}", "k".repeat(200));
    let header = json!({ "alg": "HS256", "kid": kid }).to_string();
    let mut token = raw_token(&header, &Value::Object(claims).to_string());
    token.truncate(token.rfind('.').unwrap() + 1);
    token.push_str("c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4");
    let refusal = check_refused(&verifier, &token, "jwt.signature", "Invalid token");
    let facts = refusal.facts();
    assert!(facts.contains(&("exp", NOW.to_string())));
    assert!(facts.contains(&("kid", format!("kid?{}", "k".repeat(60)))));
    let names = &refusal.token.as_ref().unwrap().claim_names;
    assert_eq!((names.len(), names[0].as_str()), (32, "a?b"));
    let printed = format!("{facts:?} {refusal} {refusal:?} {verifier:?}");
    for secret in ["secret-user", "secret-value", "c2lnbmF0", SECRET, "eyJ"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
    let verified = verifier.verify(&super::tests::token(json!({ "sub": "secret-user" })), NOW).unwrap();
    assert!(!format!("{verified:?}").contains("secret-user"));
}

// S3-15: what is wrong behind a wrong signature is not told.
#[test]
fn a_forged_token_is_forged_first() {
    let options = Jwt { issuer: Some("me".to_owned()), ..Jwt::default() };
    for claims in
        [json!({ "sub": "u", "exp": 1 }), json!({ "nbf": NOW_S + 1_000 }), json!({ "sub": "", "iss": "you" })]
    {
        let forged = sign_hmac(OTHER_SECRET.as_bytes(), Algorithm::Hs256, &map(claims)).unwrap();
        check_refused(&hs256(&options), forged.expose(), "jwt.signature", "Invalid token");
    }
}

// S3-18: the same token opens any number of connections.
#[test]
fn a_token_may_be_used_again() {
    let verifier = hs256(&Jwt::default());
    let token = token(json!({ "sub": "u", "jti": "one" }));
    for _ in 0..3 {
        assert!(verifier.verify(&token, NOW).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_changed_byte_is_refused(position in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
        let verifier = hs256(&Jwt::default());
        let good = token(json!({ "sub": "user-1", "role": "staff", "exp": NOW_S + 60 }));
        let position = position.index(good.len());
        let mut bytes = good.clone().into_bytes();
        bytes[position] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(verifier.verify(&changed, NOW).is_ok(), changed == good);
    }

    #[test]
    fn any_cut_or_inserted_byte_is_refused(position in any::<prop::sample::Index>(), char in "[ -~]?") {
        let verifier = hs256(&Jwt::default());
        let good = token(json!({ "sub": "user-1" }));
        let position = position.index(good.len());
        let cut = [&good[..position], &good[position + 1..]].concat();
        prop_assert!(verifier.verify(&cut, NOW).is_err());
        let inserted = [&good[..position], char.as_str(), &good[position..]].concat();
        prop_assert_eq!(verifier.verify(&inserted, NOW).is_ok(), char.is_empty());
    }

    #[test]
    fn nothing_panics(text in ".{0,200}", header in ".{0,40}", payload in ".{0,80}", now in any::<u64>()) {
        let verifier = hs256(&Jwt { leeway: 300, require_exp: true, ..Jwt::default() });
        for token in [text, raw_token(&header, &payload), raw_token(r#"{"alg":"HS256"}"#, &payload)] {
            if let Err(refusal) = verifier.verify(&token, now) {
                refusal.facts();
                prop_assert!(refusal.diagnosis().starts_with("jwt."));
            }
        }
    }

    #[test]
    fn a_verified_token_is_valid_exactly_until_it_expires(exp in 0_i64..4_000_000_000, leeway in 0_u64..=300, now in 0_u64..4_000_000_400_000) {
        let verifier = hs256(&Jwt { leeway, ..Jwt::default() });
        let token = token(json!({ "sub": "u", "exp": exp }));
        let end = u64::try_from(exp).unwrap() * 1_000 + leeway * 1_000;
        match verifier.verify(&token, now) {
            Ok(verified) => prop_assert!(now < end && verified.expires_at() == Some(end)),
            Err(refusal) => prop_assert!(now >= end && refusal.diagnosis() == "jwt.expired"),
        }
    }
}

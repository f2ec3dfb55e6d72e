//! AG-13: each row of the table of failures with its exact text; then what is accepted and what is not.

use http::header::AUTHORIZATION;

use super::*;
use crate::sigv4::canonical;
use crate::sigv4::date::AmzDate;
use crate::sigv4::error::MismatchReason;
use crate::sigv4::keys::{KeyScope, SigningKeyCache};
use crate::sigv4::sign::{Payload, SignError, Signer};
use crate::sigv4::verify::PathEncoding;

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your \
    AWS Secret Access Key and signing method. Consult the service documentation for details.";

fn api() -> Verifier {
    verifier("execute-api")
}

fn check(result: Result<Verified, SignatureError>, error_type: &str, diagnosis: &str, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.status(), error.error_type(), error.diagnosis()), (403, error_type, diagnosis));
    assert_eq!(error.message(), message);
    let log = format!("{error} {error:?}");
    assert!(!log.contains("Credential=") && !log.contains("Signature="), "{log}");
}

fn check_invalid(result: Result<Verified, SignatureError>, diagnosis: &str, message: &str) {
    check(result, "InvalidSignatureException", diagnosis, message);
}

fn check_mismatch(request: &Request, expected: MismatchReason) {
    match request.verify(&api()) {
        Err(SignatureError::Mismatch { reason, explanation: None }) => assert_eq!(reason, expected),
        other => panic!("{other:?}"),
    }
}

/// Signs `request` anew with all of its headers.
fn sign(mut request: Request, payload: Payload<'_>) -> Request {
    request.headers.remove(AUTHORIZATION);
    let signer = Signer::new(ACCESS_KEY, credentials(ACCESS_KEY).unwrap(), "us-east-1", "execute-api");
    for (name, value) in &signer.sign(&request.parts(), payload, noon()).unwrap() {
        request.headers.insert(name, value.clone());
    }
    request
}

/// Puts a right signature for an arbitrary canonical URI into a changed copy of the post.
fn sign_as(request: Request, names: &[&str], uri: &str) -> Request {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let payload_hash = canonical::payload_hash(&request.body);
    let hash = canonical::CanonicalRequest::new(&request.parts(), &names, None, &payload_hash).hash(uri);
    let scope =
        KeyScope { access_key_id: ACCESS_KEY, day: "20250115", region: "us-east-1", service: "execute-api" };
    let date = AmzDate::parse("20250115T120000Z").unwrap();
    let text = canonical::string_to_sign(&date, &scope.credential_scope(), &hash);
    let key = SigningKeyCache::new().signing_key(&scope, &Secret::new(SECRET_KEY));
    let old = "81a1cdb7095923ae5de101337b994c9def3510a180b65c4015f886020c55d846";
    replace(request, old, &canonical::signature(&key, &text))
}

fn sign_with_uri(uri: &str) -> Request {
    sign_as(signed_post(), &["host", "x-amz-date"], uri)
}

fn replace(request: Request, from: &str, to: &str) -> Request {
    let authorization = request.headers["authorization"].to_str().unwrap().replace(from, to);
    request.set("authorization", &authorization)
}

#[test]
fn ag_13_no_credentials() {
    let request = signed_post().remove("authorization");
    let message = "Missing Authentication Token";
    check(request.verify(&api()), "MissingAuthenticationTokenException", "management.unsigned", message);
    let request = Request { query: Some("a=b&X-Amz-Date=1&x".to_owned()), ..request };
    check(request.verify(&api()), "MissingAuthenticationTokenException", "management.unsigned", message);
}

#[test]
fn ag_13_incomplete_authorization() {
    let credential = "Authorization header requires 'Credential' parameter. ";
    let signature = "Authorization header requires 'Signature' parameter. ";
    let signed_headers = "Authorization header requires 'SignedHeaders' parameter. ";
    let date = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
    let all = format!("{credential}{signature}{signed_headers}");
    let scope = "AKIDEXAMPLE/20250115/us-east-1/execute-api/aws4_request";
    for (value, sentences) in [
        ("Bearer abc".to_owned(), all.clone()),
        (String::new(), all.clone()),
        ("AWS4-HMAC-SHA256".to_owned(), all.clone()),
        (format!("AWS4-HMAC-SHA512 Credential={scope}, SignedHeaders=host, Signature=ab"), all),
        (format!("AWS4-HMAC-SHA256 Credential={scope}"), format!("{signature}{signed_headers}")),
        (format!("AWS4-HMAC-SHA256 Credential={scope},SignedHeaders=host,Signature="), signature.to_owned()),
        (
            format!("AWS4-HMAC-SHA256 Credential={scope},SignedHeaders=;,Signature=ab"),
            signed_headers.to_owned(),
        ),
        ("AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=host,Signature=ab".to_owned(), credential.to_owned()),
        (
            format!("AWS4-HMAC-SHA256 Credential={scope}/x,SignedHeaders=host,Signature=a"),
            credential.to_owned(),
        ),
    ] {
        let request = signed_post().set("authorization", &value);
        let message = format!("{sentences}Authorization={value}");
        let diagnosis = "management.bad-signature";
        check(request.verify(&api()), "IncompleteSignatureException", diagnosis, &message);
        let message = format!("{sentences}{date}Authorization={value}");
        let request = request.remove("x-amz-date");
        check(request.verify(&api()), "IncompleteSignatureException", diagnosis, &message);
        let request = request.set("date", "yesterday");
        check(request.verify(&api()), "IncompleteSignatureException", diagnosis, &message);
    }
}

#[test]
fn a_second_authorization_header_makes_both_void() {
    let mut request = signed_post();
    request.headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
    assert!(matches!(request.verify(&api()), Err(SignatureError::IncompleteSignature { .. })));
}

#[test]
fn incomplete_query_parameters_are_named() {
    let request = |query: &str| Request { query: Some(query.to_owned()), ..presigned_handshake() };
    let full = presigned_handshake().query.unwrap();
    let must = |name: &str| {
        format!("AWS query-string parameters must include '{name}'. Re-examine the query-string parameters.")
    };
    for (from, to, name) in [
        ("X-Amz-Algorithm=AWS4", "X-Amz-Algorithm=AWS3", "X-Amz-Algorithm"),
        ("X-Amz-Credential=AKID", "X-Amz-Credential=%2F", "X-Amz-Credential"),
        ("X-Amz-Date", "X-Amz-Dat", "X-Amz-Date"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=", "X-Amz-SignedHeaders"),
        ("X-Amz-Signature=", "X-Amz-Signature=&x=", "X-Amz-Signature"),
        ("Expires=300", "Expires=0", "X-Amz-Expires"),
        ("Expires=300", "Expires=604801", "X-Amz-Expires"),
        ("Expires=300", "Expires=-1", "X-Amz-Expires"),
        ("Expires=300", "Expires=%2B300", "X-Amz-Expires"),
        ("Expires=300", "Expires=99999999999999999999", "X-Amz-Expires"),
    ] {
        let changed = full.replace(from, to);
        assert_ne!(changed, full, "{from}");
        let result = request(&changed).verify(&api());
        check(result, "IncompleteSignatureException", "management.bad-signature", &must(name));
    }
}

#[test]
fn ag_13_unknown_access_key() {
    check(
        replace(signed_post(), "AKIDEXAMPLE", "AKIDOTHER").verify(&api()),
        "UnrecognizedClientException",
        "management.unknown-key",
        "The security token included in the request is invalid.",
    );
}

#[test]
fn ag_13_expired_session_token() {
    let mut keys = credentials(ACCESS_KEY).unwrap();
    keys.session_token = Some(Secret::new("the/token="));
    keys.expires_at = Some(noon() + Duration::from_secs(1));
    let mut request = signed_post();
    request.headers.remove(AUTHORIZATION);
    let signer = Signer::new(ACCESS_KEY, keys.clone(), "us-east-1", "execute-api");
    let added = signer.sign(&request.parts(), Payload::Body(b"hello"), noon()).unwrap();
    for (name, value) in &added {
        request.headers.insert(name, value.clone());
    }
    let presigned = presigned_handshake();
    let unsigned = Request { query: None, ..presigned.clone() };
    let query = signer.presign(&unsigned.parts(), Duration::from_secs(60), noon()).unwrap();
    let presigned = Request { query: Some(query), ..presigned };

    let find = |_: &str| Some(keys.clone());
    for request in [&request, &presigned] {
        let verify = |now| api().verify(&request.parts(), Some(&request.body), &find, now);
        assert!(verify(noon()).is_ok());
        check(
            verify(noon() + Duration::from_secs(1)),
            "ExpiredTokenException",
            "management.unknown-key",
            "The security token included in the request is expired",
        );
        // The permanent credential of the same key has no token, so a token does not fit it.
        assert!(matches!(request.verify(&api()), Err(SignatureError::UnrecognizedClient)));
    }
    for request in
        [request.clone().set("x-amz-security-token", "other"), request.remove("x-amz-security-token")]
    {
        let result = api().verify(&request.parts(), Some(&request.body), &find, noon());
        assert!(matches!(result, Err(SignatureError::UnrecognizedClient)));
    }
}

#[test]
fn ag_13_signature_mismatch() {
    let request = Request { body: b"Hello".to_vec(), ..signed_post() };
    check_invalid(request.verify(&api()), "management.bad-signature", MISMATCH);
    let mut verifier = api();
    verifier.explain_mismatch = true;
    let canonical = "POST\n/_aws/execute-api/abc123def4/prod/%40connections/R0oXAdfD0kwCH6w%253D\n\n\
        host:127.0.0.1:8080\nx-amz-date:20250115T120000Z\n\nhost;x-amz-date\n\
        185f8db32271fe25f561a6fc938b2e264306ec304eda518007d1764826381969";
    let string_to_sign = format!(
        "AWS4-HMAC-SHA256\n20250115T120000Z\n20250115/us-east-1/execute-api/aws4_request\n{}",
        canonical::payload_hash(canonical.as_bytes())
    );
    check_invalid(
        request.verify(&verifier),
        "management.bad-signature",
        &format!(
            "{MISMATCH}\n\nThe Canonical String for this request should have been\n'{canonical}'\n\n\
             The String-to-Sign should have been\n'{string_to_sign}'\n"
        ),
    );
}

#[test]
fn ag_13_date_too_old() {
    let request = signed_post();
    let at = |seconds| request.verify_at(&api(), noon() + Duration::from_secs(seconds));
    assert!(at(300).is_ok());
    check_invalid(
        at(301),
        "management.clock-skew",
        "Signature expired: 20250115T120000Z is now earlier than 20250115T120001Z (20250115T120501Z - 5 min.)",
    );
}

#[test]
fn ag_13_date_too_far_ahead() {
    let request = signed_post();
    let at = |seconds| request.verify_at(&api(), noon() - Duration::from_secs(seconds));
    assert!(at(300).is_ok());
    check_invalid(
        at(301),
        "management.clock-skew",
        "Signature not yet current: 20250115T120000Z is still later than 20250115T115959Z (20250115T115459Z + 5 min.)",
    );
    let mut verifier = api();
    verifier.clock_skew = Duration::from_secs(90);
    check_invalid(
        request.verify_at(&verifier, noon() - Duration::from_secs(91)),
        "management.clock-skew",
        "Signature not yet current: 20250115T120000Z is still later than 20250115T115959Z (20250115T115829Z + 90 sec.)",
    );
}

#[test]
fn a_presigned_request_is_valid_for_its_time() {
    let request = presigned_handshake();
    let signer = Signer::new(ACCESS_KEY, credentials(ACCESS_KEY).unwrap(), "us-east-1", "execute-api");
    let unsigned = Request { query: None, ..request.clone() };
    for seconds in [1, 300, 604_800] {
        let query = signer.presign(&unsigned.parts(), Duration::from_secs(seconds), noon()).unwrap();
        let request = Request { query: Some(query), ..request.clone() };
        assert!(request.verify_at(&api(), noon() + Duration::from_secs(seconds)).is_ok());
        let result = request.verify_at(&api(), noon() + Duration::from_secs(seconds + 1));
        assert!(matches!(result, Err(SignatureError::Expired { .. })), "{result:?}");
        let result = request.verify_at(&api(), noon() - Duration::from_secs(301));
        assert!(matches!(result, Err(SignatureError::NotYetCurrent { .. })), "{result:?}");
    }
    for seconds in [0, 604_801] {
        let result = signer.presign(&unsigned.parts(), Duration::from_secs(seconds), noon());
        assert!(matches!(result, Err(SignError::ExpiresOutOfRange { .. })));
    }
}

#[test]
fn ag_13_wrong_service_or_region() {
    check_invalid(
        replace(signed_post(), "execute-api", "s3").verify(&api()),
        "management.wrong-service",
        "Credential should be scoped to correct service: 'execute-api'.",
    );
    check_invalid(
        signed_post().verify(&verifier("apigateway")),
        "management.wrong-service",
        "Credential should be scoped to correct service: 'apigateway'.",
    );
    check_invalid(
        replace(signed_post(), "us-east-1", "eu-west-1").verify(&api()),
        "management.wrong-region",
        "Credential should be scoped to a valid region.",
    );
}

#[test]
fn ag_13_scope_date_differs() {
    check_invalid(
        replace(signed_post(), "/20250115/", "/20250114/").verify(&api()),
        "management.bad-signature",
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
         '20250114' != '20250115', from '20250115T120000Z'.",
    );
}

#[test]
fn a_rewritten_path_is_told_from_a_wrong_secret() {
    let verifier = api();
    let decoded = "/_aws/execute-api/abc123def4/prod/@connections/R0oXAdfD0kwCH6w=";
    let encoded = "/_aws/execute-api/abc123def4/prod/%40connections/R0oXAdfD0kwCH6w%3D";
    for path in [decoded, encoded] {
        let request = Request { path: path.to_owned(), ..signed_post() };
        let result = request.verify(&verifier);
        check_invalid(result, "management.path-rewritten", MISMATCH);
        // A change beyond the encoding of the path is not explained by it.
        let request = Request { body: b"other".to_vec(), ..request };
        check_invalid(request.verify(&verifier), "management.bad-signature", MISMATCH);
    }
    let request = Request { path: signed_post().path.replace("R0o", "R0p"), ..signed_post() };
    check_mismatch(&request, MismatchReason::Signature);
}

#[test]
fn a_path_that_is_not_encoded_twice_is_accepted() {
    let path = signed_post().path;
    assert_eq!(sign_with_uri(&path).verify(&api()).unwrap().path_encoding, PathEncoding::AsReceived);
    assert_eq!(
        sign_with_uri(&canonical::uri(&path)).verify(&api()).unwrap().path_encoding,
        PathEncoding::Double
    );
    check_mismatch(&sign_with_uri("/other"), MismatchReason::Signature);
}

#[test]
fn host_must_be_signed_and_signed_headers_present() {
    check_mismatch(&replace(signed_post(), "host;x-amz-date", "x-amz-date"), MismatchReason::HostNotSigned);
    check_mismatch(&signed_post().remove("host"), MismatchReason::SignedHeaderAbsent);
    let absent = replace(signed_post(), "host;x-amz-date", "host;x-amz-date;x-empty");
    check_mismatch(&absent, MismatchReason::SignedHeaderAbsent);
}

#[test]
fn names_of_signed_headers_count_once_in_any_order_and_case() {
    let request = replace(signed_post(), "host;x-amz-date", "X-Amz-Date;;Host;host");
    assert!(request.verify(&api()).is_ok());
}

#[test]
fn a_signed_payload_hash_must_be_that_of_the_body() {
    let request = sign(signed_post(), Payload::BodyWithHash(b"hello"));
    assert!(request.verify(&api()).unwrap().is_payload_signed);
    check_mismatch(&Request { body: b"Hello".to_vec(), ..request }, MismatchReason::PayloadHash);

    let request = sign(signed_post(), Payload::Unsigned);
    let changed = Request { body: b"anything".to_vec(), ..request };
    assert!(!changed.verify(&api()).unwrap().is_payload_signed);

    // Without being signed the header means nothing.
    assert!(
        signed_post()
            .set("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
            .verify(&api())
            .unwrap()
            .is_payload_signed
    );
    let streaming = signed_post().set("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    assert!(sign(streaming, Payload::Body(b"hello")).verify(&api()).is_err());
}

#[test]
fn the_date_header_will_do() {
    // The string to sign holds the date in the basic form, whatever the header's form, so the signature is that of a
    // request with `host` alone.
    let request = replace(signed_post().remove("x-amz-date"), "host;x-amz-date", "host");
    let request = sign_as(request, &["host"], &canonical::uri(&signed_post().path));
    for date in ["Wed, 15 Jan 2025 12:00:00 GMT", "20250115T120000Z"] {
        assert!(request.clone().set("date", date).verify(&api()).is_ok(), "{date}");
    }
    check_mismatch(&request.clone().set("date", "Wed, 15 Jan 2025 12:00:01 GMT"), MismatchReason::Signature);
    assert!(matches!(request.verify(&api()), Err(SignatureError::IncompleteSignature { .. })));
}

#[test]
fn a_forwarded_host_counts_only_if_allowed() {
    let request = signed_post().set("host", "10.0.0.1").set("x-forwarded-host", "127.0.0.1:8080");
    check_mismatch(&request, MismatchReason::Signature);
    let mut verifier = api();
    verifier.allowed_hosts = vec!["127.0.0.1:8080".to_owned()];
    assert!(request.verify(&verifier).is_ok());
    let other = request.clone().set("x-forwarded-host", "evil.example");
    assert!(other.verify(&verifier).is_err());
    assert!(signed_post().verify(&verifier).is_ok());
}

#[test]
fn a_rotated_secret_ends_the_cached_key() {
    let verifier = api();
    assert!(signed_post().verify(&verifier).is_ok());
    let rotated = |_: &str| Some(CredentialKeys::permanent(Secret::new("another")));
    let request = signed_post();
    let result = verifier.verify(&request.parts(), Some(b"hello"), &rotated, noon());
    assert!(matches!(result, Err(SignatureError::Mismatch { .. })));
}

#[test]
fn a_request_without_host_cannot_be_signed() {
    let signer = Signer::new(ACCESS_KEY, credentials(ACCESS_KEY).unwrap(), "us-east-1", "execute-api");
    let request = signed_post().remove("host");
    assert!(matches!(signer.sign(&request.parts(), Payload::Unsigned, noon()), Err(SignError::HostMissing)));
    let expires = Duration::from_secs(1);
    assert!(matches!(signer.presign(&request.parts(), expires, noon()), Err(SignError::HostMissing)));
}

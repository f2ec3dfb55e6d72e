//! AG-13: the five test vectors, signed and verified.

use super::*;
use crate::sigv4::canonical;
use crate::sigv4::sign::{Payload, Signer};
use crate::sigv4::verify::PathEncoding;

fn signer(service: &str) -> Signer {
    Signer::new(ACCESS_KEY, credentials(ACCESS_KEY).unwrap(), "us-east-1", service)
}

/// Signs, compares with the vector, then verifies what was signed.
fn check(service: &str, method: &str, path: &str, fields: &[(&str, &str)], body: &str, signature: &str) {
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: None,
        headers: headers(fields),
        body: body.as_bytes().to_vec(),
    };
    let added = signer(service).sign(&request.parts(), Payload::Body(body.as_bytes()), noon()).unwrap();
    let authorization = added["authorization"].to_str().unwrap();
    assert!(authorization.ends_with(&format!("Signature={signature}")), "{authorization}");
    request.headers.extend(added);
    let verified = request.verify(&verifier(service)).unwrap();
    assert_eq!(verified.access_key_id, ACCESS_KEY);
    assert_eq!(verified.path_encoding, PathEncoding::Double);
    assert!(verified.is_payload_signed && !verified.is_presigned);
}

#[test]
fn ag_13_post_to_connection() {
    let path = "/_aws/execute-api/abc123def4/prod/@connections/R0oXAdfD0kwCH6w%3D";
    let uri = "/_aws/execute-api/abc123def4/prod/%40connections/R0oXAdfD0kwCH6w%253D";
    assert_eq!(canonical::uri(path), uri);
    let request = signed_post();
    let names = ["host".to_owned(), "x-amz-date".to_owned()];
    let hash = canonical::payload_hash(b"hello");
    assert_eq!(
        canonical::CanonicalRequest::new(&request.parts(), &names, None, &hash).hash(uri),
        "df144cd8cef3410982865bddcc49a9c47d8482dc23a994ce0f7ea4fc05961897"
    );
    let signature = "81a1cdb7095923ae5de101337b994c9def3510a180b65c4015f886020c55d846";
    check("execute-api", "POST", path, &[("host", "127.0.0.1:8080")], "hello", signature);
    let verified = request.verify(&verifier("execute-api")).unwrap();
    assert_eq!(verified.signed_headers, names);
}

#[test]
fn ag_13_get_connection() {
    let path = "/prod/%40connections/R0oXAdfD0kwCH6w%3D";
    assert_eq!(canonical::uri(path), "/prod/%2540connections/R0oXAdfD0kwCH6w%253D");
    let host = ("host", "abc123def4.execute-api.us-east-1.amazonaws.com");
    let signature = "0ccce94c2d7443619947e56732b223fda64c286258a2d2661b41ca1d2abf64b3";
    check("execute-api", "GET", path, &[host], "", signature);
}

#[test]
fn ag_13_presigned_handshake() {
    let request = presigned_handshake();
    let verified = request.verify(&verifier("execute-api")).unwrap();
    assert!(verified.is_presigned);
    assert_eq!(verified.signed_headers, ["host"]);
    let without_body = verifier("execute-api").verify(&request.parts(), None, &credentials, noon());
    assert_eq!(without_body.unwrap(), verified);

    let unsigned = Request { query: Some("room=a%20b".to_owned()), ..request.clone() };
    let query = signer("execute-api").presign(&unsigned.parts(), Duration::from_secs(300), noon()).unwrap();
    assert_eq!(Some(query), request.query);
}

#[test]
fn ag_13_create_api() {
    check(
        "apigateway",
        "POST",
        "/v2/apis",
        &[("host", "127.0.0.1:8081"), ("content-type", "application/json")],
        r#"{"name": "n", "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.action"}"#,
        "deb41d34a9b7f33446f5e33334995fe01206bbbb0291f0d078471e3b8e1657ea",
    );
}

#[test]
fn ag_13_get_tags() {
    check(
        "apigateway",
        "GET",
        "/v2/tags/arn%3Aaws%3Aapigateway%3Aus-east-1%3A%3A%2Fapis%2Fabc123def4",
        &[("host", "127.0.0.1:8081")],
        "",
        "0aeee9fc6e46b5f16cd75b85ce4869a842db21da546db1a77d4bf50ab1965fcf",
    );
}

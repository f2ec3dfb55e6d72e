//! Signer and verifier together: the vectors and error rows of AG-13, and the SDK's signer as an oracle.

mod errors;
mod oracle;
mod vectors;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::SignatureError;
use super::verify::{Verified, Verifier};
use super::{CredentialKeys, RequestParts};
use crate::secret::Secret;

const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// `20250115T120000Z`
fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_736_942_400)
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

fn credentials(access_key_id: &str) -> Option<CredentialKeys> {
    (access_key_id == ACCESS_KEY).then(|| CredentialKeys::permanent(Secret::new(SECRET_KEY)))
}

fn verifier(service: &str) -> Verifier {
    Verifier::new("us-east-1", service)
}

/// A request that owns its parts, to be changed by a test.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn parts(&self) -> RequestParts<'_> {
        RequestParts {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn remove(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    fn verify(&self, verifier: &Verifier) -> Result<Verified, SignatureError> {
        self.verify_at(verifier, noon())
    }

    fn verify_at(&self, verifier: &Verifier, now: SystemTime) -> Result<Verified, SignatureError> {
        verifier.verify(&self.parts(), Some(&self.body), &credentials, now)
    }
}

/// The first vector of AG-13: a post as boto3 sends it.
fn signed_post() -> Request {
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250115/us-east-1/execute-api/aws4_request, \
        SignedHeaders=host;x-amz-date, \
        Signature=81a1cdb7095923ae5de101337b994c9def3510a180b65c4015f886020c55d846";
    Request {
        method: "POST".to_owned(),
        path: "/_aws/execute-api/abc123def4/prod/@connections/R0oXAdfD0kwCH6w%3D".to_owned(),
        query: None,
        headers: headers(&[
            ("host", "127.0.0.1:8080"),
            ("x-amz-date", "20250115T120000Z"),
            ("authorization", authorization),
        ]),
        body: b"hello".to_vec(),
    }
}

/// The third vector of AG-13: a presigned handshake.
fn presigned_handshake() -> Request {
    let query = "room=a%20b&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20250115%2Fus-east-1%2Fexecute-api%2Faws4_request\
        &X-Amz-Date=20250115T120000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=93f1830438521facf681a8431f9fee707497782471f5abfb9d1f766b4f122916";
    Request {
        method: "GET".to_owned(),
        path: "/prod".to_owned(),
        query: Some(query.to_owned()),
        headers: headers(&[("host", "abc123def4.execute-api.us-east-1.amazonaws.com")]),
        body: Vec::new(),
    }
}

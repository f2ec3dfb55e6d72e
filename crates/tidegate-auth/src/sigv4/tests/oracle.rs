//! The SDK's signer as an oracle, changes that must be noticed, and input from people who wish us ill.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use proptest::prelude::*;

use super::*;
use crate::sigv4::canonical;
use crate::sigv4::sign::{Payload, Signer};

const HOST: &str = "127.0.0.1:8080";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Body,
    BodyWithHash,
    Unsigned,
    Presigned,
}

/// A request to be signed: all that the signature depends on is random.
fn requests() -> impl Strategy<Value = Request> {
    let segment = prop_oneof![
        4 => "[A-Za-z0-9._~@=+:$!*'(),-]{1,8}",
        2 => "(%[0-9A-F]{2}){1,3}",
        1 => Just(String::new()),
        1 => Just(".".to_owned()),
        1 => Just("..".to_owned()),
    ];
    // The SDK for Rust keeps a slash after a dot segment at the end, those for Python and JavaScript do not.
    let path = (prop::collection::vec(segment, 0..6), "[a-z]?")
        .prop_map(|(segments, last)| ["/", &segments.join("/"), "/", &last].concat())
        .prop_filter("ends in a dot segment", |path| !path.ends_with("/./") && !path.ends_with("/../"));
    // The SDK sorts decoded names, so names stay unreserved here and differ.
    let query = prop::option::of(
        prop::collection::btree_map("[A-Za-z0-9._~-]{1,6}", ".{0,8}", 0..5).prop_map(|parameters| {
            let encoded =
                parameters.iter().rev().map(|(name, value)| format!("{name}={}", canonical::encode(value)));
            encoded.collect::<Vec<_>>().join("&")
        }),
    );
    let fields = prop::collection::btree_map("x-[a-z]{1,8}", "[ -~]{0,20}", 0..4);
    let method = prop::sample::select(vec!["GET", "POST", "DELETE"]);
    let body = prop::collection::vec(any::<u8>(), 0..64);
    (method, path, query, fields, body).prop_map(|(method, path, query, fields, body)| {
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Request { method: method.to_owned(), path, query, headers: headers(&fields), body }
    })
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Body, Kind::BodyWithHash, Kind::Unsigned, Kind::Presigned])
}

/// What the SDK makes of the request, with the signature apart.
fn sign_with_sdk(mut request: Request, kind: Kind, token: Option<&str>) -> (Request, String) {
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, token.map(str::to_owned), None, "test");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    match kind {
        Kind::Presigned => {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(Duration::from_secs(60));
            request.headers.clear();
            request.body.clear();
        }
        Kind::Body => {}
        Kind::BodyWithHash | Kind::Unsigned => {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256
        }
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("execute-api")
        .time(noon())
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let uri = format!("http://{HOST}{}{query}", request.path);
    let body = if kind == Kind::Unsigned {
        SignableBody::UnsignedPayload
    } else {
        SignableBody::Bytes(&request.body)
    };
    let fields = request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let signable = SignableRequest::new(&request.method, uri, fields, body).unwrap();
    let (instructions, signature) = sign(signable, &params).unwrap().into_parts();
    let added: Vec<(&str, &str)> = instructions.headers().collect();
    request.headers.extend(headers(&added));
    if kind == Kind::Presigned {
        let mut query: Vec<String> =
            request.query.take().into_iter().filter(|query| !query.is_empty()).collect();
        query.extend(
            instructions.params().iter().map(|(name, value)| format!("{name}={}", canonical::encode(value))),
        );
        request.query = Some(query.join("&"));
    }
    (request.set("host", HOST), signature)
}

/// The same by our signer.
fn sign_with_ours(mut request: Request, kind: Kind, token: Option<&str>) -> Request {
    let mut keys = credentials(ACCESS_KEY).unwrap();
    keys.session_token = token.map(Secret::new);
    let signer = Signer::new(ACCESS_KEY, keys, "us-east-1", "execute-api");
    if kind == Kind::Presigned {
        request.headers.clear();
        request.body.clear();
    }
    let mut request = request.set("host", HOST);
    let payload = match kind {
        Kind::Presigned => {
            let query = signer.presign(&request.parts(), Duration::from_secs(60), noon()).unwrap();
            return Request { query: Some(query), ..request };
        }
        Kind::Body => Payload::Body(&request.body),
        Kind::BodyWithHash => Payload::BodyWithHash(&request.body),
        Kind::Unsigned => Payload::Unsigned,
    };
    let added = signer.sign(&request.parts(), payload, noon()).unwrap();
    request.headers.extend(added);
    request
}

/// Replaces the letter or digit of `text` that `idx` points at; `None` if it has none there.
fn change(text: &str, idx: prop::sample::Index) -> Option<String> {
    let positions: Vec<usize> =
        text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric()).map(|(at, _)| at).collect();
    let &at = positions.get(if positions.is_empty() { 0 } else { idx.index(positions.len()) })?;
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
    String::from_utf8(bytes).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn signer_and_verifier_agree_with_the_sdk(
        request in requests(), kind in kinds(), token in prop::option::of("[A-Za-z0-9/+=]{1,20}"),
    ) {
        let (theirs, signature) = sign_with_sdk(request.clone(), kind, token.as_deref());
        let ours = sign_with_ours(request, kind, token.as_deref());
        let carrier = if kind == Kind::Presigned {
            ours.query.clone().unwrap()
        } else {
            ours.headers["authorization"].to_str().unwrap().to_owned()
        };
        prop_assert!(carrier.ends_with(&format!("Signature={signature}")), "{} {}", carrier, signature);

        let find = |_: &str| {
            let session_token = token.as_deref().map(Secret::new);
            credentials(ACCESS_KEY).map(|keys| CredentialKeys { session_token, ..keys })
        };
        for request in [&theirs, &ours] {
            let verified = verifier("execute-api").verify(&request.parts(), Some(&request.body), &find, noon());
            let verified = verified.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(verified.is_presigned, kind == Kind::Presigned);
            prop_assert_eq!(verified.is_payload_signed, kind != Kind::Unsigned);
        }
    }

    #[test]
    fn no_byte_can_be_changed(request in requests(), kind in kinds(), place in 0..6, idx: prop::sample::Index) {
        let signed = sign_with_ours(request, kind, None);
        let verifier = verifier("execute-api");
        prop_assert!(signed.verify(&verifier).is_ok());
        let mut tampered = signed.clone();
        let header = |request: &mut Request, name: HeaderName, idx| {
            let value = change(request.headers[&name].to_str().unwrap(), idx);
            if let Some(value) = value {
                request.headers.insert(name, HeaderValue::from_str(&value).unwrap());
            }
        };
        match place {
            0 => tampered.method = change(&signed.method, idx).unwrap(),
            1 => tampered.path = change(&signed.path, idx).unwrap_or(signed.path.clone()),
            2 => tampered.query = signed.query.as_deref().and_then(|query| change(query, idx)).or(signed.query.clone()),
            3 if !signed.body.is_empty() && kind != Kind::Unsigned => {
                let at = idx.index(signed.body.len());
                tampered.body[at] ^= 1;
            }
            _ => {
                let names: Vec<HeaderName> = signed.headers.keys().cloned().collect();
                header(&mut tampered, names[idx.index(names.len())].clone(), idx);
            }
        }
        let is_changed = tampered.method != signed.method
            || tampered.path != signed.path
            || tampered.query != signed.query
            || tampered.headers != signed.headers
            || tampered.body != signed.body;
        // A segment that `..` takes away is not part of the canonical path.
        prop_assume!(canonical::uri(&tampered.path) != canonical::uri(&signed.path) || place != 1);
        if is_changed {
            prop_assert!(tampered.verify(&verifier).is_err(), "{:?}", tampered);
        }
    }

    #[test]
    fn no_header_or_query_panics(
        method in ".{0,6}", path in ".{0,40}", query in prop::option::of(".{0,80}"),
        authorization in "[ -~é]{0,120}", date in "[ -~é]{0,20}", hash in "[ -~é]{0,20}",
    ) {
        let fields = [("authorization", &*authorization), ("x-amz-date", &date), ("x-amz-content-sha256", &hash)];
        let mut request = Request { method, path, query, headers: headers(&fields), body: Vec::new() };
        prop_assert!(request.verify(&verifier("execute-api")).is_err());
        request.headers.clear();
        prop_assert!(request.verify(&verifier("execute-api")).is_err());
    }

    #[test]
    fn nothing_panics_behind_a_right_scope(
        path in ".{0,40}", query in ".{0,40}", signed_headers in "[ -~é]{0,60}", signature in "[ -~]{0,70}",
        value in "[ -~é]{0,40}", expires in "[0-9]{0,12}", seconds: u64,
    ) {
        let scope = "AKIDEXAMPLE/20250115/us-east-1/execute-api/aws4_request";
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={scope},SignedHeaders=host;{signed_headers},Signature={signature}"
        );
        let fields = [
            ("host", &*value),
            ("x-amz-content-sha256", &value),
            ("x-amz-date", "20250115T120000Z"),
            ("authorization", &authorization),
        ];
        let now = noon().checked_add(Duration::from_secs(seconds)).unwrap_or(noon());
        let mut verifier = verifier("execute-api");
    verifier.explain_mismatch = true;
        let mut request =
            Request { method: "POST".to_owned(), path, query: Some(query.clone()), headers: headers(&fields), body: Vec::new() };
        prop_assert!(request.verify(&verifier).is_err());
        let _ = request.verify_at(&verifier, now).map_err(|error| error.message());
        request.headers.remove("authorization");
        request.query = Some(format!(
            "{query}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-Date=20250115T120000Z\
             &X-Amz-Expires={expires}&X-Amz-SignedHeaders=host;{signed_headers}&X-Amz-Signature={signature}"
        ));
        prop_assert!(request.verify(&verifier).is_err());
    }
}

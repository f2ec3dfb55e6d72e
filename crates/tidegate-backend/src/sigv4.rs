//! Signature Version 4 in headers: for the management API and for the admin API.
//!
//! Source: AWS General Reference, "Create a signed AWS API request". Tests compare with the signer of the AWS SDK.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// Everything but `A-Z a-z 0-9 - _ . ~`.
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What a signature is for. Source: signing names of `apigatewaymanagementapi` and `apigatewayv2` in the SDKs of AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SigningName {
    /// Pushes and all else below an API's address.
    ExecuteApi,
    /// Tidegate's admin listener.
    ApiGateway,
}

impl SigningName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ExecuteApi => "execute-api",
            Self::ApiGateway => "apigateway",
        }
    }
}

/// An access key, for one region.
#[derive(Clone)]
pub struct SigV4 {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    region: String,
}

impl std::fmt::Debug for SigV4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigV4")
            .field("access_key_id", &self.access_key_id)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// What is signed besides the time. `path` and `query` are as they go out.
pub(crate) struct Signable<'a> {
    pub(crate) service: SigningName,
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    /// Encoded, without the question mark; may be empty.
    pub(crate) query: &'a str,
    pub(crate) body: &'a [u8],
}

impl SigV4 {
    /// An access key for `region`, for example `us-east-1`.
    pub fn new(
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        region: impl Into<String>,
    ) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
            region: region.into(),
        }
    }

    /// With the token of temporary credentials.
    #[must_use]
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// The headers to add to a request.
    ///
    /// # Errors
    /// When a part of the credentials cannot stand in a header.
    pub(crate) fn sign(
        &self,
        request: &Signable<'_>,
        now: Timestamp,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, http::header::InvalidHeaderValue> {
        let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = date.split('T').next().unwrap_or_default();
        let mut headers = vec![("host", request.host), ("x-amz-date", date.as_str())];
        if let Some(token) = &self.session_token {
            headers.push(("x-amz-security-token", token));
        }
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{}",
            request.method,
            // Once more than on the wire: only S3 differs.
            utf8_percent_encode(request.path, ENCODED_IN_PATH),
            sorted(request.query),
            hex::encode(Sha256::digest(request.body)),
        );
        let service = request.service.as_str();
        let scope = format!("{day}/{}/{service}/aws4_request", self.region);
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{hash}");

        let first = format!("AWS4{}", self.secret_access_key).into_bytes();
        let key = [day, &self.region, service, "aws4_request"]
            .iter()
            .fold(first, |key, part| mac(&key, part.as_bytes()));
        let signature = hex::encode(mac(&key, to_sign.as_bytes()));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access_key_id
        );

        let mut added = vec![(http::header::AUTHORIZATION, sensitive(&authorization)?)];
        added.push((HeaderName::from_static("x-amz-date"), HeaderValue::from_str(&date)?));
        if let Some(token) = &self.session_token {
            added.push((HeaderName::from_static("x-amz-security-token"), sensitive(token)?));
        }
        Ok(added)
    }
}

/// A header value that is not shown.
pub(crate) fn sensitive(text: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("hmac takes keys of any length");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

fn sorted(query: &str) -> String {
    let mut pairs: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4;

    use super::*;

    /// What the SDK makes of the request.
    fn authorization_of_sdk(request: &Signable<'_>, token: Option<&str>, now: SystemTime) -> String {
        let identity = Credentials::new("AKID", "se/cr+et", token.map(str::to_owned), None, "test").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name(request.service.as_str())
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let uri = format!("https://{}{}{query}", request.host, request.path);
        let signable =
            SignableRequest::new(request.method, uri, std::iter::empty(), SignableBody::Bytes(request.body))
                .unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let found = instructions.headers().find(|(name, _)| *name == "authorization");
        found.expect("a signature").1.to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_sdk() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_000_000);
        let stamp = Timestamp::from_second(1_795_000_000).unwrap();
        let check_for = |service, method, path, query, body: &[u8], token: Option<&str>| {
            let host = "abc.execute-api.eu-west-1.amazonaws.com";
            let request = Signable { service, method, host, path, query, body };
            let mut signer = SigV4::new("AKID", "se/cr+et", "eu-west-1");
            signer.session_token = token.map(str::to_owned);
            let headers = signer.sign(&request, stamp).unwrap();
            let ours = headers.iter().find(|(name, _)| name == http::header::AUTHORIZATION).unwrap();
            assert_eq!(
                ours.1.to_str().unwrap(),
                authorization_of_sdk(&request, token, now),
                "{path}?{query}"
            );
        };
        let check = |method, path, query, body: &[u8], token| {
            check_for(SigningName::ExecuteApi, method, path, query, body, token);
        };
        check_for(SigningName::ApiGateway, "POST", "/api/tokens", "", b"{}", None);
        check("POST", "/prod/@connections/R0oXAdfD0kwCH6w%3D", "", b"{\"a\":1}", None);
        check("DELETE", "/prod/@connections/R0oXAdfD0kwCH6w%3D", "", b"", Some("to+ken/=="));
        check("GET", "/_aws/execute-api/a/dev/@connections", "channel=x%20y&limit=5&Z=1", b"", None);
        check("POST", "/@channels/a-b_c.~", "except=b&except=a&goneIds=true", b"\xff\x00", None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", SigV4::new("AKID", "se/cr+et", "r").session_token("to+ken"));
        assert!(
            shown.contains("AKID") && !shown.contains("se/cr+et") && !shown.contains("to+ken"),
            "{shown}"
        );
    }
}

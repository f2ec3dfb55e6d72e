//! One request to an AWS service, or to whatever an operator puts in its place: signed where there are credentials for
//! it, over the same connections as requests to other backends.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri};
use tidegate_auth::{CredentialKeys, Payload, RequestParts, SignError, Signer};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::snapshot::FunctionName;

use super::http::{check_host, target};
use super::{Answer, Failure};
use crate::gateway::Gateway;

/// What of a function's name stands for itself in a path, as the SDKs write it.
const IN_SEGMENT: percent_encoding::AsciiSet =
    percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How AWS services are reached.
#[derive(Debug, Clone, Default)]
pub struct AwsConfig {
    /// Of requests that name none.
    pub region: String,
    /// Sign every request for which no profile is named. Without any, requests go unsigned.
    pub credentials: Option<AwsCredentials>,
    /// By `credentialsArn`.
    pub profiles: HashMap<String, AwsCredentials>,
    /// Address in place of Amazon's, by the service's name (`lambda`, `sqs`): scheme, host, port, possibly a path.
    pub endpoints: HashMap<String, Uri>,
}

/// A key to sign with.
#[derive(Debug, Clone)]
pub struct AwsCredentials {
    /// Not secret.
    pub access_key_id: String,
    /// The secret, and the token of a temporary key.
    pub keys: CredentialKeys,
}

impl AwsConfig {
    /// Whether there is anybody to ask: an endpoint of the operator's, or Amazon with credentials.
    pub fn is_reachable(&self, service: &str, credentials_arn: Option<&str>) -> bool {
        self.endpoints.contains_key(service) || self.credentials(credentials_arn).is_some()
    }

    fn credentials(&self, arn: Option<&str>) -> Option<&AwsCredentials> {
        arn.and_then(|arn| self.profiles.get(arn)).or(self.credentials.as_ref())
    }

    /// Where a request goes, for people to read; nothing if nowhere.
    pub(crate) fn address(&self, call: &AwsCall<'_>) -> Option<String> {
        let endpoint = self.endpoint(call.service, call.region.unwrap_or(&self.region)).ok()?;
        join(&endpoint.base, call.path_and_query).ok().map(|uri| uri.to_string())
    }

    /// Scheme, authority and the path below which the service is.
    fn endpoint(&self, service: &str, region: &str) -> Result<Endpoint, Failure> {
        if let Some(uri) = self.endpoints.get(service) {
            return Ok(Endpoint { base: uri.clone(), is_own: true });
        }
        // Both come from definitions and become part of a host name.
        let is_label = |text: &str| {
            !text.is_empty()
                && text.len() <= 63
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if !is_label(service) || !is_label(region) {
            return Err(misconfigured(format!("`{service}` in `{region}` is no service of a region")));
        }
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let base = format!("https://{service}.{region}.{suffix}").parse();
        let base = base.map_err(|error: http::uri::InvalidUri| misconfigured(error.to_string()))?;
        Ok(Endpoint { base, is_own: false })
    }
}

struct Endpoint {
    base: Uri,
    /// The operator named it.
    is_own: bool,
}

/// One request.
pub(crate) struct AwsCall<'a> {
    /// As in signatures and host names: `lambda`, `sqs`.
    pub(crate) service: &'a str,
    /// Without one, that of the configuration.
    pub(crate) region: Option<&'a str>,
    pub(crate) method: &'a str,
    /// Percent-encoded, with a slash in front.
    pub(crate) path_and_query: &'a str,
    /// All of them are signed. `Host`, `Content-Length` and those of the signature are added.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Which profile signs; stage variables are replaced already.
    pub(crate) credentials_arn: Option<&'a str>,
}

/// The path of the Invoke API for a function. An endpoint of the operator's gets the bare name, Amazon all that is known
/// of it, so that functions of other accounts can be called.
pub(crate) fn invoke_path(config: &AwsConfig, function: &FunctionName) -> String {
    let is_own = config.endpoints.contains_key("lambda");
    let encode = |text| percent_encoding::utf8_percent_encode(text, &IN_SEGMENT);
    let mut path = "/2015-03-31/functions/".to_owned();
    // The qualifier of a whole ARN is in it.
    if function.arn.starts_with("arn:") && !is_own {
        let _ = write!(path, "{}/invocations", encode(&function.arn));
        return path;
    }
    let _ = write!(path, "{}/invocations", encode(&function.name));
    if let Some(qualifier) = &function.qualifier {
        let _ = write!(path, "?Qualifier={}", encode(qualifier));
    }
    path
}

/// Sends a request and reads its answer, whatever its status. The caller sets the time limit.
///
/// # Errors
/// [`ErrorCode::Misconfigured`] when no request can be made of the call; else as for HTTP backends.
///
/// # Cancel safety
/// Dropping the future drops the connection that it uses.
pub(crate) async fn call(gateway: &Gateway, call: AwsCall<'_>) -> Result<Answer, Failure> {
    let in_force = gateway.in_force.load_full();
    let (config, all) = (&in_force.node.aws, &in_force.node.settings.all);
    let region = call.region.unwrap_or(&config.region);
    let endpoint = config.endpoint(call.service, region)?;
    let uri = join(&endpoint.base, call.path_and_query)?;
    let told = |failure: Failure| {
        failure.with("target", target(&uri)).with("service", call.service).with("region", region)
    };
    if !endpoint.is_own {
        let host = uri.host().unwrap_or_default();
        check_host(&all.integration.allowed_hosts, host).map_err(told)?;
    }
    let method: Method = call.method.parse().map_err(|_| misconfigured("the method is none".to_owned()))?;
    let authority = uri.authority().map_or("", Authority::as_str);
    let mut headers = call.headers;
    let host = HeaderValue::from_str(authority).map_err(|_| misconfigured("the host is none".to_owned()))?;
    headers.insert(HOST, host);
    if let Some(credentials) = config.credentials(call.credentials_arn) {
        let parts =
            RequestParts { method: method.as_str(), path: uri.path(), query: uri.query(), headers: &headers };
        let added = sign(credentials, region, call.service, &parts, &call.body)
            .map_err(|error| misconfigured(format!("the request cannot be signed: {error}")))?;
        for (name, value) in added.into_iter().filter_map(|(name, value)| Some((name?, value))) {
            headers.insert(name, value);
        }
    }
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, HeaderValue::from_static("Tidegate"));
    }
    headers.remove(http::header::CONTENT_LENGTH);
    let bytes = request(&method, &uri, &headers, &call.body);
    let limit = all.integration.max_parallel;
    let (status, headers, body) = gateway.backends.send(&uri, &bytes, &method, limit).await.map_err(told)?;
    let mut answer = Answer::new(status, body);
    answer.headers = headers;
    Ok(answer)
}

fn sign(
    credentials: &AwsCredentials,
    region: &str,
    service: &str,
    parts: &RequestParts<'_>,
    body: &[u8],
) -> Result<HeaderMap, SignError> {
    let AwsCredentials { access_key_id, keys } = credentials;
    Signer::new(access_key_id, keys.clone(), region, service).sign(
        parts,
        Payload::Body(body),
        SystemTime::now(),
    )
}

/// The address of a call below its endpoint.
fn join(base: &Uri, path_and_query: &str) -> Result<Uri, Failure> {
    let prefix = base.path().trim_end_matches('/');
    let target: PathAndQuery = format!("{prefix}{path_and_query}")
        .parse()
        .map_err(|error: http::uri::InvalidUri| misconfigured(error.to_string()))?;
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|error| misconfigured(error.to_string()))
}

fn request(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024 + body.len());
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    bytes.extend_from_slice(format!("{method} {target} HTTP/1.1\r\n").as_bytes());
    let mut line = |name: &HeaderName, value: &HeaderValue| {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        // Checked when it was made: no line end is in it.
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    };
    for (name, value) in headers {
        line(name, value);
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn misconfigured(detail: String) -> Failure {
    Failure::new(ErrorCode::Misconfigured, Diagnosis::INTEGRATION_MISSING, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: Option<&str>) -> AwsConfig {
        let endpoints = endpoint.map(|endpoint| ("lambda".to_owned(), endpoint.parse().unwrap()));
        AwsConfig {
            region: "eu-west-1".to_owned(),
            endpoints: endpoints.into_iter().collect(),
            ..Default::default()
        }
    }

    fn address(config: &AwsConfig, service: &str, region: &str, path: &str) -> Result<String, ()> {
        let endpoint = config.endpoint(service, region).map_err(|_| ())?;
        join(&endpoint.base, path).map(|uri| uri.to_string()).map_err(|_| ())
    }

    #[test]
    fn services_have_addresses() {
        let own = config(Some("http://127.0.0.1:9001/base/"));
        for (config, service, region, expected) in [
            (&own, "lambda", "eu-west-1", Ok("http://127.0.0.1:9001/base/x?y=1")),
            (&own, "sqs", "eu-west-1", Ok("https://sqs.eu-west-1.amazonaws.com/x?y=1")),
            (&own, "sqs", "cn-north-1", Ok("https://sqs.cn-north-1.amazonaws.com.cn/x?y=1")),
            (&own, "sqs", "x.example/", Err(())),
            (&own, "SQS", "eu-west-1", Err(())),
            (&own, "", "eu-west-1", Err(())),
        ] {
            let found = address(config, service, region, "/x?y=1");
            assert_eq!(found.as_deref(), expected.as_ref().copied().map_err(|()| &()), "{service} {region}");
        }
        assert!(address(&own, "lambda", "eu-west-1", "/a b").is_err());
    }

    #[test]
    fn functions_have_paths() {
        let name = |text: &str| FunctionName::parse(text).unwrap();
        let arn = "arn:aws:lambda:eu-west-1:111122223333:function:chat:live";
        let own = config(Some("http://127.0.0.1:9001"));
        let path = "/2015-03-31/functions/chat/invocations";
        assert_eq!(invoke_path(&own, &name("chat")), path);
        assert_eq!(invoke_path(&own, &name(arn)), format!("{path}?Qualifier=live"));
        let whole = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Achat%3Alive/invocations";
        assert_eq!(invoke_path(&config(None), &name(arn)), whole);
        assert_eq!(invoke_path(&config(None), &name("chat:live")), format!("{path}?Qualifier=live"));
    }

    #[test]
    fn a_profile_signs_before_the_common_key() {
        let key = |id: &str| AwsCredentials {
            access_key_id: id.to_owned(),
            keys: CredentialKeys::permanent("hush".to_owned().into()),
        };
        let mut config = config(None);
        assert!(!config.is_reachable("lambda", None));
        config.profiles.insert("arn:aws:iam::1:role/x".to_owned(), key("AKIAPROFILE"));
        assert!(config.is_reachable("lambda", Some("arn:aws:iam::1:role/x")));
        assert!(!config.is_reachable("lambda", Some("arn:aws:iam::1:role/y")));
        config.credentials = Some(key("AKIACOMMON"));
        let of = |arn| config.credentials(arn).map(|found| found.access_key_id.as_str());
        assert_eq!(of(Some("arn:aws:iam::1:role/x")), Some("AKIAPROFILE"));
        assert_eq!(of(Some("arn:aws:iam::1:role/y")), Some("AKIACOMMON"));
        assert_eq!(of(None), Some("AKIACOMMON"));
        assert!(!format!("{config:?}").contains("hush"));
    }
}

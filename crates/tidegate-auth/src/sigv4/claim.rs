//! What a request says about its own signature, read from the `Authorization` header or from the query string.
//!
//! Reading only: nothing here is true until [`super::verify`] has checked it. A part that is there but cannot be
//! read counts as missing.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE};
use percent_encoding::percent_decode_str;

use super::date::AmzDate;
use super::error::SignatureError;
use super::{ALGORITHM, MAX_EXPIRES, RequestParts, TERMINATOR, X_AMZ_DATE, X_AMZ_SECURITY_TOKEN};
use crate::secret::Secret;

/// The claim of a request to be signed by an access key.
pub(super) struct Claim<'a> {
    pub(super) scope: Scope,
    /// Lower case, sorted, each once: a name that is repeated would repeat its value in the canonical form.
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: Cow<'a, str>,
    pub(super) date: AmzDate,
    pub(super) session_token: Option<Cow<'a, str>>,
    pub(super) form: Form,
}

/// `{access key id}/{day}/{region}/{service}/aws4_request`
pub(super) struct Scope {
    pub(super) access_key_id: String,
    pub(super) day: String,
    pub(super) region: String,
    pub(super) service: String,
}

/// Where a signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Header,
    /// In the query string. `expires` is how long it is valid, in seconds; without it as long as a header's.
    Presigned {
        expires: Option<u32>,
    },
}

impl<'a> Claim<'a> {
    /// # Errors
    /// [`SignatureError::MissingAuthenticationToken`] if there is neither form, [`SignatureError::IncompleteSignature`]
    /// if parts of it are missing.
    pub(super) fn of(parts: &RequestParts<'a>) -> Result<Self, SignatureError> {
        if parts.headers.contains_key(AUTHORIZATION) {
            return Self::from_header(parts.headers);
        }
        let parameters = SigningParameters::of(parts.query.unwrap_or_default());
        if parameters.is_signed() {
            parameters.into_claim()
        } else {
            Err(SignatureError::MissingAuthenticationToken)
        }
    }

    fn from_header(headers: &'a HeaderMap) -> Result<Self, SignatureError> {
        // Two headers cannot both be right; then no part of either is taken.
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().unwrap_or_default(),
            _ => "",
        };
        let (mut scope, mut signature, mut signed_headers) = (None, None, None);
        if let Some(rest) = value.trim().strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' ')) {
            for part in rest.split(',') {
                match part.trim().split_once('=') {
                    Some(("Credential", value)) => scope = scope.or_else(|| parse_scope(value)),
                    Some(("Signature", value)) => signature = signature.or_else(|| non_empty(value)),
                    Some(("SignedHeaders", value)) => {
                        signed_headers = signed_headers.or_else(|| parse_signed_headers(value));
                    }
                    _ => {}
                }
            }
        }
        let date = text(headers, X_AMZ_DATE)
            .and_then(AmzDate::parse)
            .or_else(|| text(headers, DATE.as_str()).and_then(AmzDate::parse_http));
        match (scope, signature, signed_headers, date) {
            (Some(scope), Some(signature), Some(signed_headers), Some(date)) => Ok(Self {
                scope,
                signed_headers,
                signature: Cow::Borrowed(signature),
                date,
                session_token: text(headers, X_AMZ_SECURITY_TOKEN).map(Cow::Borrowed),
                form: Form::Header,
            }),
            (scope, signature, signed_headers, date) => Err(incomplete_header(
                [scope.is_none(), signature.is_none(), signed_headers.is_none(), date.is_none()],
                headers,
            )),
        }
    }
}

fn incomplete_header(is_missing: [bool; 4], headers: &HeaderMap) -> SignatureError {
    const SENTENCES: [&str; 4] = [
        "Authorization header requires 'Credential' parameter. ",
        "Authorization header requires 'Signature' parameter. ",
        "Authorization header requires 'SignedHeaders' parameter. ",
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
    ];
    let mut message: String = SENTENCES
        .into_iter()
        .zip(is_missing)
        .filter_map(|(sentence, is_missing)| is_missing.then_some(sentence))
        .collect();
    message.push_str("Authorization=");
    if let Some(value) = headers.get(AUTHORIZATION) {
        message.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    SignatureError::IncompleteSignature { message: Secret::new(message) }
}

/// The signing parameters of a query string, decoded.
#[derive(Default)]
struct SigningParameters<'a> {
    algorithm: Option<Cow<'a, str>>,
    credential: Option<Cow<'a, str>>,
    date: Option<Cow<'a, str>>,
    expires: Option<Cow<'a, str>>,
    signed_headers: Option<Cow<'a, str>>,
    session_token: Option<Cow<'a, str>>,
    signature: Option<Cow<'a, str>>,
}

impl<'a> SigningParameters<'a> {
    fn of(query: &'a str) -> Self {
        let mut this = Self::default();
        for parameter in query.split('&') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let slot = match &*decoded(name) {
                "X-Amz-Algorithm" => &mut this.algorithm,
                "X-Amz-Credential" => &mut this.credential,
                "X-Amz-Date" => &mut this.date,
                "X-Amz-Expires" => &mut this.expires,
                "X-Amz-SignedHeaders" => &mut this.signed_headers,
                "X-Amz-Security-Token" => &mut this.session_token,
                "X-Amz-Signature" => &mut this.signature,
                _ => continue,
            };
            if slot.is_none() {
                *slot = Some(percent_decode_str(value).decode_utf8_lossy());
            }
        }
        this
    }

    fn is_signed(&self) -> bool {
        self.algorithm.is_some() || self.credential.is_some() || self.signature.is_some()
    }

    fn into_claim(self) -> Result<Claim<'a>, SignatureError> {
        let algorithm = self.algorithm.filter(|algorithm| algorithm == ALGORITHM);
        let scope = self.credential.as_deref().and_then(parse_scope);
        let signature = self.signature.filter(|signature| !signature.is_empty());
        let signed_headers = self.signed_headers.as_deref().and_then(parse_signed_headers);
        let date = self.date.as_deref().and_then(AmzDate::parse);
        let expires = self.expires.as_deref().map_or(Some(None), |text| parse_expires(text).map(Some));
        match (algorithm, scope, signature, signed_headers, date, expires) {
            (Some(_), Some(scope), Some(signature), Some(signed_headers), Some(date), Some(expires)) => {
                Ok(Claim {
                    scope,
                    signed_headers,
                    signature,
                    date,
                    session_token: self.session_token,
                    form: Form::Presigned { expires },
                })
            }
            (algorithm, scope, signature, signed_headers, date, expires) => Err(incomplete_query([
                ("X-Amz-Algorithm", algorithm.is_none()),
                ("X-Amz-Credential", scope.is_none()),
                ("X-Amz-Signature", signature.is_none()),
                ("X-Amz-SignedHeaders", signed_headers.is_none()),
                ("X-Amz-Date", date.is_none()),
                ("X-Amz-Expires", expires.is_none()),
            ])),
        }
    }
}

/// The counterpart of [`incomplete_header`]; it does not repeat the query, which may hold a token of the application.
fn incomplete_query(parameters: [(&str, bool); 6]) -> SignatureError {
    let mut message = String::new();
    for (name, is_missing) in parameters {
        if is_missing {
            message.push_str(&format!("AWS query-string parameters must include '{name}'. "));
        }
    }
    message.push_str("Re-examine the query-string parameters.");
    SignatureError::IncompleteSignature { message: Secret::new(message) }
}

/// A parameter's name as it is meant: encoded characters in it do not make it another one.
pub(super) fn decoded(name: &str) -> Cow<'_, str> {
    percent_decode_str(name).decode_utf8_lossy()
}

fn parse_scope(credential: &str) -> Option<Scope> {
    let parts: Vec<&str> = credential.splitn(6, '/').collect();
    let [access_key_id, day, region, service, TERMINATOR] = parts[..] else { return None };
    (!access_key_id.is_empty()).then(|| Scope {
        access_key_id: access_key_id.to_owned(),
        day: day.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
    })
}

fn parse_signed_headers(list: &str) -> Option<Vec<String>> {
    let mut names: Vec<String> =
        list.split(';').filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then_some(names)
}

/// 1 to [`MAX_EXPIRES`] seconds.
fn parse_expires(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|expires| is_number && (1..=MAX_EXPIRES).contains(expires))
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

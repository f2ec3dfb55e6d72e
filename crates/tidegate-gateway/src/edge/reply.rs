//! Answers of the public listener that are no 101.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use tidegate_core::error::ErrorCode;

/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// An answer without a body.
pub(crate) fn empty(status: u16) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply
}

/// An error in the form the AWS SDKs read: name in a header, `{"message"}` in the body. Names that the SDKs
/// know without members get an empty body. `message` replaces the text of the table.
pub(crate) fn aws_error(code: ErrorCode, message: Option<&str>) -> Reply {
    let row = code.row();
    let text = message.unwrap_or(row.message);
    let mut reply = empty(row.status);
    if !text.is_empty() {
        let body = format!(r#"{{"message":{}}}"#, serde_json::Value::from(text));
        *reply.body_mut() = Full::new(Bytes::from(body));
    }
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-amzn-errortype", HeaderValue::from_static(row.aws_name));
    reply
}

/// An answer in JSON.
pub(crate) fn json(status: u16, body: &serde_json::Value) -> Reply {
    let mut reply = empty(status);
    *reply.body_mut() = Full::new(Bytes::from(body.to_string()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

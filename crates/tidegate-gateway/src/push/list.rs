//! `GET @connections`: what is really open, so that a backend can correct its own table.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::Full;
use serde_json::json;
use tidegate_core::context::iso_time;
use tidegate_core::mapping::query_values;

use super::{Call, Refusal, bad_request};
use crate::edge::{Reply, empty};
use crate::sessions::{ConnectionFilter, Cursor};

/// Connections of a page, unless the caller says otherwise.
const PAGE: usize = 100;

/// Largest page.
const MAX_PAGE: usize = 1000;

/// Answers one page, or with `count=true` only how many there are.
pub(super) fn serve(call: &Call<'_>) -> Result<Reply, Refusal> {
    let value = |name| query_values(call.query, name).next().filter(|value| !value.is_empty());
    let filter = ConnectionFilter {
        api_id: Some(call.stage.api_id.to_string()),
        stage: Some(call.stage.name.to_string()),
        user: value("user"),
        session: value("session"),
        channel: value("channel"),
        is_open: true,
        ..ConnectionFilter::default()
    };
    if value("count").as_deref() == Some("true") {
        return Ok(answer(&json!({ "count": call.gateway.count_connections(&filter) })));
    }
    let limit = match value("limit") {
        None => PAGE,
        Some(limit) => limit
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| bad_request(&format!("limit must be 1 to {MAX_PAGE}")))?,
    };
    let after = match value("nextToken") {
        None => None,
        Some(token) => {
            Some(token.parse::<Cursor>().map_err(|_| bad_request("nextToken is not one of this list"))?)
        }
    };
    let (connections, next) = call.gateway.connections(&filter, after, limit);
    let items: Vec<_> = connections
        .iter()
        .map(|connection| {
            let mut item = json!({
                "connectionId": connection.connection_id,
                "channels": connection.channels,
                "connectedAt": iso_time(connection.connected_at),
                "lastActiveAt": iso_time(connection.last_active_at),
                "sourceIp": connection.source_ip,
            });
            if let Some(user) = &connection.user {
                item["user"] = user.as_str().into();
            }
            if let Some(session) = &connection.session {
                item["session"] = session.as_str().into();
            }
            item
        })
        .collect();
    let mut body = json!({ "count": items.len(), "connections": items });
    if let Some(next) = next {
        body["nextToken"] = next.to_string().into();
    }
    Ok(answer(&body))
}

fn answer(body: &serde_json::Value) -> Reply {
    let mut reply = empty(200);
    *reply.body_mut() = Full::new(Bytes::from(body.to_string()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

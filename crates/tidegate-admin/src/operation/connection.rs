//! Connections: which there are, closing one, sending to one.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_core::context::iso_time;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::limits::MAX_CLOSE_REASON;
use tidegate_core::notice::Place;
use tidegate_gateway::{ConnectionFilter, ConnectionInfo, Cursor, Publish, Target};

use super::{API, COUNT, ID, STAGE, TEXT};
use crate::api::Inner;
use crate::call::{Call, find_stage};
use crate::paging;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, MAX_MESSAGE, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required, text};

const AGE: Shape = Shape::Integer { min: 0, max: 4_294_967_295 };

const FILTER: &[Member] = &[
    API,
    STAGE,
    optional("user", ID, "Id of a user."),
    optional("session", ID, "Id of a session."),
    optional("channel", Shape::Channel, "Name of a channel."),
    optional("address", text(45), "Client address."),
    optional("min_age", AGE, "Connected at least so many seconds ago."),
    optional("max_age", AGE, "Connected at most so many seconds ago."),
    optional("count", Shape::Boolean, "Answers `{\"count\": ...}` only."),
    paging::LIMIT,
    paging::NEXT_TOKEN,
];

const CONNECTION: Shape = Shape::Record(&[
    required("connection_id", TEXT, "Its id."),
    required("api", TEXT, "Id of the API."),
    required("stage", TEXT, "Name of the stage."),
    required("node", COUNT, "Node that holds it."),
    required("state", Shape::OneOf(&["open", "pending", "closing"]), "`pending` while its `$connect` runs."),
    required("source_ip", TEXT, "Address of the client."),
    required("user", Shape::Nullable(&TEXT), "Id of the user, when the gateway knows one."),
    required("auth", Shape::OneOf(&["none", "token", "jwt", "api_key"]), "What established it."),
    required("session", Shape::Nullable(&TEXT), "Id of the session."),
    required("roles", Shape::List { of: &TEXT, max: usize::MAX }, "Roles of the user."),
    required("channels", Shape::List { of: &TEXT, max: usize::MAX }, "Channels, in the order of joining."),
    required("connected_at", Shape::Time, "Since when."),
    required("last_active_at", Shape::Time, "Last message in either direction."),
    required("last_received_at", Shape::Nullable(&Shape::Time), "Last message from the client."),
    required("last_sent_at", Shape::Nullable(&Shape::Time), "Last message to the client."),
    required("messages_in", COUNT, "Messages from the client."),
    required("messages_out", COUNT, "Messages to the client."),
    required("bytes_in", COUNT, "Their payload, in bytes."),
    required("bytes_out", COUNT, "Their payload, in bytes."),
    required("user_agent", Shape::Nullable(&TEXT), "As the client sent it."),
    optional(
        "recent_messages",
        Shape::List { of: &PASSED, max: 20 },
        "The newest messages of both ways, oldest first; only of one connection, and once there are any.",
    ),
]);

const PASSED: Shape = Shape::Record(&[
    required("at", Shape::Time, "When."),
    required("way", Shape::OneOf(&["in", "out"]), "From the client, or to it."),
    required("size", COUNT, "Payload in bytes."),
]);

const PAGE: Shape = Shape::Record(&[
    required(
        "connections",
        Shape::List { of: &CONNECTION, max: usize::MAX },
        "In no order that means anything.",
    ),
    paging::NEXT,
]);

const CLOSE: &[Member] = &[
    optional(
        "code",
        Shape::Integer { min: 1000, max: 4999 },
        "1000, 1001, 1008, 1011 or 3000 to 4999; 1008 unless given.",
    ),
    optional("reason", Shape::Text { min: 0, max: MAX_CLOSE_REASON }, "For the client, at most 123 bytes."),
];

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Get,
        "/api/connections",
        "listConnections",
        Access::Look(Role::Read),
        "Connections that are really open.",
        Shape::Either(&[PAGE, Shape::Record(&[required("count", COUNT, "How many there are.")])]),
        |inner, call| Box::pin(async { list(inner, call) }),
    )
    .query(FILTER),
    Route::new(
        Verb::Get,
        "/api/connections/{id}",
        "getConnection",
        Access::Look(Role::Read),
        "One connection.",
        CONNECTION,
        |inner, call| Box::pin(async { get(inner, call) }),
    )
    .refuses(&[404]),
    Route::new(
        Verb::Delete,
        "/api/connections/{id}",
        "closeConnection",
        Access::Change(Role::Operate),
        "Closes a connection.",
        Shape::Record(&[required("closed", Shape::Boolean, "Always true.")]),
        |inner, call| Box::pin(async { close(inner, call) }),
    )
    .query(CLOSE)
    .refuses(&[404]),
    Route::new(
        Verb::Post,
        "/api/connections/{id}/send",
        "sendToConnection",
        Access::Change(Role::Operate),
        "Sends the body to a connection, as one text message.",
        Shape::Record(&[required("sent", Shape::Boolean, "Always true.")]),
        |inner, call| Box::pin(send(inner, call)),
    )
    .body(Body::Message)
    .max_body(MAX_MESSAGE)
    .refuses(&[404, 429, 503]),
];

fn list(inner: &Inner, call: &Call) -> Answer {
    let text = |name| call.text(name).map(str::to_owned);
    let source_ip = match call.text("address").map(str::parse::<IpAddr>) {
        None => None,
        Some(Ok(address)) => Some(address),
        Some(Err(_)) => return Err(Refusal::problem("address", "an IP address expected")),
    };
    let filter = ConnectionFilter {
        api_id: text("api"),
        stage: text("stage"),
        user: text("user"),
        session: text("session"),
        channel: text("channel"),
        source_ip,
        min_age: call.number("min_age"),
        max_age: call.number("max_age"),
        is_open: false,
    };
    if call.is_set("count") {
        return Ok(Reply::json(json!({ "count": inner.gateway.count_connections(&filter) })));
    }
    let after = match paging::after(call)? {
        None => None,
        Some(place) => Some(place.parse::<Cursor>().map_err(|()| paging::bad_token())?),
    };
    let (connections, next) = inner.gateway.connections(&filter, after, paging::limit(call));
    let items = connections.iter().map(show).collect();
    let next = next.map(|cursor| paging::token(&cursor.to_string()));
    Ok(Reply::json(paging::list("connections", items, next)))
}

pub(super) fn show(connection: &ConnectionInfo) -> Value {
    let time = |millis: u64| (millis > 0).then(|| iso_time(millis));
    let mut shown = json!({
        "connection_id": connection.connection_id,
        "api": connection.api,
        "stage": connection.stage,
        "node": connection.node,
        "state": connection.state,
        "source_ip": connection.source_ip,
        "user": connection.user,
        "auth": connection.auth,
        "session": connection.session,
        "roles": connection.roles,
        "channels": connection.channels,
        "connected_at": iso_time(connection.connected_at),
        "last_active_at": iso_time(connection.last_active_at),
        "last_received_at": time(connection.last_received_at),
        "last_sent_at": time(connection.last_sent_at),
        "messages_in": connection.messages_in,
        "messages_out": connection.messages_out,
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
        "user_agent": connection.user_agent,
    });
    if !connection.recent.is_empty() {
        let way = |is_received: bool| if is_received { "in" } else { "out" };
        let recent = connection.recent.iter().map(|message| {
            json!({ "at": iso_time(message.at), "way": way(message.is_received), "size": message.size })
        });
        shown["recent_messages"] = recent.collect();
    }
    shown
}

/// 404, and why as far as it is remembered.
pub(super) fn gone(inner: &Inner, id: &str) -> Refusal {
    let diagnosis = inner.gateway.why_gone(id);
    Refusal::not_found(diagnosis, format!("There is no connection {id}"))
}

fn get(inner: &Inner, call: &Call) -> Answer {
    let id = call.path("id");
    let connection = inner.gateway.connection(id).ok_or_else(|| gone(inner, id))?;
    Ok(Reply::json(show(&connection)))
}

fn close(inner: &Inner, call: &Call) -> Answer {
    let code = call.number("code").unwrap_or(1008);
    if !matches!(code, 1000 | 1001 | 1008 | 1011 | 3000..=4999) {
        return Err(Refusal::problem("code", "1000, 1001, 1008, 1011 or 3000 to 4999 expected"));
    }
    let reason = call.text("reason").unwrap_or_default();
    if reason.len() > MAX_CLOSE_REASON {
        return Err(Refusal::problem("reason", format!("at most {MAX_CLOSE_REASON} bytes expected")));
    }
    let id = call.path("id");
    match inner.gateway.kick(id, u16::try_from(code).unwrap_or(1008), reason) {
        true => Ok(Reply::json(json!({ "closed": true }))),
        false => Err(gone(inner, id)),
    }
}

async fn send(inner: &Inner, call: &Call) -> Answer {
    call.utf8()?;
    let id = call.path("id");
    let connection = inner.gateway.connection(id).ok_or_else(|| gone(inner, id))?;
    let connection_id = ConnectionId::parse(id).map_err(|_| gone(inner, id))?;
    let stage = find_stage(inner, &connection.api, &connection.stage)?;
    let limit = stage.settings.data_plane.max_message_bytes;
    super::publish::check_size(call.bytes.len(), limit)?;
    super::publish::check_draining(inner)?;
    let publish = Publish {
        targets: vec![Target::Connection(connection_id)],
        payload: call.bytes.clone(),
        except: HashSet::new(),
    };
    let place = Place {
        api_id: Arc::clone(&stage.api_id),
        stage: Arc::clone(&stage.name),
        connection_id: Some(connection_id),
        ..Place::default()
    };
    let result = inner.gateway.push_to_many(&stage, publish, &place).await;
    match (result.delivered, result.slow.is_empty()) {
        (1.., _) => Ok(Reply::json(json!({ "sent": true })).with_note(json!({ "bytes": call.bytes.len() }))),
        (0, false) => {
            let mut refusal = Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                Diagnosis::CONN_SLOW_CONSUMER,
                "The client reads too slowly; nothing was sent",
            );
            refusal.retry_after = Some(1);
            Err(refusal)
        }
        (0, true) => Err(gone(inner, id)),
    }
}

//! Channels: which there are, who is in one, putting connections in and out, what the rules say.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate_auth::Role;
use tidegate_core::channel::{ChannelName, Right};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::identity::Identity;
use tidegate_gateway::ChannelError;

use super::{API, COUNT, ID, ROLES, STAGE, TEXT, THE_API, THE_STAGE};
use crate::api::Inner;
use crate::call::{Call, find_stage};
use crate::paging;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required};

/// User ids that the presence of a channel lists.
const MAX_USERS: usize = 1000;

const CHANNEL: Shape = Shape::Record(&[
    required("api", TEXT, "Id of the API."),
    required("stage", TEXT, "Name of the stage."),
    required("channel", TEXT, "Its name."),
    required("connections", COUNT, "Its connections; 0 while only its history is left."),
]);

const PRESENCE: Shape = Shape::Record(&[
    required("connections", COUNT, "Connections in it."),
    required("users", COUNT, "Different users in it."),
    required("user_ids", Shape::List { of: &TEXT, max: MAX_USERS }, "Their ids, the first 1000."),
]);

const RECHECK: &[Member] = &[API, optional("user", ID, "Only connections of this user.")];

const CHECK: &[Member] = &[
    THE_API,
    THE_STAGE,
    optional("user", ID, "Id of the user; absent: nobody."),
    optional("session", ID, "Id of the session."),
    optional("roles", ROLES, "Roles of the user."),
    optional("claims", Shape::Object, "Claims about the user."),
    required("channel", Shape::Channel, "Name of the channel."),
    required("right", Shape::OneOf(&["join", "publish", "presence"]), "What they want to do."),
];

const DECISION: Shape = Shape::Record(&[
    required(
        "decision",
        Shape::OneOf(&["allow", "deny", "ask"]),
        "`ask`: the backend decides, and was not asked now.",
    ),
    optional("rule", Shape::Nullable(&TEXT), "The rule that says so; null: none names the channel."),
    optional("id", TEXT, "Diagnosis id of a denial."),
    optional("message", TEXT, "More about it."),
    optional("nearest", Shape::Nullable(&TEXT), "A rule with nearly this name."),
    optional("url", TEXT, "Where the backend is asked."),
    optional("cache", COUNT, "Seconds for which its answer holds."),
]);

const MEMBER: &str = "/api/channels/{channel}/connections/{id}";

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Get,
        "/api/channels",
        "listChannels",
        Access::Look(Role::Read),
        "Channels that have members or history.",
        Shape::Record(&[
            required("channels", Shape::List { of: &CHANNEL, max: usize::MAX }, "By API, stage and name."),
            paging::NEXT,
        ]),
        |inner, call| Box::pin(async { list(inner, call) }),
    )
    .query(&[
        API,
        STAGE,
        optional("prefix", Shape::Text { min: 0, max: 128 }, "Names begin so."),
        paging::LIMIT,
        paging::NEXT_TOKEN,
    ]),
    Route::new(
        Verb::Post,
        "/api/channels/recheck",
        "recheckChannels",
        Access::Change(Role::Operate),
        "Asks the channel rules again; connections that lost the right leave and are told so.",
        Shape::Record(&[required("removed", COUNT, "Memberships that ended.")]),
        |inner, call| Box::pin(recheck(inner, call)),
    )
    .body(Body::Json(RECHECK)),
    Route::new(
        Verb::Get,
        "/api/channels/{channel}",
        "getChannel",
        Access::Look(Role::Read),
        "Who is in a channel.",
        PRESENCE,
        |inner, call| Box::pin(async { get(inner, call) }),
    )
    .query(&[THE_API, THE_STAGE])
    .refuses(&[404]),
    Route::new(
        Verb::Put,
        MEMBER,
        "joinChannel",
        Access::Change(Role::Operate),
        "Puts a connection into a channel, whatever the rules say.",
        Shape::Record(&[required("joined", Shape::Boolean, "False: it was there.")]),
        |inner, call| Box::pin(async { join(inner, call) }),
    )
    .refuses(&[404, 409]),
    Route::new(
        Verb::Delete,
        MEMBER,
        "leaveChannel",
        Access::Change(Role::Operate),
        "Takes a connection out of a channel.",
        Shape::Record(&[required("left", Shape::Boolean, "False: it was not there.")]),
        |inner, call| Box::pin(async { leave(inner, call) }),
    )
    .refuses(&[404]),
    Route::new(
        Verb::Post,
        "/api/permissions/check",
        "checkPermission",
        Access::Look(Role::Read),
        "What the channel rules of a stage say about somebody.",
        DECISION,
        |inner, call| Box::pin(async { check(inner, call) }),
    )
    .body(Body::Json(CHECK))
    .refuses(&[404]),
];

fn list(inner: &Inner, call: &Call) -> Answer {
    let mut groups = inner.gateway.list_channels(call.text("api"), call.text("stage"));
    if let Some(prefix) = call.text("prefix") {
        groups.retain(|group| group.name.starts_with(prefix));
    }
    super::session::page(call, groups, "channels", "channel").map(Reply::json)
}

/// The name was checked with the path or the body.
pub(super) fn channel_name(name: &str) -> Result<ChannelName, Refusal> {
    ChannelName::parse(name)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, Diagnosis::CHANNEL_INVALID, error.to_string()))
}

fn get(inner: &Inner, call: &Call) -> Answer {
    let channel = channel_name(call.path("channel"))?;
    let stage = call.stage(inner)?;
    let presence = inner.gateway.presence(&stage, &channel, MAX_USERS);
    Ok(Reply::json(json!({
        "connections": presence["connections"],
        "users": presence["users"],
        "user_ids": presence["userIds"],
    })))
}

fn refuse(inner: &Inner, id: &str, error: ChannelError) -> Refusal {
    match error {
        ChannelError::Gone => super::connection::gone(inner, id),
        ChannelError::Refused(text) => Refusal::new(StatusCode::CONFLICT, Diagnosis::CHANNEL_TOO_MANY, text),
    }
}

fn join(inner: &Inner, call: &Call) -> Answer {
    let (channel, id) = (channel_name(call.path("channel"))?, call.path("id"));
    let is_new = inner.gateway.join(id, &channel).map_err(|error| refuse(inner, id, error))?;
    Ok(Reply::json(json!({ "joined": is_new })))
}

fn leave(inner: &Inner, call: &Call) -> Answer {
    let (channel, id) = (channel_name(call.path("channel"))?, call.path("id"));
    let was_there = inner.gateway.leave(id, &channel).map_err(|error| refuse(inner, id, error))?;
    Ok(Reply::json(json!({ "left": was_there })))
}

async fn recheck(inner: &Inner, call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Request {
        api: Option<String>,
        user: Option<String>,
    }
    let request: Request = call.body()?;
    let removed = inner.gateway.recheck_channels(request.api.as_deref(), request.user.as_deref()).await;
    let note = json!({ "api": request.api, "user": request.user, "removed": removed });
    Ok(Reply::json(json!({ "removed": removed })).with_note(note))
}

fn check(inner: &Inner, call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Request {
        api: String,
        stage: String,
        user: Option<String>,
        session: Option<String>,
        #[serde(default)]
        roles: Vec<String>,
        #[serde(default)]
        claims: BTreeMap<String, Value>,
        channel: String,
        right: String,
    }
    let request: Request = call.body()?;
    let stage = find_stage(inner, &request.api, &request.stage)?;
    let right = match request.right.as_str() {
        "publish" => Right::Publish,
        "presence" => Right::Presence,
        _ => Right::Join,
    };
    let identity = Identity {
        user: request.user.map(Into::into),
        session: request.session.map(Into::into),
        roles: request.roles,
        claims: request.claims,
        ..Identity::default()
    };
    let decision = inner.gateway.decide(&stage, &identity, &channel_name(&request.channel)?, right);
    // What has no value is left out, except that no rule is an answer.
    let shown: Map<String, Value> = match decision {
        Value::Object(members) => {
            members.into_iter().filter(|(name, value)| name == "rule" || !value.is_null()).collect()
        }
        _ => Map::new(),
    };
    Ok(Reply::json(Value::Object(shown)))
}

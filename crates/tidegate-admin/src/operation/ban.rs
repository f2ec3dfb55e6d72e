//! Bans of users, sessions and tokens.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_core::context::iso_time;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_gateway::{Ban, BanError, BanKind};

use super::{API, ENDED, ID, TEXT, ended};
use crate::api::Inner;
use crate::call::Call;
use crate::paging;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, parse_time, required};

/// A hundred years, in seconds: for ever, and far from where numbers end.
const MAX_SECONDS: u64 = 3_153_600_000;

const BAN: &[Member] = &[
    required("seconds", Shape::Integer { min: 1, max: MAX_SECONDS }, "How long."),
    optional("reason", Shape::Text { min: 0, max: 1000 }, "For operators; the user does not see it."),
    API,
];

const REVOCATION: &[Member] = &[
    optional("sub", ID, "Id of a user."),
    optional("jti", ID, "Id of a JSON Web Token."),
    optional("session", ID, "Id of a session."),
    required(
        "until",
        Shape::Either(&[Shape::Time, Shape::Integer { min: 1, max: MAX_SECONDS }]),
        "A time in the future, or seconds from now.",
    ),
    optional("reason", Shape::Text { min: 0, max: 1000 }, "For operators."),
    API,
];

const SUBJECT: &[Member] = &[
    optional("sub", ID, "Id of a user."),
    optional("jti", ID, "Id of a JSON Web Token."),
    optional("session", ID, "Id of a session."),
    API,
];

const SHOWN: Shape = Shape::Record(&[
    required("kind", Shape::OneOf(&["user", "session", "token_id"]), "What is refused."),
    required("id", TEXT, "Which one."),
    optional("api", TEXT, "In this API only."),
    required("since", Shape::Time, "When it was made."),
    required("until", Shape::Time, "When it ends."),
    required("reason", TEXT, "For operators."),
]);

const LIFTED: Shape = Shape::Record(&[required("lifted", Shape::Boolean, "Whether there was one.")]);

pub(super) const ROUTES: &[Route] = &[
        Route::new(
            Verb::Post,
            "/api/users/{id}/ban",
            "banUser",
            Access::Change(Role::Operate),
            "Refuses a user for a time, and ends what they have open.",
            ENDED,
            |inner, call| Box::pin(ban_user(inner, call)),
        )
        .body(Body::Json(BAN))
        .refuses(&[409, 503]),
        Route::new(
            Verb::Delete,
            "/api/users/{id}/ban",
            "liftBan",
            Access::Change(Role::Operate),
            "Lifts the ban of a user; that of one API, or the one for all.",
            LIFTED,
            |inner, call| Box::pin(async { lift(inner, BanKind::User, call.path("id"), call.text("api")).await }),
        )
        .query(&[API])
        .refuses(&[503]),
        Route::new(
            Verb::Get,
            "/api/bans",
            "listBans",
            Access::Look(Role::Read),
            "Bans and revocations that hold, the newest first.",
            Shape::Record(&[
                required("bans", Shape::List { of: &SHOWN, max: usize::MAX }, "The newest first."),
                paging::NEXT,
            ]),
            |inner, call| Box::pin(async { list(inner, call) }),
        )
        .query(&[paging::LIMIT, paging::NEXT_TOKEN]),
        Route::new(
            Verb::Post,
            "/api/revocations",
            "revoke",
            Access::Change(Role::Operate),
            "Refuses a user, a JSON Web Token or a session until a time, and ends what they have open. Exactly one of sub, jti and session.",
            ENDED,
            |inner, call| Box::pin(revoke(inner, call)),
        )
        .body(Body::Json(REVOCATION))
        .refuses(&[409, 503]),
        Route::new(
            Verb::Delete,
            "/api/revocations",
            "liftRevocation",
            Access::Change(Role::Operate),
            "Lifts a revocation. Exactly one of sub, jti and session.",
            LIFTED,
            |inner, call| Box::pin(lift_revocation(inner, call)),
        )
        .query(SUBJECT)
        .refuses(&[503]),
];

fn subject(
    sub: Option<&str>,
    jti: Option<&str>,
    session: Option<&str>,
) -> Result<(BanKind, String), Refusal> {
    match (sub, jti, session) {
        (Some(id), None, None) => Ok((BanKind::User, id.to_owned())),
        (None, Some(id), None) => Ok((BanKind::TokenId, id.to_owned())),
        (None, None, Some(id)) => Ok((BanKind::Session, id.to_owned())),
        _ => Err(Refusal::malformed("Give exactly one of sub, jti and session")),
    }
}

async fn ban(inner: &Inner, ban: Ban) -> Answer {
    let note = json!({ "ban": show(&ban) });
    let done = inner.gateway.ban(ban).await.map_err(refuse)?;
    Ok(Reply::json(ended(done)).with_note(note))
}

fn refuse(error: BanError) -> Refusal {
    match error {
        BanError::Full => {
            Refusal::new(StatusCode::CONFLICT, Diagnosis::ADMIN_NOT_POSSIBLE, error.to_string())
        }
        BanError::Store(error) => Refusal::store(&error),
    }
}

async fn ban_user(inner: &Inner, call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Request {
        seconds: u64,
        #[serde(default)]
        reason: String,
        api: Option<String>,
    }
    let Request { seconds, reason, api } = call.body()?;
    let until = call.now.saturating_add(seconds.saturating_mul(1000));
    let id = call.path("id").to_owned();
    ban(inner, Ban { kind: BanKind::User, id, api, since: call.now, until, reason }).await
}

async fn revoke(inner: &Inner, call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Request {
        sub: Option<String>,
        jti: Option<String>,
        session: Option<String>,
        until: Value,
        #[serde(default)]
        reason: String,
        api: Option<String>,
    }
    let request: Request = call.body()?;
    let (kind, id) = subject(request.sub.as_deref(), request.jti.as_deref(), request.session.as_deref())?;
    let until = match &request.until {
        Value::String(text) => parse_time(text).unwrap_or_default(),
        until => call.now.saturating_add(until.as_u64().unwrap_or_default().saturating_mul(1000)),
    };
    if until <= call.now {
        return Err(Refusal::problem("until", "is in the past"));
    }
    let (reason, api) = (request.reason, request.api);
    ban(inner, Ban { kind, id, api, since: call.now, until, reason }).await
}

async fn lift(inner: &Inner, kind: BanKind, id: &str, api: Option<&str>) -> Answer {
    let was_there = inner.gateway.lift_ban(kind, id, api).await.map_err(refuse)?;
    Ok(Reply::json(json!({ "lifted": was_there })).with_note(json!({ "lifted": was_there })))
}

async fn lift_revocation(inner: &Inner, call: &Call) -> Answer {
    let (kind, id) = subject(call.text("sub"), call.text("jti"), call.text("session"))?;
    lift(inner, kind, &id, call.text("api")).await
}

fn show(ban: &Ban) -> Value {
    let mut shown = json!({
        "kind": ban.kind,
        "id": ban.id,
        "since": iso_time(ban.since),
        "until": iso_time(ban.until),
        "reason": ban.reason,
    });
    if let Some(api) = &ban.api {
        shown["api"] = api.as_str().into();
    }
    shown
}

fn list(inner: &Inner, call: &Call) -> Answer {
    let key = |ban: &Ban| {
        let kind = ban.kind as u8;
        format!(
            "{:020}\0{kind}\0{}\0{}",
            u64::MAX - ban.since,
            ban.id,
            ban.api.as_deref().unwrap_or_default()
        )
    };
    let (bans, next) = paging::page(call, inner.gateway.list_bans(), key)?;
    Ok(Reply::json(paging::list("bans", bans.iter().map(show).collect(), next)))
}

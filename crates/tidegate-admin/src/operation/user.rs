//! Users: who is connected, ending their connections, giving them other rights.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_core::identity::Identity;
use tidegate_gateway::{Ending, Subject};

use super::{API, COUNT, ENDED, ROLES, STAGE, TEXT, ended};
use crate::api::Inner;
use crate::call::Call;
use crate::paging;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required};

const USER: Shape = Shape::Record(&[
    required("api", TEXT, "Id of the API."),
    required("stage", TEXT, "Name of the stage."),
    required("user", TEXT, "Their id."),
    required("connections", COUNT, "Their connections."),
]);

const CLAIMS: &[Member] = &[
    optional("roles", ROLES, "Take the place of the roles they have."),
    optional("claims", Shape::Object, "Take the place of the claims they have."),
];

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Get,
        "/api/users",
        "listUsers",
        Access::Look(Role::Read),
        "Users that are connected.",
        Shape::Record(&[
            required("users", Shape::List { of: &USER, max: usize::MAX }, "By API, stage and id."),
            paging::NEXT,
        ]),
        |inner, call| Box::pin(async { list(inner, call) }),
    )
    .query(&[API, STAGE, paging::LIMIT, paging::NEXT_TOKEN]),
    Route::new(
        Verb::Post,
        "/api/users/{id}/end",
        "endUser",
        Access::Change(Role::Operate),
        "Closes all connections of a user and makes their unspent tokens worthless.",
        ENDED,
        |inner, call| Box::pin(end(inner, call)),
    )
    .query(&[API, STAGE]),
    Route::new(
        Verb::Put,
        "/api/users/{id}/claims",
        "setClaims",
        Access::Change(Role::Operate),
        "Gives a connected user other roles or claims; channels that they may no longer use lose them.",
        Shape::Record(&[
            required("connections", COUNT, "Connections that have them now."),
            required("removed", COUNT, "Memberships that ended by it."),
        ]),
        |inner, call| Box::pin(set_claims(inner, call)),
    )
    .query(&[API, STAGE])
    .body(Body::Json(CLAIMS)),
];

fn list(inner: &Inner, call: &Call) -> Answer {
    let groups = inner.gateway.list_users(call.text("api"), call.text("stage"));
    super::session::page(call, groups, "users", "user").map(Reply::json)
}

async fn end(inner: &Inner, call: &Call) -> Answer {
    let subject = Subject::User(call.path("id").to_owned());
    let (api, stage) = (call.text("api"), call.text("stage"));
    let done = ended(inner.gateway.end(&subject, api, stage, Ending::SessionEnded).await);
    Ok(Reply::json(done.clone()).with_note(done))
}

async fn set_claims(inner: &Inner, call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Request {
        roles: Option<Vec<String>>,
        claims: Option<BTreeMap<String, Value>>,
    }
    let request: Request = call.body()?;
    if request.roles.is_none() && request.claims.is_none() {
        return Err(Refusal::malformed("Give roles, claims, or both"));
    }
    let change = |before: &Identity| {
        let mut identity = before.clone();
        if let Some(roles) = &request.roles {
            identity.roles.clone_from(roles);
        }
        if let Some(claims) = &request.claims {
            identity.claims.clone_from(claims);
        }
        identity
    };
    let (api, stage) = (call.text("api"), call.text("stage"));
    let (connections, removed) = inner.gateway.set_claims(call.path("id"), api, stage, change).await;
    let note = json!({ "roles": request.roles, "claims": request.claims.map(|c| c.into_keys().collect::<Vec<_>>()), "connections": connections, "removed": removed });
    Ok(Reply::json(json!({ "connections": connections, "removed": removed })).with_note(note))
}

//! The OpenAPI 3.1 document, made of the table of routes.

use serde_json::{Map, Value, json};
use tidegate_auth::Role;

use crate::route::{self, Access, Body, Route};
use crate::shape::{Shape, optional, required};

/// A refusal.
const ERROR: Shape = Shape::Record(&[
    required("message", Shape::Text { min: 0, max: usize::MAX }, "What is wrong."),
    required("id", Shape::Text { min: 0, max: usize::MAX }, "Diagnosis id, for `tidegate explain`."),
    optional(
        "problems",
        Shape::List {
            of: &Shape::Record(&[
                required("path", Shape::Text { min: 0, max: usize::MAX }, "Which member."),
                required("message", Shape::Text { min: 0, max: usize::MAX }, "What is wrong with it."),
                optional("id", Shape::Text { min: 0, max: usize::MAX }, "Diagnosis id."),
            ]),
            max: usize::MAX,
        },
        "Everything that is wrong.",
    ),
]);

/// Statuses and what they mean.
const STATUSES: &[(u16, &str)] = &[
    (400, "What was sent cannot be understood or used."),
    (401, "Nothing says who calls."),
    (403, "Who calls is not known here or lacks the role."),
    (404, "There is no such thing."),
    (409, "That is not possible as things are."),
    (413, "The body is too large."),
    (415, "The body has another type."),
    (429, "Too many; `Retry-After` says when."),
    (503, "The store does not answer, or the node is stopping."),
];

/// The document.
pub(crate) fn document(version: &str) -> Value {
    let mut paths = Map::new();
    for route in route::all() {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        entry[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate administration",
            "version": version,
            "description": "Sessions, connections, channels, tokens, policies and definitions of a Tidegate node.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "sigv4": [] }],
        "paths": paths,
        "components": {
            "schemas": { "Error": ERROR.schema() },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "A key of `[[keys]]`." },
                "sigv4": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4 of the service apigateway.",
                },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters = Vec::new();
    for name in route.path_parameters() {
        parameters.push(json!({
            "name": name,
            "in": "path",
            "required": true,
            "schema": Route::path_shape(name).schema(),
        }));
    }
    for member in route.query {
        parameters.push(json!({
            "name": member.name,
            "in": "query",
            "required": member.is_required,
            "description": member.text,
            "schema": member.shape.schema(),
        }));
    }
    let mut content = json!({ "application/json": { "schema": route.reply.schema() } });
    if route.operation == "export" {
        content["application/toml"] = json!({ "schema": { "type": "string" } });
    }
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({ "description": "Done.", "content": content }));
    for status in route.all_refusals() {
        let text = STATUSES.iter().find(|(known, _)| *known == status).map_or("Refused.", |(_, text)| text);
        let mut response = json!({
            "description": text,
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
        });
        if status == 401 {
            response["headers"] =
                json!({ "WWW-Authenticate": { "required": true, "schema": { "type": "string" } } });
        }
        responses.insert(status.to_string(), response);
    }
    let mut shown = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.path.split('/').nth(2).unwrap_or_default()],
        "parameters": parameters,
        "responses": responses,
    });
    match route.access {
        Access::Open => shown["security"] = json!([]),
        Access::Look(role) | Access::Change(role) => {
            shown["description"] = format!("Role: {role}{}.", changes(route.access, role)).into();
        }
    }
    match route.body {
        Body::None => {}
        Body::Json(members) => {
            let is_required = members.iter().any(|member| member.is_required);
            let schema = Shape::Record(members).schema();
            shown["requestBody"] =
                json!({ "required": is_required, "content": { "application/json": { "schema": schema } } });
        }
        Body::Message => {
            let schema = json!({ "type": "string" });
            shown["requestBody"] =
                json!({ "required": true, "content": { "text/plain": { "schema": schema } } });
        }
        Body::Document(text) => {
            shown["requestBody"] = json!({
                "required": true,
                "description": text,
                "content": {
                    "application/json": { "schema": { "type": "object" } },
                    "application/toml": { "schema": { "type": "string" } },
                },
            });
        }
    }
    shown
}

fn changes(access: Access, role: Role) -> &'static str {
    match (access, role) {
        (Access::Change(_), Role::Administer) => ", recorded before it happens",
        (Access::Change(_), _) => ", recorded",
        _ => "",
    }
}

//! Authorizers of type `JWT`: where the token is, and whether what a verified one says is enough.
//!
//! Signature, times and issuer are checked by whoever has the keys; everything here is a function from values to values.
//!
//! Source: *Control access to HTTP APIs with JWT authorizers* in the API Gateway developer guide. The service has them
//! for HTTP APIs only.

use serde_json::Value;

use super::{IdentitySource, identity_sources};
use crate::context::TokenClaims;
use crate::definition::{self, Map};
use crate::mapping::Inputs;

/// What [`IdentitySource`]s of HTTP APIs begin with, and what they begin with here.
const HTTP_FORM: (&str, &str) = ("$request.", "route.request.");

/// An authorizer of type `JWT`, compiled for the route that uses it.
#[derive(Debug)]
pub struct JwtAuthorizer {
    /// Its id.
    pub authorizer_id: String,
    /// Its name.
    pub name: String,
    /// What `iss` must be, byte for byte; an `http(s)://` address below which its keys are found.
    pub issuer: String,
    /// One of them must be in `aud`, or be `client_id` where there is no `aud`.
    pub audience: Vec<String>,
    /// One of them must be in `scope` or `scp`; empty = none is asked for.
    pub scopes: Vec<String>,
    /// Where the token is; the first that is there counts. At least one.
    pub identity_sources: Vec<IdentitySource>,
}

/// Why a token that is genuine is not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimsRefusal {
    /// It is for somebody else.
    Audience,
    /// It has none of the scopes that the route asks for.
    Scopes,
}

impl JwtAuthorizer {
    /// Compiles a definition; `scopes` are those of the route.
    ///
    /// # Errors
    /// Why it cannot work, for operators.
    pub fn compile(definition: &definition::Authorizer, scopes: &[String]) -> Result<Self, String> {
        let configuration = definition.jwt_configuration.as_ref().ok_or("it has no jwtConfiguration")?;
        let issuer = configuration.issuer.clone().filter(|issuer| super::is_http(issuer));
        let list: Vec<String> = definition
            .identity_source
            .iter()
            .flat_map(|entry| entry.split(','))
            .map(|entry| match entry.trim().strip_prefix(HTTP_FORM.0) {
                Some(rest) => format!("{}{rest}", HTTP_FORM.1),
                None => entry.to_owned(),
            })
            .collect();
        let sources = identity_sources(&list).map_err(|bad| format!("`{bad}` is no identity source"))?;
        if sources.is_empty() {
            return Err("it has no identity source, so it cannot know where tokens are".to_owned());
        }
        Ok(Self {
            authorizer_id: definition.authorizer_id.clone(),
            name: definition.name.clone(),
            issuer: issuer.ok_or("its issuer is no address")?,
            audience: configuration.audience.iter().filter(|text| !text.is_empty()).cloned().collect(),
            scopes: scopes.iter().filter(|text| !text.is_empty()).cloned().collect(),
            identity_sources: sources,
        })
    }

    /// The token of a handshake, without `Bearer` before it; nothing if no source has one.
    pub fn token(&self, inputs: &Inputs<'_>) -> Option<String> {
        let value = self
            .identity_sources
            .iter()
            .find_map(|known| known.source.evaluate(inputs).filter(|value| !value.trim().is_empty()))?;
        let value = value.trim();
        let bare = match value.split_once(' ') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
            _ => value,
        };
        Some(bare.to_owned())
    }

    /// Where tokens are looked for, as it is written.
    pub fn places(&self) -> Vec<&str> {
        self.identity_sources.iter().map(|known| known.text.as_str()).collect()
    }

    /// Looks at audience and scopes of a token whose signature, times and issuer are right.
    ///
    /// # Errors
    /// [`ClaimsRefusal`]; the audience is looked at first.
    pub fn judge(&self, claims: &serde_json::Map<String, Value>) -> Result<TokenClaims, ClaimsRefusal> {
        let is_ours = |text: &str| self.audience.iter().any(|known| known == text);
        let is_for_us = match claims.get("aud") {
            None | Some(Value::Null) => claims.get("client_id").and_then(Value::as_str).is_some_and(is_ours),
            Some(Value::String(audience)) => is_ours(audience),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(is_ours),
            Some(_) => false,
        };
        if !is_for_us {
            return Err(ClaimsRefusal::Audience);
        }
        let scopes = scopes(claims);
        if !self.scopes.is_empty() && !scopes.iter().any(|scope| self.scopes.contains(scope)) {
            return Err(ClaimsRefusal::Scopes);
        }
        let claims: Map = claims
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        // The service tells scopes of routes that ask for some.
        let scopes = (!self.scopes.is_empty()).then_some(scopes);
        Ok(TokenClaims { claims, scopes })
    }
}

/// `scope` is a text with blanks between (RFC 8693, section 4.2), `scp` a text or a list.
fn scopes(claims: &serde_json::Map<String, Value>) -> Vec<String> {
    let mut scopes = Vec::new();
    for name in ["scope", "scp"] {
        match claims.get(name) {
            Some(Value::String(text)) => scopes.extend(text.split_whitespace().map(str::to_owned)),
            Some(Value::Array(list)) => {
                scopes.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            _ => {}
        }
    }
    scopes
}

/// A claim as backends get it: everything is text, lists are `[a b]`.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(text).collect();
            format!("[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::definition::JwtConfiguration;

    fn definition(sources: &[&str]) -> definition::Authorizer {
        definition::Authorizer {
            identity_source: sources.iter().map(|&text| text.to_owned()).collect(),
            jwt_configuration: Some(JwtConfiguration {
                audience: vec!["app".to_owned(), "web".to_owned()],
                issuer: Some("https://id.example.com".to_owned()),
            }),
            ..definition::Authorizer::default()
        }
    }

    fn judged(scopes: &[&str], claims: Value) -> Result<TokenClaims, ClaimsRefusal> {
        let scopes: Vec<String> = scopes.iter().map(|&text| text.to_owned()).collect();
        let authorizer =
            JwtAuthorizer::compile(&definition(&["route.request.header.Authorization"]), &scopes).unwrap();
        authorizer.judge(claims.as_object().unwrap())
    }

    #[test]
    fn the_audience_is_one_of_ours() {
        for claims in [
            json!({ "aud": "app" }),
            json!({ "aud": ["other", "web"] }),
            json!({ "client_id": "app" }),
            json!({ "aud": null, "client_id": "web" }),
        ] {
            assert!(judged(&[], claims.clone()).is_ok(), "{claims}");
        }
        for claims in [
            json!({}),
            json!({ "aud": "App" }),
            json!({ "aud": [] }),
            json!({ "aud": { "app": true } }),
            json!({ "client_id": "other" }),
            // The client's id counts only where there is no audience.
            json!({ "aud": "other", "client_id": "app" }),
        ] {
            assert_eq!(judged(&[], claims.clone()), Err(ClaimsRefusal::Audience), "{claims}");
        }
    }

    #[test]
    fn one_of_the_scopes_is_enough() {
        let claims = |name: &str, scopes: Value| json!({ "aud": "app", name: scopes });
        for (name, scopes) in [
            ("scope", json!("read write")),
            ("scope", json!("  write\tother")),
            ("scp", json!(["write"])),
            ("scp", json!("write")),
        ] {
            assert!(judged(&["admin", "write"], claims(name, scopes.clone())).is_ok(), "{name} {scopes}");
        }
        for (name, scopes) in [
            ("scope", json!("rewrite")),
            ("scp", json!(["read"])),
            ("scope", json!("")),
            ("x", json!("write")),
        ] {
            let refused = judged(&["admin", "write"], claims(name, scopes.clone()));
            assert_eq!(refused, Err(ClaimsRefusal::Scopes), "{name} {scopes}");
        }
        assert_eq!(judged(&[], claims("scope", json!("a b"))).unwrap().scopes, None);
        let told = judged(&["b"], claims("scope", json!("a b"))).unwrap().scopes;
        assert_eq!(told, Some(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn claims_become_texts() {
        let claims = json!({
            "aud": "app", "sub": "ada", "exp": 1_700_000_000, "email_verified": true, "none": null,
            "cognito:groups": ["admin", "staff"], "address": { "city": "Ulm" },
        });
        let claims = judged(&[], claims).unwrap().claims;
        let expected = [
            ("address", r#"{"city":"Ulm"}"#),
            ("aud", "app"),
            ("cognito:groups", "[admin staff]"),
            ("email_verified", "true"),
            ("exp", "1700000000"),
            ("sub", "ada"),
        ];
        let claims: Vec<(&str, &str)> = claims.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(claims, expected);
    }

    #[test]
    fn sources_are_those_of_websocket_and_of_http_apis() {
        let compile = |sources: &[&str]| JwtAuthorizer::compile(&definition(sources), &[]);
        for source in ["$request.header.Authorization", "route.request.header.Authorization"] {
            assert_eq!(compile(&[source]).unwrap().places(), ["route.request.header.Authorization"]);
        }
        let two = compile(&["$request.querystring.token, $request.header.Authorization"]).unwrap();
        assert_eq!(two.places().len(), 2);
        assert!(compile(&[""]).unwrap_err().contains("no identity source"));
        assert!(compile(&["'x'"]).is_err());
        let mut broken = definition(&["route.request.header.Authorization"]);
        broken.jwt_configuration = None;
        assert!(JwtAuthorizer::compile(&broken, &[]).is_err());
    }
}

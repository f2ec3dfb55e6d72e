//! Authorizers of `$connect`: what a deployment makes of their definitions, and what their answers mean.
//!
//! Asking one is the data plane's business; everything here is a function from values to values. What a policy says is
//! decided by [`crate::iam_policy`].
//!
//! Source: *Output from an API Gateway Lambda authorizer* in the API Gateway developer guide.

mod jwt;

use serde_json::Value;

pub use self::jwt::{ClaimsRefusal, JwtAuthorizer};
use crate::context::AuthorizerAnswer;
use crate::definition::{self, Map};
use crate::iam_policy::{Access, Decision, PolicyDocument};
use crate::mapping::{Inputs, Source};
use crate::snapshot::{FunctionUri, LambdaIntegration, UriTemplate};

/// Longest answer of an authorizer, in bytes. Source: API Gateway quotas: 8 KB.
pub const MAX_ANSWER: usize = 8192;

/// The error by which a function says that it knows nobody like this: the answer is 401 then.
pub const UNAUTHORIZED: &str = "Unauthorized";

/// An authorizer, compiled.
#[derive(Debug)]
pub struct Authorizer {
    /// Its id.
    pub authorizer_id: String,
    /// Its name.
    pub name: String,
    /// Who is asked.
    pub target: AuthorizerTarget,
    /// What must be there before it is asked.
    pub identity_sources: Vec<IdentitySource>,
}

/// Who is asked.
#[derive(Debug)]
pub enum AuthorizerTarget {
    /// A function.
    Function(LambdaIntegration),
    /// An HTTP address, which gets the same JSON and answers with the same.
    Http(UriTemplate),
    /// Nobody; the text is for operators.
    Broken(String),
}

/// One entry of `identitySource`.
#[derive(Debug)]
pub struct IdentitySource {
    /// As it is written: `route.request.header.Auth`.
    pub text: String,
    source: Source,
}

impl Authorizer {
    /// Compiles a definition. What cannot work becomes [`AuthorizerTarget::Broken`]: it refuses everybody.
    pub fn compile(definition: &definition::Authorizer) -> Self {
        let sources = identity_sources(&definition.identity_source);
        let target = match (&sources, definition.authorizer_uri.as_deref()) {
            (Err(bad), _) => Err(format!("`{bad}` is no identity source")),
            (_, None | Some("")) => Err("the authorizer has no URI".to_owned()),
            (_, Some(uri)) if is_http(uri) => {
                UriTemplate::parse(uri).map(AuthorizerTarget::Http).map_err(|error| error.to_string())
            }
            (_, Some(uri)) => FunctionUri::parse(uri)
                .map(|function| {
                    let credentials_arn = definition.authorizer_credentials_arn.clone();
                    AuthorizerTarget::Function(LambdaIntegration { function, credentials_arn })
                })
                .map_err(|error| error.to_string()),
        };
        Self {
            authorizer_id: definition.authorizer_id.clone(),
            name: definition.name.clone(),
            target: target.unwrap_or_else(AuthorizerTarget::Broken),
            identity_sources: sources.unwrap_or_default(),
        }
    }

    /// The identity sources that are absent or empty.
    pub fn missing_sources(&self, inputs: &Inputs<'_>) -> Vec<&str> {
        let is_missing =
            |known: &&IdentitySource| known.source.evaluate(inputs).is_none_or(|value| value.is_empty());
        self.identity_sources.iter().filter(is_missing).map(|known| known.text.as_str()).collect()
    }
}

/// Whether an authorizer's URI is an HTTP address, and not a function.
pub fn is_http(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

/// Reads `identitySource`: a list whose entries may be lists themselves, separated by commas. Empty entries ask for
/// nothing. The error is the entry that is none.
fn identity_sources(list: &[String]) -> Result<Vec<IdentitySource>, String> {
    let entries = list.iter().flat_map(|entry| entry.split(',')).map(str::trim);
    let parse = |text: &str| match Source::parse(text) {
        Ok(
            source @ (Source::Header(_) | Source::Query(_) | Source::Context(_) | Source::StageVariable(_)),
        ) => Ok(IdentitySource { text: text.to_owned(), source }),
        _ => Err(text.to_owned()),
    };
    entries.filter(|entry| !entry.is_empty()).map(parse).collect()
}

/// What an authorizer has answered, in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The client may connect.
    Allow {
        /// What stays known of it; `latency_ms` is left to whoever has measured it.
        answer: AuthorizerAnswer,
        /// `usageIdentifierKey`: an API key.
        usage_identifier_key: Option<String>,
    },
    /// It may not.
    Deny {
        /// Why not.
        reason: Denial,
        /// Whom the answer is about; empty where it does not say.
        principal_id: String,
    },
    /// The answer is none.
    Invalid {
        /// For operators; no value of the answer.
        reason: String,
    },
}

/// Why an answer denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// A statement of the policy denies, or `isAuthorized` is false.
    Explicit,
    /// Nothing in the policy allows.
    NoAllow {
        /// Resources that it allows in place of the one that was asked for; at most three.
        other_resources: Vec<String>,
    },
}

impl Denial {
    /// What the client is told. Source: recorded answers of the service.
    pub fn message(&self) -> &'static str {
        match self {
            Self::Explicit => {
                "User is not authorized to access this resource with an explicit deny in an identity-based policy"
            }
            Self::NoAllow { .. } => {
                "User is not authorized to access this resource because no identity-based policy allows the \
                 execute-api:Invoke action"
            }
        }
    }
}

/// Reads the answer of an authorizer: JSON of at most [`MAX_ANSWER`] bytes. `is_simple_allowed`: an answer with
/// `isAuthorized` counts, too.
pub fn judge(answer: &[u8], access: &Access<'_>, is_simple_allowed: bool) -> Verdict {
    match read(answer, access, is_simple_allowed) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Invalid { reason },
    }
}

fn read(answer: &[u8], access: &Access<'_>, is_simple_allowed: bool) -> Result<Verdict, String> {
    if answer.len() > MAX_ANSWER {
        return Err(format!("{} bytes, {MAX_ANSWER} are permitted", answer.len()));
    }
    let answer: Value = serde_json::from_slice(answer).map_err(|_| "it is no JSON".to_owned())?;
    let members = answer.as_object().ok_or("it is no object")?;
    let text = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{name} is no text")),
    };
    let simple = members.get("isAuthorized").filter(|_| is_simple_allowed);
    let principal_id = text("principalId")?.filter(|principal_id| !principal_id.is_empty());
    let principal_id = match (principal_id, simple) {
        (Some(principal_id), _) => principal_id,
        (None, Some(_)) => String::new(),
        (None, None) => return Err("principalId is missing".to_owned()),
    };
    let context = match members.get("context") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(entries)) => entries
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name.clone(), text.clone())),
                Value::Number(_) | Value::Bool(_) => Ok((name.clone(), value.to_string())),
                _ => Err("an entry of context is no text, number or boolean".to_owned()),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err("context is no object".to_owned()),
    };
    let usage_identifier_key = text("usageIdentifierKey")?;
    let decision = match simple {
        Some(Value::Bool(true)) => Decision::Allow,
        Some(Value::Bool(false)) => Decision::ExplicitDeny { statement: 0 },
        Some(_) => return Err("isAuthorized is no boolean".to_owned()),
        None => {
            let document = members.get("policyDocument").ok_or("policyDocument is missing")?;
            PolicyDocument::parse(document)
                .map_err(|error| format!("policyDocument: {error}"))?
                .decide(access)
        }
    };
    let reason = match decision {
        Decision::Allow => {
            let answer = AuthorizerAnswer { principal_id, context, ..AuthorizerAnswer::default() };
            return Ok(Verdict::Allow { answer, usage_identifier_key });
        }
        Decision::ExplicitDeny { .. } => Denial::Explicit,
        Decision::NoAllow { other_resources } => Denial::NoAllow { other_resources },
    };
    Ok(Verdict::Deny { reason, principal_id })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::iam_policy::ConditionKeys;

    const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/$connect";

    fn judged(answer: &Value, is_simple_allowed: bool) -> Verdict {
        let keys = ConditionKeys::default();
        let access = Access { action: "execute-api:Invoke", resource: ARN, keys: &keys };
        judge(answer.to_string().as_bytes(), &access, is_simple_allowed)
    }

    fn answer(effect: &str, resource: &str) -> Value {
        json!({
            "principalId": "user-42",
            "policyDocument": { "Version": "2012-10-17", "Statement": [
                { "Effect": effect, "Action": "execute-api:Invoke", "Resource": resource },
            ] },
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut answer = answer("Allow", ARN);
        answer[name] = value;
        answer
    }

    fn invalid(answer: &Value) -> String {
        match judged(answer, false) {
            Verdict::Invalid { reason } => reason,
            verdict => panic!("{answer}: {verdict:?}"),
        }
    }

    #[test]
    fn values_of_the_context_become_texts() {
        // AG-18
        let mut allowed =
            with("context", json!({ "plan": "gold", "level": 3, "share": 0.5, "beta": true, "none": null }));
        allowed["usageIdentifierKey"] = "key".into();
        let Verdict::Allow { answer, usage_identifier_key } = judged(&allowed, false) else { panic!() };
        assert_eq!(answer.principal_id, "user-42");
        let expected = [("beta", "true"), ("level", "3"), ("plan", "gold"), ("share", "0.5")];
        let context: Vec<(&str, &str)> =
            answer.context.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(context, expected);
        assert_eq!(usage_identifier_key.as_deref(), Some("key"));
    }

    #[test]
    fn policies_allow_and_deny() {
        let denial = |answer: &Value| match judged(answer, false) {
            Verdict::Deny { reason, principal_id } => (reason, principal_id),
            verdict => panic!("{verdict:?}"),
        };
        assert_eq!(denial(&answer("Deny", "*")), (Denial::Explicit, "user-42".to_owned()));
        let rest = "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/*/*";
        let no_allow = Denial::NoAllow { other_resources: vec![rest.to_owned()] };
        assert_eq!(denial(&answer("Allow", rest)).0, no_allow);
        assert!(matches!(judged(&answer("Allow", "*"), false), Verdict::Allow { .. }));
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        // authorizer.bad-answer
        for (answer, reason) in [
            (json!("x"), "it is no object"),
            (json!({ "statusCode": 200 }), "principalId is missing"),
            (with("principalId", json!("")), "principalId is missing"),
            (with("principalId", json!(42)), "principalId is no text"),
            (json!({ "principalId": "a" }), "policyDocument is missing"),
            (with("policyDocument", json!({})), "policyDocument: Statement: missing"),
            (with("context", json!([])), "context is no object"),
            (with("context", json!({ "a": {} })), "an entry of context is no text, number or boolean"),
            (with("context", json!({ "a": [1] })), "an entry of context is no text, number or boolean"),
            (with("usageIdentifierKey", json!(1)), "usageIdentifierKey is no text"),
            (with("more", json!("x".repeat(MAX_ANSWER))), "8413 bytes, 8192 are permitted"),
            (json!({ "isAuthorized": true }), "principalId is missing"),
        ] {
            assert_eq!(invalid(&answer), reason);
        }
        let keys = ConditionKeys::default();
        let access = Access { action: "execute-api:Invoke", resource: ARN, keys: &keys };
        for text in ["", "null x", "{"] {
            assert_eq!(
                judge(text.as_bytes(), &access, false),
                Verdict::Invalid { reason: "it is no JSON".into() }
            );
        }
    }

    #[test]
    fn simple_answers_count_where_they_are_switched_on() {
        let yes = json!({ "isAuthorized": true, "context": { "plan": "gold" } });
        let Verdict::Allow { answer: said, .. } = judged(&yes, true) else { panic!() };
        assert_eq!((said.principal_id.as_str(), said.context["plan"].as_str()), ("", "gold"));
        let no = judged(&json!({ "isAuthorized": false }), true);
        assert_eq!(no, Verdict::Deny { reason: Denial::Explicit, principal_id: String::new() });
        assert!(matches!(judged(&json!({ "isAuthorized": "true" }), true), Verdict::Invalid { .. }));
        // Beside them, policies count as ever.
        assert!(matches!(judged(&answer("Allow", ARN), true), Verdict::Allow { .. }));
    }

    #[test]
    fn identity_sources_are_lists_of_lists() {
        let parse = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|&text| text.to_owned()).collect();
            identity_sources(&list)
                .map(|sources| sources.into_iter().map(|source| source.text).collect::<Vec<_>>())
        };
        let two = ["route.request.header.Auth", "route.request.querystring.token"].map(str::to_owned);
        assert_eq!(parse(&["route.request.header.Auth, route.request.querystring.token"]), Ok(two.to_vec()));
        assert_eq!(
            parse(&["route.request.header.Auth", "", "route.request.querystring.token"]),
            Ok(two.to_vec())
        );
        assert_eq!(parse(&["context.identity.sourceIp", "stageVariables.key"]).map(|list| list.len()), Ok(2));
        assert_eq!(parse(&[""]), Ok(Vec::new()));
        for bad in ["$request.header.Auth", "route.request.body.a", "'x'", "route.request.header."] {
            assert_eq!(parse(&[bad]), Err(bad.to_owned()));
        }
    }

    #[test]
    fn uris_are_functions_or_addresses() {
        let compile = |uri: Option<&str>| {
            let uri = uri.map(str::to_owned);
            let definition =
                definition::Authorizer { authorizer_uri: uri, ..definition::Authorizer::default() };
            Authorizer::compile(&definition).target
        };
        let function = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/\
                        arn:aws:lambda:us-east-1:123456789012:function:auth/invocations";
        assert!(matches!(compile(Some(function)), AuthorizerTarget::Function(_)));
        assert!(matches!(compile(Some("https://auth.example/check")), AuthorizerTarget::Http(_)));
        for broken in [None, Some(""), Some("http://"), Some("arn:aws:s3:::bucket")] {
            assert!(matches!(compile(broken), AuthorizerTarget::Broken(_)), "{broken:?}");
        }
    }
}

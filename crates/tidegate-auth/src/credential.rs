//! Credentials and what they may do: allow rules, resource ARNs, the text of a denial.
//!
//! Rules only allow; there is no deny, no condition and no policy document. [`crate::sigv4`] says who is calling,
//! this module whether they may.

use tidegate_core::wildcard::is_match;

use crate::secret::Secret;

/// Action of `POST`, `GET` and `DELETE /@connections/{id}`.
pub const MANAGE_CONNECTIONS: &str = "execute-api:ManageConnections";

/// Action of a handshake whose `$connect` route has authorization type `AWS_IAM`.
pub const INVOKE: &str = "execute-api:Invoke";

/// Longest rule that is honored, in bytes; a longer one allows nothing.
///
/// It bounds one match to this many steps per byte of the resource. Source: our choice; an IAM ARN has at most 2,048.
pub const MAX_RULE: usize = 2_048;

/// An access key of this installation.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The public half, for example `AKIDEXAMPLE`.
    pub access_key_id: String,
    /// The secret half, from which signatures are made.
    pub secret: Secret,
    /// What this credential may do; an **empty list allows everything** (the root credential).
    ///
    /// A rule is an ARN pattern, in which `*` stands for any text (also across `/` and `:`) and `?` for one character:
    /// `arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/POST/@connections/*`. It allows
    /// [`MANAGE_CONNECTIONS`] only, because in AWS no other action implies it or is implied by it. To allow another
    /// action, put a pattern for it and a space in front: `execute-api:Invoke arn:aws:execute-api:*/prod/$connect`.
    pub allow: Vec<String>,
}

impl Credential {
    /// Whether this credential may do `action` on the resource `resource_arn` (see [`ResourceScope`]).
    pub fn allows(&self, action: &str, resource_arn: &str) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|rule| is_allowed_by(rule, action, resource_arn))
    }
}

fn is_allowed_by(rule: &str, action: &str, resource_arn: &str) -> bool {
    if rule.len() > MAX_RULE {
        return false;
    }
    let (rule_action, rule_resource) = rule.split_once(' ').unwrap_or((MANAGE_CONNECTIONS, rule));
    // IAM compares action names without case and resources with case.
    is_match(&rule_action.to_ascii_lowercase(), &action.to_ascii_lowercase())
        && is_match(rule_resource, resource_arn)
}

/// What a resource ARN is made of, down to the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceScope<'a> {
    /// `aws` unless configured otherwise.
    pub partition: &'a str,
    /// The configured region, for example `us-east-1`.
    pub region: &'a str,
    /// The account, 12 digits.
    pub account: &'a str,
    /// The API's id, 10 characters.
    pub api_id: &'a str,
    /// The stage's name.
    pub stage: &'a str,
}

impl ResourceScope<'_> {
    /// The resource of [`MANAGE_CONNECTIONS`].
    ///
    /// The last part is the literal text `{connectionId}`, as in AWS: rules cannot single out one connection.
    pub fn manage_connections_arn(&self, method: &str) -> String {
        self.arn(self.account, &format!("{method}/@connections/{{connectionId}}"))
    }

    /// The resource of [`MANAGE_CONNECTIONS`] for what Tidegate has beside connections: `@channels`, `@users`,
    /// `@broadcast`. Rules can single out one channel or user.
    pub fn push_arn(&self, method: &str, collection: &str, name: Option<&str>) -> String {
        let name = name.map(|name| format!("/{name}")).unwrap_or_default();
        self.arn(self.account, &format!("{method}/{collection}{name}"))
    }

    /// The resource of [`INVOKE`] for a handshake.
    pub fn connect_arn(&self) -> String {
        self.arn(self.account, "$connect")
    }

    fn arn(&self, account: &str, rest: &str) -> String {
        let Self { partition, region, api_id, stage, .. } = self;
        format!("arn:{partition}:execute-api:{region}:{account}:{api_id}/{stage}/{rest}")
    }
}

/// The `Message` of an `AccessDeniedException` (the member has a capital M on the wire).
///
/// `user_arn` names the caller; in the resource all of the account but its last four digits is replaced by
/// `********`. Source: recorded replies of the service.
pub fn access_denied_message(user_arn: &str, action: &str, resource_arn: &str) -> String {
    let masked = mask_account(resource_arn);
    format!("User: {user_arn} is not authorized to perform: {action} on resource: {masked}")
}

fn mask_account(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [arn_word, partition, service, region, account, rest] = parts[..] else { return arn.to_owned() };
    let hidden = account.char_indices().rev().nth(3).map_or(0, |(idx, _)| idx);
    let digits = &account[hidden..];
    format!("{arn_word}:{partition}:{service}:{region}:********{digits}:{rest}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCOPE: ResourceScope<'_> = ResourceScope {
        partition: "aws",
        region: "us-east-1",
        account: "123456789012",
        api_id: "abc123def4",
        stage: "prod",
    };

    fn credential(allow: &[&str]) -> Credential {
        Credential {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("secret"),
            allow: allow.iter().map(|&rule| rule.to_owned()).collect(),
        }
    }

    #[test]
    fn arns_are_those_of_execute_api() {
        assert_eq!(
            SCOPE.manage_connections_arn("POST"),
            "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/POST/@connections/{connectionId}"
        );
        assert_eq!(
            SCOPE.connect_arn(),
            "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/$connect"
        );
    }

    #[test]
    fn common_policy_resources_allow_a_post() {
        let arn = SCOPE.manage_connections_arn("POST");
        for rule in [
            "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/POST/@connections/*",
            "arn:aws:execute-api:us-east-1:123456789012:abc123def4/*",
            "arn:aws:execute-api:us-east-1:123456789012:*/*/*/*",
            "arn:aws:execute-api:us-east-1:123456789012:abc123def?/prod/*/@connections/{connectionId}",
            "arn:aws:execute-api:*:*:*",
            "*",
            "execute-api:ManageConnections *",
            "execute-api:* *",
            "EXECUTE-API:manageconnections arn:aws:execute-api:*",
        ] {
            assert!(credential(&[rule]).allows(MANAGE_CONNECTIONS, &arn), "{rule}");
            assert!(credential(&["arn:none", rule]).allows(MANAGE_CONNECTIONS, &arn), "{rule}");
        }
    }

    #[test]
    fn other_rules_do_not_allow_a_post() {
        let arn = SCOPE.manage_connections_arn("POST");
        let long = "*".repeat(MAX_RULE + 1);
        for rule in [
            "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/GET/@connections/*",
            "arn:aws:execute-api:us-east-1:123456789012:abc123def4/dev/*",
            "arn:aws:execute-api:us-east-1:123456789012:ABC123DEF4/*",
            "arn:aws:execute-api:eu-west-1:123456789012:*",
            "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/POST/@connections/R0oXAdfD0kwCH6w=",
            "execute-api:Invoke *",
            "",
            &long,
        ] {
            assert!(!credential(&[rule]).allows(MANAGE_CONNECTIONS, &arn), "{rule}");
        }
    }

    #[test]
    fn a_rule_without_an_action_allows_managing_connections_only() {
        assert!(!credential(&["*"]).allows(INVOKE, &SCOPE.connect_arn()));
        assert!(credential(&["execute-api:Invoke *"]).allows(INVOKE, &SCOPE.connect_arn()));
    }

    #[test]
    fn a_credential_without_rules_is_root() {
        assert!(credential(&[]).allows(MANAGE_CONNECTIONS, &SCOPE.manage_connections_arn("DELETE")));
        assert!(
            credential(&[]).allows("apigateway:DELETE", "arn:aws:apigateway:us-east-1::/apis/abc123def4")
        );
    }

    #[test]
    fn a_denial_masks_the_account() {
        assert_eq!(
            access_denied_message(
                "arn:aws:iam::123456789012:user/pusher",
                MANAGE_CONNECTIONS,
                &SCOPE.manage_connections_arn("POST")
            ),
            "User: arn:aws:iam::123456789012:user/pusher is not authorized to perform: \
             execute-api:ManageConnections on resource: \
             arn:aws:execute-api:us-east-1:********9012:abc123def4/prod/POST/@connections/{connectionId}"
        );
        assert_eq!(mask_account("arn:aws:execute-api:r:12:x:y"), "arn:aws:execute-api:r:********12:x:y");
        assert_eq!(mask_account("no arn"), "no arn");
    }

    proptest! {
        #[test]
        fn masking_never_panics(arn in ".{0,60}", parts in prop::collection::vec(".{0,8}", 6)) {
            mask_account(&arn);
            mask_account(&parts.join(":"));
        }
    }
}

//! `[apps.alerts]`, and what becomes of it.

use tidegate_core::policy::{Excess, IdentityCheck, Jwt, SlowReader};
use tidegate_core::settings::Binary;

use crate::settings::{RefusalForm, Settings, UserSource};
use crate::{Alerts, mount};

const COMPLETE: &str = r#"
mounts        = ["/api/alerts/subscribe", "/api/ws/authority"]
refusal       = "close"
publish_roles = ["authority", "admin", "service"]
close_on_expiry = false
allowed_origins = ["https://app.example"]
require_origin = true
max_connections_per_user = 3
history = 10
[roles]
authority = ["authority"]
admin     = ["authority", "admin"]
[aliases]
police_dashboard = "authority"
[attempts]
per_address = 5
[user_check]
kind  = "postgres"
url   = "postgres://user:p4ss@db/app"
query = "select 1 from authorities where id = $1 and is_active"
roles = ["authority"]
[zones.12]
name = "Harbor"
lat = 0
lon = 0.5
"#;

#[test]
fn the_complete_example_is_taken() {
    // S3-1, S3-23, S3-34
    let settings: Settings = toml::from_str(COMPLETE).unwrap();
    assert_eq!(settings.problems(), []);
    assert_eq!(settings.refusal, RefusalForm::Close);
    let check = settings.user_check.as_ref().unwrap();
    assert!(
        matches!(check.source, UserSource::Postgres { .. })
            && check.timeout_ms == 2000
            && check.cache_seconds == 60
    );
    assert!(!format!("{settings:?}").contains("p4ss")); // S3-70
    let empty: Settings = toml::from_str("").unwrap();
    assert_eq!(empty, Settings::default());
    assert_eq!(empty.problems(), []);
    assert!(toml::from_str::<Settings>("mount = []").is_err(), "unknown keys are errors");
}

#[test]
fn problems_have_their_paths() {
    let settings: Settings = toml::from_str(
        r#"
mounts = ["api", "/a//b", "/x/", "/api/alerts/publish", "/twice", "/twice"]
role_text = ""
user_text = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
message_rate = -1.0
history = 1001
[roles]
admin = ["a b", "user:1"]
[aliases]
one = "two"
two = "a"
[attempts]
window = 0
[user_check]
kind = "http"
url = "ftp://x"
timeout_ms = 0
[zones.z]
name = "z"
lat = 91.0
lon = 0.0
radius_km = 0.0
"#,
    )
    .unwrap();
    let paths: Vec<String> = settings.problems().into_iter().map(|problem| problem.path).collect();
    assert_eq!(
        paths,
        [
            "mounts[0]",
            "mounts[1]",
            "mounts[2]",
            "mounts[3]",
            "mounts[5]",
            "roles.admin[0]",
            "roles.admin[1]",
            "aliases.one",
            "role_text",
            "user_text",
            "message_rate",
            "history",
            "attempts.window",
            "zones.z",
            "zones.z.radius_km",
            "user_check.url",
            "user_check.timeout_ms",
        ]
    );
    let query = |query: &str| {
        let toml = format!("[user_check]\nkind = \"sqlite\"\npath = \"users.db\"\nquery = \"{query}\"");
        toml::from_str::<Settings>(&toml).unwrap().problems().len()
    };
    assert_eq!(
        (query("select 1 from u where id = ?1"), query("select 1"), query("select $1, $2")),
        (0, 1, 1)
    );
}

#[test]
fn a_mount_has_the_policy_of_the_application() {
    // S3-12, S3-16, S3-28, S3-29, S3-30, S3-31, S3-58, S3-68
    let (mount, _) = mount(toml::from_str(COMPLETE).unwrap(), Jwt::default(), None, None);
    assert_eq!((mount.api_id.as_str(), mount.stage.as_str(), mount.app.name()), ("alerts", "live", "alerts"));
    assert_eq!(mount.paths, ["/api/alerts/subscribe", "/api/ws/authority"]);
    assert_eq!(mount.http, ["/api/alerts/", "/api/broadcast/", "/api/broadcasts/", "/health"]);
    let policy = mount.policy;
    let jwt = policy.jwt.unwrap();
    assert_eq!(
        (jwt.parameter.as_str(), jwt.default_role.as_str(), jwt.close_on_expiry),
        ("token", "tourist", false)
    );
    assert_eq!((jwt.claims.user.as_str(), jwt.claims.roles.as_str()), ("sub", "role"));
    assert_eq!(jwt.claims.required, ["email"]);
    assert_eq!(policy.admission.checks, [IdentityCheck::Jwt]);
    assert!(policy.admission.required && !policy.admission.allow_missing_origin);
    assert_eq!(policy.admission.origins, ["https://app.example"]);
    assert_eq!(
        (policy.admission.connections_per_user, policy.attempts.per_address, policy.attempts.per_user),
        (3, 5, 0)
    );
    assert_eq!(
        (policy.messages.rate, policy.messages.burst, policy.messages.excess),
        (10.0, 20.0, Excess::Close)
    );
    assert_eq!(policy.push.slow, SlowReader::Close);
    let plane = &mount.settings.data_plane;
    assert_eq!((plane.server_ping_interval, plane.server_ping_timeout), (25, 60));
    assert_eq!((plane.idle_timeout, plane.max_duration, plane.binary), (0, 0, Binary::Reject));
    assert_eq!((plane.max_message_bytes, plane.max_frame_bytes), (128 * 1024, 32 * 1024));
}

#[test]
fn the_default_has_no_limits_that_the_load_test_meets() {
    // S3-67, S3-68, S3-7
    let (mount, _): (_, std::sync::Arc<Alerts>) = mount(Settings::default(), Jwt::default(), None, None);
    let (attempts, admission) = (mount.policy.attempts, mount.policy.admission);
    assert_eq!((attempts.per_address, attempts.per_user, attempts.failed_per_address), (0, 0, 0));
    let limits =
        (admission.max_connections, admission.connections_per_address, admission.connections_per_user);
    assert_eq!(limits, (0, 0, 0));
    assert!(admission.origins.is_empty() && admission.allow_missing_origin);
    assert!(mount.policy.jwt.unwrap().close_on_expiry);
}

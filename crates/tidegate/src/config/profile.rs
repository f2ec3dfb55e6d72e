//! `limits.profile = "aws"`: what the real service does not offer is refused, and its quotas are in force.

use tidegate_core::settings::{Limits, Settings};
use toml::{Table, Value};

use super::Checker;
use super::read::{API_SECTIONS, NODE_SECTIONS};

/// Settings of which clients and backends see nothing that the real service would not do: how this installation is reached,
/// protected and looked after. A whole section, or one key.
const OUTSIDE_OF_THE_CONTRACT: &[&str] = &[
    "logs",
    "context",
    "authorizer.timeout_ms",
    "data_plane.time_scale",
    "data_plane.trusted_proxies",
    "data_plane.outbound_buffer_bytes",
    "integration.pool_idle_ms",
    "integration.allowed_hosts",
    "integration.forwarded_https",
    "integration.host_header",
    "integration.max_parallel",
    "integration.hide_backend_errors",
    "integration.user_agent",
    "management.gone_memory",
];

/// What customers can have raised: any number, but not none.
const ADJUSTABLE: [&str; 3] = ["requests_per_second", "requests_burst", "connects_per_second"];

impl Checker<'_> {
    /// Refuses what is better than the real service in `written`, and fills in the quotas that are not written.
    pub(super) fn profile(&mut self, prefix: &str, written: &Table, settings: &mut Settings) {
        let default = Value::try_from(Settings::default()).ok();
        for section in API_SECTIONS.iter().chain(&["control_plane"]) {
            let Some(Value::Table(keys)) = written.get(*section) else { continue };
            for (key, value) in keys {
                let path = format!("{section}.{key}");
                if OUTSIDE_OF_THE_CONTRACT.contains(section)
                    || OUTSIDE_OF_THE_CONTRACT.contains(&path.as_str())
                {
                    continue;
                }
                let usual = default.as_ref().and_then(|all| all.get(*section)).and_then(|all| all.get(key));
                if usual.is_none_or(|usual| !is_same(usual, value)) {
                    let usual = usual.map_or_else(|| "nothing of the kind".to_owned(), ToString::to_string);
                    let message = format!(
                        "AWS has {usual} here and nothing can change it: remove the key, or `limits.profile = \"aws\"` (`--limits aws`)"
                    );
                    self.problem(&format!("{prefix}{path}"), &message);
                }
            }
        }
        if !prefix.is_empty() {
            return;
        }
        let nothing = Table::new();
        let limits = written.get(NODE_SECTIONS[0]).and_then(Value::as_table).unwrap_or(&nothing);
        let given = settings.limits.clone();
        settings.limits = Limits::AWS;
        for key in ADJUSTABLE.into_iter().filter(|key| limits.contains_key(*key)) {
            let (place, value) = match key {
                "requests_per_second" => {
                    (&mut settings.limits.requests_per_second, given.requests_per_second)
                }
                "requests_burst" => (&mut settings.limits.requests_burst, given.requests_burst),
                _ => (&mut settings.limits.connects_per_second, given.connects_per_second),
            };
            *place = value;
            if value == 0 {
                let message = "0 is no limit, and AWS always has one: it can be raised, not removed";
                self.problem(&format!("limits.{key}"), message);
            }
        }
    }
}

/// Equal, however a status may be written.
fn is_same(usual: &Value, written: &Value) -> bool {
    usual == written
        || written.as_str().is_some_and(|text| usual.as_integer().is_some_and(|n| n.to_string() == text))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config_of, problems};
    use super::*;

    #[test]
    fn quotas_of_the_service_unless_others_are_written() {
        let config = config_of("[limits]\nprofile = 'aws'\n");
        assert_eq!(config.settings.limits, Limits::AWS);
        let shown = |key: &str| config.shown[key].clone();
        assert_eq!(shown("limits.connects_per_second"), ("500".to_owned(), "default"));
        assert_eq!(shown("limits.profile"), ("aws".to_owned(), "file"));
        let config = config_of("[limits]\nprofile = 'aws'\nconnects_per_second = 2000\n");
        let limits = &config.settings.limits;
        assert_eq!((limits.connects_per_second, limits.requests_burst), (2000, 5000));
        let config = config_of("[limits]\nrequests_per_second = 7\n");
        assert_eq!(config.settings.limits, Limits { requests_per_second: 7, ..Limits::default() });
        assert_eq!(config_of("").settings.limits, Limits::default());
    }

    #[test]
    fn what_aws_does_not_offer_is_refused() {
        let better = "[data_plane]\nidle_timeout = 601\nbinary = 'base64'\nmax_duration = 7200\ntime_scale = 60\n\
             [integration]\nretries = 1\nallowed_hosts = ['a']\nuser_agent = 'gateway'\n\
             [management]\ninvalid_id = '400'\npending_posts = 'queue'\n[connect]\nannounce_id = true\n\
             [api]\nsubprotocols = ['x']\n[control_plane]\nallow_jwt_authorizer = true\n\
             [apis.abc.data_plane]\nmax_frame_bytes = 65536\n";
        assert_eq!(problems(better), Vec::<String>::new());
        let found = problems(&format!("{better}[limits]\nprofile = 'aws'\nrequests_per_second = 0\n"));
        let paths: Vec<&str> =
            found.iter().filter_map(|problem| problem.split_once(": ")).map(|(p, _)| p).collect();
        assert_eq!(
            paths,
            [
                "data_plane.binary",
                "data_plane.idle_timeout",
                "integration.retries",
                "management.pending_posts",
                "connect.announce_id",
                "api.subprotocols",
                "control_plane.allow_jwt_authorizer",
                "limits.requests_per_second",
                "apis.abc.data_plane.max_frame_bytes",
            ]
        );
        assert!(found[1].contains("AWS has 600 here and nothing can change it"), "{}", found[1]);
    }

    #[test]
    fn quotas_are_not_for_one_api() {
        let found = problems("[apis.abc.limits]\nprofile = 'aws'\n[limits]\nprofile = 'gcp'\n");
        assert!(
            found.iter().any(|problem| problem.starts_with("apis.abc.limits: unknown section")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|problem| problem.starts_with("limits.profile: unknown variant")),
            "{found:?}"
        );
        for scale in [0, 1_000_001] {
            let found = problems(&format!("[data_plane]\ntime_scale = {scale}\n"));
            assert!(found[0].starts_with("data_plane.time_scale: "), "{found:?}");
        }
    }
}

//! `[api_keys.NAME]` and `[usage_plans.NAME]`: API keys of clients, and what they are good for.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde::Deserialize;
use tidegate_auth::{ApiKey, Secret};
use tidegate_core::quota::Quota;
use tidegate_core::snapshot::Throttle;
use tidegate_gateway::{UsageKey, UsagePlan, UsagePlans};
use toml::{Table, Value};

use super::Checker;

/// Most keys. Every one is compared with what a client presents. Source: our choice.
const MAX_KEYS: usize = 10_000;

/// Most plans. Source: usage plans per account and region at the real service: 300.
const MAX_PLANS: usize = 300;

/// Shortest and longest value of a key, in characters. Source: *ApiKey* in the API Gateway REST API reference.
const VALUE_LENGTH: std::ops::RangeInclusive<usize> = 20..=128;

/// `[api_keys.NAME]`. No `Debug`: it may hold the key.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawApiKey {
    value: Option<String>,
    value_file: Option<PathBuf>,
    value_sha256: Option<String>,
    /// Unset: the name.
    id: Option<String>,
    enabled: Option<bool>,
}

/// `[usage_plans.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPlan {
    keys: Vec<String>,
    stages: Vec<String>,
    rate: Option<f64>,
    burst: Option<u32>,
    quota: Option<Quota>,
}

impl Checker<'_> {
    /// All keys and plans; those with problems are left out.
    pub(super) fn usage_plans(&mut self) -> UsagePlans {
        let mut ids = HashMap::new();
        let mut keys: Vec<UsageKey> = Vec::new();
        let entries = self.tables("api_keys", MAX_KEYS);
        let names: HashSet<&String> = entries.iter().map(|(name, _)| name).collect();
        for (name, entry) in &entries {
            let path = format!("api_keys.{name}");
            let Some(key) = self.usage_key(&path, name, entry) else { continue };
            if let Some(other) = keys.iter().find(|other| other.id == key.id) {
                self.problem(&format!("{path}.id"), &format!("`{}` is the id of another key", other.id));
            } else if let Some(other) = keys.iter().find(|other| other.hash == key.hash) {
                self.problem(&path, &format!("the same key as that of the id `{}`", other.id));
            } else {
                ids.insert(name.clone(), key.id.clone());
                keys.push(key);
            }
        }
        let mut plans: Vec<UsagePlan> = Vec::new();
        for (name, entry) in self.tables("usage_plans", MAX_PLANS) {
            let path = format!("usage_plans.{name}");
            let raw: RawPlan = match Value::Table(entry).try_into() {
                Ok(raw) => raw,
                Err(error) => {
                    self.problem(&path, error.message());
                    continue;
                }
            };
            for key in raw.keys.iter().filter(|key| !names.contains(key)) {
                self.problem(&format!("{path}.keys"), &format!("there is no [api_keys.{key}]"));
            }
            let plan = UsagePlan {
                keys: raw.keys.iter().filter_map(|key| ids.get(key).cloned()).collect(),
                stages: self.stages(&path, &raw.stages),
                throttle: self.rate(&path, raw.rate, raw.burst),
                quota: raw.quota.filter(|quota| self.is_quota(&path, quota)),
                name,
            };
            // With two plans for one stage it would be open which of them counts.
            let shared = plans.iter().find_map(|other| {
                let key = plan.keys.iter().find(|key| other.keys.contains(key))?;
                let (api_id, stage) = plan.stages.iter().find(|stage| other.stages.contains(stage))?;
                Some(format!("the key `{key}` is in `{}` for {api_id}/{stage} already", other.name))
            });
            if let Some(shared) = shared {
                self.problem(&path, &shared);
            }
            plans.push(plan);
        }
        UsagePlans { keys, plans }
    }

    /// The tables of a section, by name.
    fn tables(&mut self, section: &str, most: usize) -> Vec<(String, Table)> {
        let entries = match self.table.get(section) {
            None => return Vec::new(),
            Some(Value::Table(entries)) => entries.clone(),
            Some(_) => {
                self.problem(section, "tables with names expected");
                return Vec::new();
            }
        };
        if entries.len() > most {
            self.problem(section, &format!("at most {most} expected"));
        }
        let mut tables = Vec::new();
        for (name, entry) in entries.into_iter().take(most) {
            let path = format!("{section}.{name}");
            match entry {
                _ if !is_name(&name) => {
                    self.problem(&path, "names are 1 to 64 letters, digits, dashes, dots and underscores");
                }
                Value::Table(entry) => tables.push((name, entry)),
                _ => self.problem(&path, "a table expected"),
            }
        }
        tables
    }

    /// `None` only together with problems.
    fn usage_key(&mut self, path: &str, name: &str, entry: &Table) -> Option<UsageKey> {
        let mut good = Table::new();
        for (member, value) in entry {
            let alone = Table::from_iter([(member.clone(), value.clone())]);
            match Value::Table(alone).try_into::<RawApiKey>() {
                Ok(_) => drop(good.insert(member.clone(), value.clone())),
                // The parser would show the value, which is a secret of the wrong type.
                Err(_) if member.starts_with("value") => {
                    self.problem(&format!("{path}.{member}"), "text expected");
                }
                Err(error) => self.problem(&format!("{path}.{member}"), error.message()),
            }
        }
        if good.len() < entry.len() {
            return None;
        }
        let raw: RawApiKey = Value::Table(good).try_into().ok()?;
        let hash = match (raw.value, raw.value_file, raw.value_sha256) {
            (Some(value), None, None) => self.api_key_value(&format!("{path}.value"), &value)?,
            (None, Some(file), None) => match std::fs::read_to_string(&file) {
                Ok(text) => {
                    self.api_key_value(&format!("{path}.value_file"), text.trim_end_matches(['\r', '\n']))?
                }
                Err(error) => {
                    self.problem(&format!("{path}.value_file"), &format!("{}: {error}", file.display()));
                    return None;
                }
            },
            (None, None, Some(hash)) => match ApiKey::from_hash_hex(&hash) {
                Some(hash) => hash,
                None => {
                    self.problem(&format!("{path}.value_sha256"), "64 hexadecimal digits expected");
                    return None;
                }
            },
            _ => {
                self.problem(path, "one of value, value_file and value_sha256 expected");
                return None;
            }
        };
        let id = raw.id.unwrap_or_else(|| name.to_owned());
        if !is_name(&id) {
            self.problem(
                &format!("{path}.id"),
                "1 to 64 letters, digits, dashes, dots and underscores expected",
            );
            return None;
        }
        Some(UsageKey { id, hash, is_enabled: raw.enabled.unwrap_or(true) })
    }

    fn api_key_value(&mut self, path: &str, value: &str) -> Option<ApiKey> {
        if !VALUE_LENGTH.contains(&value.chars().count())
            || !value.bytes().all(|byte| byte.is_ascii_graphic())
        {
            self.problem(path, "20 to 128 visible ASCII characters expected");
            return None;
        }
        Some(ApiKey::of(&Secret::new(value)))
    }

    fn stages(&mut self, path: &str, stages: &[String]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for stage in stages {
            match stage.split_once('/') {
                Some((api_id, name)) if is_name(api_id) && is_name(name) => {
                    found.push((api_id.to_owned(), name.to_owned()));
                }
                _ => self.problem(&format!("{path}.stages"), &format!("`{stage}`: API/STAGE expected")),
            }
        }
        found
    }

    fn rate(&mut self, path: &str, rate: Option<f64>, burst: Option<u32>) -> Option<Throttle> {
        let Some(rate) = rate else {
            if burst.is_some() {
                self.problem(&format!("{path}.burst"), "there is no burst without a rate");
            }
            return None;
        };
        if !rate.is_finite() || rate <= 0.0 || burst == Some(0) {
            self.problem(path, "rate and burst must be above 0");
            return None;
        }
        Some(Throttle { rate, burst: burst.map_or_else(|| rate.max(1.0), f64::from) })
    }

    fn is_quota(&mut self, path: &str, quota: &Quota) -> bool {
        let max = quota.period.max_offset();
        if quota.offset > max {
            self.problem(&format!("{path}.quota.offset"), &format!("{}: 0 to {max} expected", quota.offset));
        }
        if quota.limit == 0 {
            self.problem(&format!("{path}.quota.limit"), "at least 1 expected");
        }
        quota.offset <= max && quota.limit > 0
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config_of, problems_of};
    use super::*;

    const VALUE: &str = "s3cr3t-of-the-partner-0001";

    #[test]
    fn keys_and_plans_are_read() {
        let hash = ApiKey::of(&Secret::new("another-key-of-somebody")).to_hash_hex();
        let config = config_of(&format!(
            "[api_keys.partner]\nvalue = '{VALUE}'\n[api_keys.other]\nvalue_sha256 = '{hash}'\nid = 'k2'\n\
             enabled = false\n\
             [usage_plans.gold]\nkeys = ['partner', 'other']\nstages = ['k3x9q2m7vd/prod']\nrate = 2.5\n\
             quota = {{ limit = 10, period = 'WEEK', offset = 1 }}\n"
        ));
        let UsagePlans { keys, plans } = &config.usage_plans;
        let partner = keys.iter().find(|key| key.id == "partner").unwrap();
        assert!(partner.is_enabled && partner.hash.verify(VALUE));
        assert!(keys.iter().any(|key| key.id == "k2" && !key.is_enabled));
        assert_eq!(plans[0].keys, ["partner", "k2"]);
        assert_eq!(plans[0].stages, [("k3x9q2m7vd".to_owned(), "prod".to_owned())]);
        assert_eq!(plans[0].throttle, Some(Throttle { rate: 2.5, burst: 2.5 }));
        assert_eq!(plans[0].quota.map(|quota| (quota.limit, quota.offset)), Some((10, 1)));
        // Nothing that is printed shows the key.
        assert!(!format!("{config:?}").contains(VALUE));
        assert_eq!(config.shown["api_keys.partner.value"].0, "****");
        assert_eq!(config.shown["api_keys.other.enabled"].0, "false");
    }

    #[test]
    fn all_problems_have_their_paths() {
        let found = problems_of(&format!(
            "[api_keys.a]\nvalue = 'short'\n[api_keys.b]\nvalue = 4711471147114711\n\
             [api_keys.c]\n[api_keys.d]\nvalue_sha256 = 'x'\n[api_keys.e]\nvalue = '{VALUE}'\nidd = 'x'\n\
             [api_keys.f]\nvalue = '{VALUE}'\n[api_keys.g]\nvalue = '{VALUE}'\n\
             [api_keys.h]\nvalue = '{VALUE}-h'\nid = 'f'\n[api_keys.i]\nvalue_file = '/nowhere/at/all'\n\
             [api_keys.'a/b']\nvalue = '{VALUE}'\n\
             [usage_plans.one]\nkeys = ['f', 'none']\nstages = ['api/prod', 'nothing']\nburst = 3\n\
             [usage_plans.two]\nkeys = ['f']\nstages = ['api/prod']\nrate = 0\n\
             quota = {{ limit = 0, period = 'DAY', offset = 1 }}\n\
             [usage_plans.three]\nkyes = []\n[usage_plans.four]\nquota = {{ limit = 1, period = 'YEAR' }}\n"
        ));
        let texts: Vec<String> =
            found.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        for expected in [
            "api_keys.a.value: 20 to 128 visible",
            "api_keys.b.value: text expected",
            "api_keys.c: one of value, value_file and value_sha256",
            "api_keys.d.value_sha256: 64 hexadecimal digits",
            "api_keys.e.idd: unknown field",
            "api_keys.g: the same key as that of the id `f`",
            "api_keys.h.id: `f` is the id of another key",
            "api_keys.i.value_file: /nowhere/at/all",
            "api_keys.a/b: names are",
            "usage_plans.one.keys: there is no [api_keys.none]",
            "usage_plans.one.stages: `nothing`",
            "usage_plans.one.burst: there is no burst",
            "usage_plans.two: the key `f` is in `one` for api/prod already",
            "usage_plans.two: rate and burst",
            "usage_plans.two.quota.offset: 1: 0 to 0",
            "usage_plans.two.quota.limit: at least 1",
            "usage_plans.three: unknown field",
            "usage_plans.four: unknown variant",
        ] {
            assert!(texts.iter().any(|text| text.starts_with(expected)), "{expected} in {texts:?}");
        }
        assert!(!texts.iter().any(|text| text.contains(VALUE) || text.contains("4711")), "{texts:?}");
    }
}

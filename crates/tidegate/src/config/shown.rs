//! Every effective value and where it comes from, for people and for reports; secrets masked.

use std::collections::BTreeMap;
use std::process::ExitCode;

use toml::{Table, Value};

use super::{Config, Origin, Shown, load, note_origins, print_problems};
use crate::cli::ConfigArgs;

/// Text without quotes, anything else as TOML writes it.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Every effective value and where it comes from; secrets masked.
pub(super) fn shown(config: &Config, origins: &BTreeMap<String, (Origin, Value)>) -> Shown {
    let mut rows = Shown::new();
    let mut effective = Table::new();
    // Tables of numbers and texts always have this form.
    if let Ok(Value::Table(sections)) = Value::try_from(&*config.settings) {
        effective.extend(sections);
    }
    let sections = [
        ("sigv4", Value::try_from(&config.sigv4).ok()),
        ("tls", config.tls.as_ref().and_then(|tls| Value::try_from(tls).ok())),
        ("journal", Value::try_from(&config.journal).ok()),
        ("chat", config.apps.chat.as_ref().and_then(|chat| Value::try_from(&chat.settings).ok())),
        ("lambda", Some(Value::Table(config.lambda.shown()))),
    ];
    effective.extend(sections.into_iter().filter_map(|(name, section)| Some((name.to_owned(), section?))));
    if let Some(alerts) = &config.apps.alerts
        && let Ok(section) = Value::try_from(&alerts.settings)
    {
        effective.insert("apps".to_owned(), Value::Table(Table::from_iter([("alerts".to_owned(), section)])));
    }
    let mut values = BTreeMap::new();
    note_origins(&effective, "", Origin::File, &mut values);
    for (path, (_, value)) in values {
        rows.insert(path, (text_of(&value), "default"));
    }
    for (key, value) in [
        ("listen", config.listen.to_string()),
        ("admin", config.admin.to_string()),
        ("data_dir", config.data_dir.display().to_string()),
        ("region", config.region.clone()),
        ("account_id", config.account_id.clone()),
        ("shutdown_timeout", config.shutdown_timeout.as_secs().to_string()),
        ("drain_spread", config.drain_spread.as_secs().to_string()),
        ("max_connections", config.max_connections.to_string()),
        ("probe", config.probe.to_string()),
        ("doctor_interval", config.doctor_interval.map_or(0, |interval| interval.as_secs()).to_string()),
    ] {
        rows.insert(key.to_owned(), (value, "default"));
    }
    for (path, (origin, value)) in origins {
        let is_secret = path.contains("secret")
            || path == "api_key"
            || path == "api_key_file"
            || path.starts_with("api_keys.") && path.ends_with(".value")
            || path.contains("session_token")
            || path.starts_with("lambda.functions.") && path.contains(".environment.")
            || path == "credentials"
            || path == "keys"
            || path.starts_with("apps.") && path.ends_with(".user_check.url")
            || path == "chat.database"
            || path == "apps.alerts.database";
        let shown = match rows.get(path) {
            _ if is_secret => "****".to_owned(),
            // Hooks have secrets of their own, which the application masks.
            Some((masked, _)) if path == "chat.hooks" => masked.clone(),
            _ => text_of(value),
        };
        rows.insert(path.clone(), (shown, origin.as_str()));
    }
    rows
}

/// Settings as JSON: `{"listen": {"value": ..., "origin": ...}}`.
pub(crate) fn as_json(shown: &Shown) -> serde_json::Value {
    let member = |(path, (value, origin)): (&String, &(String, &str))| {
        (path.clone(), serde_json::json!({ "value": value, "origin": origin }))
    };
    serde_json::Value::Object(shown.iter().map(member).collect())
}

/// `tidegate config`: effective values with their origin; secrets masked.
pub(crate) fn show(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let loaded = match load(args) {
        Ok(loaded) => loaded,
        Err(problems) => {
            print_problems(&problems);
            return Ok(ExitCode::from(crate::cli::EXIT_FAILURE));
        }
    };
    let shown = &loaded.config.shown;
    if args.json {
        println!("{}", as_json(shown));
    } else {
        for (path, (value, origin)) in shown {
            println!("{path} = {value}  ({origin})");
        }
    }
    Ok(ExitCode::SUCCESS)
}

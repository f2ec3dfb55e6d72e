//! What is written differently than before, and what of it can change while the node runs.
//!
//! Whatever is not on the lists here changes at once. What is on them keeps its value until the process starts again:
//! [`Outcome::config`] is the configuration that can be in force until then.

use std::collections::BTreeSet;

use tidegate_admin::SettingChange;
use toml::{Table, Value};

use super::read::Written;
use super::{Config, Problem, check};

/// Settings that need a restart, with all below them; `*` is any one name.
///
/// They are what sockets, files, tables and processes were opened by, what ids and stored documents contain, and what times
/// are scaled by. `docs/src/settings.md` has the same list; a test compares.
pub(crate) const RESTART: &[&str] = &[
    "listen",
    "admin",
    "data_dir",
    "region",
    "account_id",
    "signatures",
    "proxy",
    "tls.listen",
    "limits.profile",
    "data_plane.time_scale",
    "apis.*.data_plane.time_scale",
    "journal.enabled",
    "journal.client_address",
    "journal.retention_days",
    "journal.max_bytes",
    "journal.max_entries",
    "journal.sample_handshakes",
    "journal.sample_posts",
    "logs.targets",
    "logs.execution",
    "lambda",
    "chat.path",
    "chat.database",
    "apps.alerts.mounts",
    "apps.alerts.database",
    "apps.alerts.history",
    "apps.alerts.user_check",
    "apps.alerts.publish_rate",
];

/// Sections that switch something on: to begin or to end needs a restart.
pub(crate) const SWITCHES: &[&str] = &["tls", "proxy", "jwt", "chat", "apps.alerts"];

/// What a new configuration comes to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) changes: Vec<SettingChange>,
    /// What is in force until a restart.
    pub(crate) config: Config,
}

impl Outcome {
    /// Whether one of these settings, or one below them, changes now.
    pub(crate) fn has_changed(&self, roots: &[&str]) -> bool {
        let mut changed = self.changes.iter().filter(|change| !change.needs_restart);
        changed.any(|change| roots.iter().any(|root| is_below(&change.path, root)))
    }
}

/// Compares what is in force with what is written. `fixed` are further roots that need a restart.
///
/// # Errors
/// What can change has problems without what cannot.
pub(crate) fn compare(
    in_force: &Config,
    written: &Config,
    fixed: &[&'static str],
) -> Result<Outcome, Vec<Problem>> {
    let roots: Vec<&str> = RESTART.iter().chain(fixed).copied().collect();
    let switched: Vec<&str> = SWITCHES
        .iter()
        .copied()
        .filter(|path| in_force.written.has(path) != written.written.has(path))
        .collect();
    let needs_restart = |path: &str| roots.iter().chain(&switched).any(|root| is_below(path, root));
    let mut changes: Vec<SettingChange> = changed_paths(in_force, written)
        .into_iter()
        .map(|path| {
            let shown = |config: &Config| config.shown.get(&path).map(|(value, _)| value.clone());
            let (before, after) = (shown(in_force), shown(written));
            let needs_restart = needs_restart(&path);
            SettingChange { path, before, after, needs_restart }
        })
        .collect();
    // A section without a key has no path of its own.
    for path in &switched {
        if !changes.iter().any(|change| is_below(&change.path, path)) {
            let (path, before, after) = ((*path).to_owned(), None, None);
            changes.push(SettingChange { path, before, after, needs_restart: true });
        }
    }
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    if !changes.iter().any(|change| change.needs_restart) {
        return Ok(Outcome { changes, config: written.clone() });
    }
    let kept = written.written.keeping(&in_force.written, roots.iter().chain(&switched).copied());
    let config = check(kept, Vec::new())?;
    Ok(Outcome { changes, config })
}

/// Paths whose values differ, or whose files do.
fn changed_paths(in_force: &Config, written: &Config) -> BTreeSet<String> {
    let (old, new) = (&in_force.written, &written.written);
    let all = in_force.shown.keys().chain(written.shown.keys());
    let values = all.filter(|path| {
        let value = |written: &Written| written.origins.get(*path).map(|(_, value)| value.clone());
        let shown = |config: &Config| config.shown.get(*path).map(|(value, _)| value.clone());
        match (value(old), value(new)) {
            (Some(before), Some(after)) => before != after,
            // What is written as it is by default is no change; secrets have no default.
            _ => shown(in_force) != shown(written),
        }
    });
    let files = old.files.keys().chain(new.files.keys());
    let files = files.filter(|path| old.files.get(*path) != new.files.get(*path));
    values.chain(files).cloned().collect()
}

/// Whether a setting is `root` or stands below it.
fn is_below(path: &str, root: &str) -> bool {
    if let Some((before, after)) = root.split_once(".*.") {
        let inner = path.strip_prefix(before).and_then(|rest| rest.strip_prefix('.'));
        return inner.is_some_and(|rest| rest.split_once('.').is_some_and(|(_, rest)| is_below(rest, after)));
    }
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Written {
    /// Whether there is such a section.
    fn has(&self, path: &str) -> bool {
        let mut table = &self.table;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            match table.get(name) {
                Some(Value::Table(inner)) if names.peek().is_some() => table = inner,
                value => return value.is_some() && names.peek().is_none(),
            }
        }
        false
    }

    /// This, with what stands at `roots` as it is in `before`.
    fn keeping<'a>(&self, before: &Self, roots: impl Iterator<Item = &'a str>) -> Self {
        let mut kept = self.clone();
        for root in roots {
            let names: Vec<&str> = root.split('.').collect();
            keep(&mut kept.table, Some(&before.table), &names);
            kept.origins.retain(|path, _| !is_below(path, root));
            let origins = before.origins.iter().filter(|(path, _)| is_below(path, root));
            kept.origins.extend(origins.map(|(path, origin)| (path.clone(), origin.clone())));
            kept.files.retain(|path, _| !is_below(path, root));
            let files = before.files.iter().filter(|(path, _)| is_below(path, root));
            kept.files.extend(files.map(|(path, hash)| (path.clone(), *hash)));
        }
        kept
    }
}

/// Puts what `before` has at `names` into `table`, or takes away what it does not have.
fn keep(table: &mut Table, before: Option<&Table>, names: &[&str]) {
    let Some((name, rest)) = names.split_first() else { return };
    if *name == "*" {
        let mut all: BTreeSet<String> = table.keys().cloned().collect();
        all.extend(before.into_iter().flat_map(Table::keys).cloned());
        for name in all {
            let names: Vec<&str> = std::iter::once(name.as_str()).chain(rest.iter().copied()).collect();
            keep(table, before, &names);
        }
        return;
    }
    let of_before = before.and_then(|before| before.get(*name));
    if rest.is_empty() {
        match of_before {
            Some(value) => drop(table.insert((*name).to_owned(), value.clone())),
            None => drop(table.remove(*name)),
        }
        return;
    }
    let inner_before = of_before.and_then(Value::as_table);
    match table.get_mut(*name) {
        Some(Value::Table(inner)) => keep(inner, inner_before, rest),
        Some(_) => {}
        None => {
            let mut inner = Table::new();
            keep(&mut inner, inner_before, rest);
            if !inner.is_empty() {
                table.insert((*name).to_owned(), Value::Table(inner));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config_of;
    use super::*;

    fn compared(before: &str, after: &str) -> Outcome {
        compare(&config_of(before), &config_of(after), &[]).expect("no problems")
    }

    /// Paths that change now, and those that wait.
    fn paths(outcome: &Outcome) -> (Vec<&str>, Vec<&str>) {
        let of = |waits: bool| {
            let changes = outcome.changes.iter().filter(move |change| change.needs_restart == waits);
            changes.map(|change| change.path.as_str()).collect()
        };
        (of(false), of(true))
    }

    #[test]
    fn the_manual_has_the_same_list() {
        let manual = include_str!("../../../../docs/src/settings.md");
        let (_, part) = manual.split_once("<!-- restart -->").expect("the begin");
        let (part, _) = part.split_once("<!-- end of restart -->").expect("the end");
        let (table, sentence) = part.trim().rsplit_once("\n\n").expect("a table and a sentence");
        let named = |text: &str| -> BTreeSet<String> {
            text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let rows = table.lines().skip(2).filter_map(|row| row.split('|').nth(1));
        let settings: BTreeSet<String> = rows.flat_map(named).collect();
        let all = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(settings, all(RESTART));
        assert_eq!(named(sentence), all(SWITCHES));
    }

    #[test]
    fn what_cannot_change_keeps_its_value_and_the_rest_changes() {
        let outcome = compared(
            "listen = '127.0.0.1:1'\nprobe = true\n[apis.abc.data_plane]\ntime_scale = 2\n",
            "listen = '127.0.0.1:2'\nprobe = false\ndebug_clients = ['127.0.0.1']\n\
             [data_plane]\nidle_timeout = 7\n[apis.abc.data_plane]\ntime_scale = 3\nmax_duration = 9\n",
        );
        let (now, later) = paths(&outcome);
        assert_eq!(
            now,
            ["apis.abc.data_plane.max_duration", "data_plane.idle_timeout", "debug_clients", "probe"]
        );
        assert_eq!(later, ["apis.abc.data_plane.time_scale", "listen"]);
        let config = &outcome.config;
        assert_eq!(config.listen.port(), 1);
        assert!(!config.probe && config.debug_clients.len() == 1);
        let of_api = &config.settings_by_api["abc"].data_plane;
        assert_eq!((of_api.time_scale, of_api.max_duration, of_api.idle_timeout), (2, 9, 7));
        // The next comparison says again what waits, and nothing else.
        let again =
            compare(config, &config_of("listen = '127.0.0.1:2'\nprobe = false\n"), &[]).expect("fine");
        assert_eq!(paths(&again).1, ["apis.abc.data_plane.time_scale", "listen"]);
    }

    #[test]
    fn defaults_that_are_written_are_no_change_and_secrets_do_not_show() {
        let outcome =
            compared("api_key = 'one'\n", "api_key = 'two'\nprobe = true\nmax_connections = 1000000\n");
        assert_eq!(paths(&outcome).0, ["api_key"]);
        let change = &outcome.changes[0];
        assert_eq!((change.before.as_deref(), change.after.as_deref()), (Some("****"), Some("****")));
        assert!(compared("api_key = 'one'\n", "api_key = 'one'\n").changes.is_empty());
    }

    #[test]
    fn sections_are_not_switched_on_or_off() {
        let jwt = "[jwt]\nsecret = 'q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8'\n";
        let with = format!("{jwt}[chat]\n");
        let outcome = compared("probe = true\n", &format!("probe = false\n{with}"));
        assert_eq!(paths(&outcome).0, ["probe"]);
        assert!(paths(&outcome).1.contains(&"jwt.secret"), "{:?}", outcome.changes);
        assert!(outcome.config.apps.chat.is_none() && !outcome.config.probe);
        let outcome = compared(&with, "");
        assert!(outcome.config.apps.chat.is_some() && outcome.config.apps.jwt.is_some());
        // S2-115: everything of the chat but its path, and where its tables are.
        let outcome = compared(&with, &format!("{jwt}[chat]\nmax_history = 7\npath = '/elsewhere/'\n"));
        assert_eq!(paths(&outcome), (vec!["chat.max_history"], vec!["chat.path"]));
        let chat = outcome.config.apps.chat.as_ref().expect("a chat");
        assert_eq!((chat.settings.max_history, chat.settings.path.as_str()), (7, "/messaging/"));
        assert!(outcome.has_changed(&["chat"]) && !outcome.has_changed(&["jwt", "chat.path"]));
    }
}

//! Arrows between crates point down only; "no SQL in the data plane" is a compile error and not a promise.

use std::collections::BTreeSet;
use std::path::Path;

/// Crate and what it may use of this workspace.
const PERMITTED: &[(&str, &[&str])] = &[
    ("tidegate-core", &[]),
    // For users to build their backends with: it knows the wire and nothing of the gateway.
    ("tidegate-backend", &[]),
    ("tidegate-ws", &["tidegate-core"]),
    ("tidegate-auth", &["tidegate-core"]),
    ("tidegate-store", &["tidegate-core"]),
    ("tidegate-import", &[]),
    // Applications know the gateway as a port of the core, and databases as what the store makes of them.
    ("tidegate-chat", &["tidegate-core", "tidegate-store"]),
    ("tidegate-alerts", &["tidegate-core", "tidegate-store"]),
    // Functions on this machine: what the gateway sees of them is a port of the core.
    ("tidegate-lambda", &["tidegate-core"]),
    ("tidegate-control", &["tidegate-core", "tidegate-auth"]),
    ("tidegate-gateway", &["tidegate-core", "tidegate-auth", "tidegate-ws"]),
    ("tidegate-doctor", &["tidegate-core", "tidegate-auth", "tidegate-ws"]),
    (
        "tidegate-admin",
        &["tidegate-core", "tidegate-auth", "tidegate-control", "tidegate-doctor", "tidegate-gateway"],
    ),
    (
        "tidegate",
        &[
            "tidegate-admin",
            "tidegate-core",
            "tidegate-alerts",
            "tidegate-auth",
            "tidegate-chat",
            "tidegate-ws",
            "tidegate-store",
            "tidegate-control",
            "tidegate-gateway",
            "tidegate-lambda",
            "tidegate-doctor",
            "tidegate-import",
        ],
    ),
];

#[test]
fn crates_use_only_what_lies_below() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crates folder");
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(crates).expect("read the crates folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let manifest = std::fs::read_to_string(crates.join(&name).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = manifest.parse().expect("TOML");
        let (_, permitted) = PERMITTED
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("{name} is new: say what it may use"));
        let used = manifest.get("dependencies").and_then(toml::Value::as_table).into_iter().flatten();
        for (dependency, _) in used.filter(|(dependency, _)| dependency.starts_with("tidegate")) {
            assert!(permitted.contains(&dependency.as_str()), "{name} must not use {dependency}");
        }
        let has_sql = manifest["dependencies"].get("rusqlite").is_some();
        assert_eq!(has_sql, name == "tidegate-store", "SQL is for the store alone, not for {name}");
        seen.insert(name);
    }
    assert_eq!(seen.len(), PERMITTED.len());
}

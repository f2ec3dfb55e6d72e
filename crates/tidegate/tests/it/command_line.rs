//! `check`, `config` and `certs` without a server.

use std::process::{Command, Output};

fn tidegate(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.output().expect("run tidegate")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_reports_every_problem_and_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, "listen = 'x'\nregoin = 'y'\n[management]\ninvalid_id = '404'\n").expect("write");
    let output = tidegate(&["check", "--config", file.to_str().expect("a path")], &[]);
    assert_eq!(output.status.code(), Some(1));
    let problems = text(&output.stderr);
    for expected in ["listen: ", "regoin: unknown key; did you mean `region`?", "management.invalid_id: "] {
        assert!(problems.contains(expected), "{expected} in {problems}");
    }
    // S0-96
    assert!(
        problems.contains("(config.unknown-key)") && problems.contains("(config.invalid-value)"),
        "{problems}"
    );
}

#[test]
fn check_looks_at_a_document_too() {
    // S0-96
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("apis.toml");
    let document = "[[apis]]\nname = 'chat'\nroute_selection_expression = '$request.body.action'\n[apis.stages.prod]\ndeploy = false\n[apis.stages.prod.policy";
    let check = |policy: &str, arguments: &[&str]| {
        std::fs::write(&file, format!("{document}{policy}")).expect("write");
        let mut all = vec!["check", "--json", "--apply", file.to_str().expect("a path")];
        all.extend(arguments);
        let output = tidegate(&all, &[]);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let ids = |of: &str| -> Vec<String> {
            let list = answer[of].as_array().expect("a list");
            list.iter().map(|found| found["id"].as_str().expect("an id").to_owned()).collect()
        };
        (output.status.code(), ids("problems"), ids("warnings"))
    };
    let (code, problems, warnings) = check(".channels]\nunlisted = 'allow'\n", &["--admin", "0.0.0.0:1"]);
    assert_eq!((code, problems.len()), (Some(0), 0));
    for id in
        ["config.no-credentials", "config.admin-open", "config.unlisted-open", "config.no-backend-secret"]
    {
        assert!(warnings.iter().any(|found| found == id), "{id} in {warnings:?}");
    }
    let (code, problems, _) = check(".backend]\nsecrets = ['too-short']\n", &[]);
    assert_eq!((code, problems), (Some(1), vec!["config.invalid-value".to_owned()]));
    let (code, problems, _) = check(".backend]\nsecret = ['x']\n", &[]);
    assert_eq!((code, problems.len()), (Some(1), 1));
}

#[test]
fn config_shows_origins_and_masks_secrets() {
    let environment = [
        ("TIDEGATE_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("TIDEGATE_SECRET_ACCESS_KEY", "very-secret-value"),
        ("TIDEGATE_DATA_PLANE_IDLE_TIMEOUT", "30"),
    ];
    let output = tidegate(&["config", "--listen", "127.0.0.1:9"], &environment);
    assert!(output.status.success());
    let shown = text(&output.stdout);
    for expected in [
        "listen = 127.0.0.1:9  (flag)",
        "data_plane.idle_timeout = 30  (environment)",
        "region = us-east-1  (default)",
        "secret_access_key = ****  (environment)",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    assert!(!shown.contains("very-secret-value"));
}

#[test]
fn an_unknown_variable_is_refused() {
    let output = tidegate(&["check", "--json"], &[("TIDEGATE_LISTN", "127.0.0.1:1")]);
    assert_eq!(output.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["problems"][0]["path"], "TIDEGATE_LISTN");
}

#[test]
fn certs_keep_the_ca_and_hide_the_keys() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().to_str().expect("a path");
    let read = |name: &str| std::fs::read(folder.path().join("certs").join(name)).expect(name);
    assert!(tidegate(&["certs", "--data-dir", data_dir], &[]).status.success());
    let (ca, certificate) = (read("ca.pem"), read("tidegate.pem"));
    assert!(tidegate(&["certs", "--data-dir", data_dir, "--name", "ws.example.com"], &[]).status.success());
    assert_eq!(read("ca.pem"), ca);
    assert_ne!(read("tidegate.pem"), certificate);
    for key in ["ca.key", "tidegate.key"] {
        let mode = std::fs::metadata(folder.path().join("certs").join(key)).expect(key).permissions().mode();
        assert_eq!(mode & 0o077, 0, "{key}");
    }
}

#[test]
fn serve_wants_a_credential() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let output = tidegate(
        &["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().expect("a path")],
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("TIDEGATE_ACCESS_KEY_ID"));
    assert!(!data_dir.exists(), "nothing is made before the configuration is good");
}

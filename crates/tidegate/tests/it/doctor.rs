//! `tidegate doctor` from inside, and `tidegate route test`, as they are run.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::dev::{Dev, Ended, ended, wait_for_json, wait_until};

/// Keys for the commands, and checks that repeat every second.
const CONFIG: &str =
    "doctor_interval = 1\n[[keys]]\nname = 'test'\nrole = 'administer'\nkey = 'key-of-administer'\n";

const ECHO: &str = r#"
[[apis]]
id = "chat000000"
name = "chat"
route_selection_expression = "$request.body.action"
integrations = { echo = { uri = "tidegate://echo" } }
routes = { "$default" = { integration = "echo", two_way = true }, "join" = { integration = "echo", two_way = true } }
stages = { dev = {} }
"#;

/// A command that asks no node.
fn alone(arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    ended(command.output().expect("run a command"))
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn ids(report: &Value) -> Vec<&str> {
    report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|f| f["id"].as_str().expect("an id"))
        .collect()
}

#[test]
fn a_configuration_is_checked_without_a_node() {
    // DX-48 DX-61 DX-62, config.unknown-key, config.invalid-value, config.weak-secret, provision.invalid-certificate
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("write a file");
        path.to_str().expect("a path").to_owned()
    };
    let good = file(
        "good.toml",
        "access_key_id = 'AKID'\nsecret_access_key = 'f3b1d2c4a5968778695a4b3c2d1e0f00'\nlisten = '127.0.0.1:0'\n",
    );
    let checked = alone(&["doctor", "--config", &good, "--json"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let found = report(&checked);
    assert_eq!((ids(&found), &found["schema"]), (vec![], &json!("tidegate.diagnosis/1")));

    let bad = file("bad.toml", "listn = '127.0.0.1:0'\nadmin = 'nowhere'\n");
    let checked = alone(&["doctor", "--config", &bad, "--json"]);
    assert_eq!(
        (checked.code, ids(&report(&checked))),
        (1, vec!["config.unknown-key", "config.invalid-value"])
    );
    assert!(checked.stdout.contains("did you mean `listen`"), "{checked:?}");
    let shown = alone(&["doctor", "--config", &bad]);
    assert!(
        shown.stdout.contains("PROBLEM config.unknown-key") && shown.stdout.ends_with("2 problems\n"),
        "{shown:?}"
    );

    let weak =
        file("weak.toml", "access_key_id = 'AKID'\nsecret_access_key = 'my-secret-is-out-of-a-manual'\n");
    let checked = alone(&["doctor", "--config", &weak, "--json"]);
    assert_eq!((checked.code, ids(&report(&checked))), (0, vec!["config.weak-secret"]));
    assert!(!checked.stdout.contains("my-secret-is"), "{checked:?}");
    assert_eq!(alone(&["doctor", "--config", &weak, "--strict"]).code, 1);

    let broken = file("broken.pem", "no certificate");
    let tls = format!(
        "access_key_id = 'AKID'\nsecret_access_key = 'f3b1d2c4a5968778695a4b3c2d1e0f00'\n\
         [tls]\nlisten = '127.0.0.1:0'\ncertificate = '{broken}'\nkey = '{broken}'\n"
    );
    let checked = alone(&["doctor", "--config", &file("tls.toml", &tls), "--json"]);
    assert_eq!((checked.code, ids(&report(&checked))), (1, vec!["provision.invalid-certificate"]));

    let nothing = alone(&["doctor"]);
    assert_eq!(nothing.code, 2, "{nothing:?}");
    let nobody = alone(&["doctor", "--api", "--admin-url", "http://127.0.0.1:9"]);
    assert_eq!(nobody.code, 4, "{nobody:?}");
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

/// Answers every request with a key set, by TLS where there is a certificate. Ends with the test.
fn issuer(keys: &Value, tls: Option<std::sync::Arc<rustls::ServerConfig>>) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let body = json!({ "keys": keys }).to_string();
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let serve = move |stream: &mut dyn ReadWrite| {
        let mut buffer = [0; 1024];
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(n_read @ 1..) => request.extend_from_slice(&buffer[..n_read]),
                _ => return,
            }
        }
        let _ = stream.write_all(answer.as_bytes());
    };
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            match &tls {
                None => serve(&mut stream),
                Some(tls) => {
                    let connection = rustls::ServerConnection::new(tls.clone()).expect("a connection");
                    serve(&mut rustls::StreamOwned::new(connection, stream));
                }
            }
        }
    });
    address
}

#[test]
fn the_key_sets_of_a_configuration_are_fetched_as_the_node_fetches_them() {
    // DX-48, jwt.jwks-unreachable, jwt.alg-not-allowed
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("write a file");
        path.to_str().expect("a path").to_owned()
    };
    let doctor = |first: &str, jwt: &str| {
        let text = format!(
            "access_key_id = 'AKID'\nsecret_access_key = 'f3b1d2c4a5968778695a4b3c2d1e0f00'\nlisten = '127.0.0.1:0'\n{first}\n[jwt]\nrequire_exp = true\n{jwt}\n"
        );
        let ended = alone(&["doctor", "--config", &write("tidegate.toml", &text), "--json"]);
        (ended.code, report(&ended))
    };
    let probe = |report: &Value| {
        let probes = report["probes"].as_array().expect("probes");
        probes.iter().find(|probe| probe["name"] == "key set").expect("the key set's probe").clone()
    };
    // RFC 7515, appendix A.3.
    let key = json!({ "kty": "EC", "crv": "P-256", "kid": "k1", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let plain = issuer(&json!([key]), None);
    let url = |more: &str| format!("jwks_url = 'http://{plain}/keys?code=7f3e'\n{more}");

    let (code, found) = doctor("", &url(""));
    assert_eq!((code, ids(&found)), (0, vec![]), "{found}");
    let measured = &probe(&found)["measurements"];
    assert_eq!(measured["target"], format!("http://{plain}/keys?code=*"));
    assert_eq!((&measured["keys"], &measured["algorithms"]), (&json!(1), &json!(["ES256"])));
    assert!(!found.to_string().contains("7f3e"), "{found}");

    let (code, found) = doctor("", &url("algorithms = ['RS256']"));
    assert_eq!(
        (code, ids(&found), &probe(&found)["result"]),
        (1, vec!["jwt.alg-not-allowed"], &json!("problem"))
    );

    let (code, found) = doctor("", "jwks_url = 'http://127.0.0.1:1/keys'");
    assert_eq!((code, ids(&found)), (1, vec!["jwt.jwks-unreachable"]), "{found}");
    assert_eq!(found["findings"][0]["evidence"][0]["facts"]["error"], "the connection was refused");

    let set = write("keys.json", &json!({ "keys": [key] }).to_string());
    let (code, found) = doctor("", &format!("jwks_file = '{set}'"));
    assert_eq!((code, ids(&found), &probe(&found)["measurements"]["keys"]), (0, vec![], &json!(1)));
    let (code, found) = doctor("", "jwks_file = '/nowhere/keys.json'");
    assert_eq!((code, ids(&found)), (1, vec!["config.invalid-value"]), "{found}");

    // Certificates that the node trusts are trusted, and no others.
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let authority = write("ca.pem", &made.cert.pem());
    let private = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], private)
        .expect("a TLS configuration");
    let port = issuer(&json!([key]), Some(std::sync::Arc::new(tls))).port();
    let secure = format!("jwks_url = 'https://localhost:{port}/keys'");
    let (code, found) = doctor("", &secure);
    assert_eq!((code, ids(&found)), (1, vec!["jwt.jwks-unreachable"]), "{found}");
    assert_eq!(found["findings"][0]["evidence"][0]["facts"]["error"], "the certificate is not accepted");
    let (code, found) = doctor(&format!("backend_ca = '{authority}'"), &secure);
    assert_eq!((code, ids(&found)), (0, vec![]), "{found}");
}

#[test]
fn tokens_for_ever_and_tokens_in_logs_are_told() {
    // S3-13, S3-73, jwt.no-expiry, log.token-in-query
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = |name: &str, first: &str, jwt: &str| {
        let path = folder.path().join(name);
        let text = format!(
            "access_key_id = 'AKID'\nsecret_access_key = 'f3b1d2c4a5968778695a4b3c2d1e0f00'\nlisten = '127.0.0.1:0'\n{first}\n\
             [jwt]\nsecret = 'q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8'\n{jwt}\n[apps.alerts]\n"
        );
        std::fs::write(&path, text).expect("write a file");
        path.to_str().expect("a path").to_owned()
    };
    let doctor = |file: &str| alone(&["doctor", "--config", file, "--json"]);
    let proxied = doctor(&configuration("a.toml", "trusted_proxies = ['192.0.2.1']", ""));
    let found = report(&proxied);
    assert_eq!(ids(&found), ["jwt.no-expiry", "log.token-in-query"], "{found}");
    assert_eq!(found["findings"][0]["evidence"][0]["facts"]["path"], "jwt.require_exp");
    assert_eq!(found["findings"][1]["severity"], "info");
    assert_eq!(found["findings"][1]["confidence"], "possible");
    let healthy = configuration("b.toml", "", "require_exp = true");
    assert_eq!(ids(&report(&doctor(&healthy))), [""; 0]);
    let checked = alone(&["check", "--config", &configuration("c.toml", "", "")]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.stderr.contains("jwt.no-expiry"), "{checked:?}");
}

#[test]
fn a_log_is_searched_and_nothing_of_it_is_shown() {
    // DX-52, log.token-in-query, log.secret-printed
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("write a file");
        path.to_str().expect("a path").to_owned()
    };
    let config = write(
        "c.toml",
        "access_key_id = 'AKID'\nsecret_access_key = 'f3b1d2c4a5968778695a4b3c2d1e0f00'\nlisten = '127.0.0.1:0'\n",
    );
    let log = write(
        "access.log",
        "ok\n\"GET /chat?ws_token=5c1a7e9b HTTP/1.1\" 101\nsecret f3b1d2c4a5968778695a4b3c2d1e0f00 printed\n",
    );
    let found = alone(&["doctor", "--check-log", &log, "--config", &config, "--json"]);
    assert_eq!((found.code, ids(&report(&found))), (1, vec!["log.token-in-query", "log.secret-printed"]));
    assert!(!found.stdout.contains("5c1a7e9b") && !found.stdout.contains("f3b1d2c4"), "{found:?}");
    assert_eq!(
        report(&found)["findings"][0]["evidence"][0]["facts"]["places"],
        json!([{ "line": 2, "length": 8 }])
    );
    let clean = write("clean.log", "ok\n\"GET /chat HTTP/1.1\" 101\n");
    assert_eq!(alone(&["doctor", "--check-log", &clean]).code, 0);
    assert_eq!(alone(&["doctor", "--check-log", "/nowhere/at/all"]).code, 2);
}

#[test]
fn the_machine_is_measured() {
    // DX-51
    let found = report(&alone(&["doctor", "--system", "--json"]));
    let probes: Vec<&str> = found["probes"]
        .as_array()
        .expect("probes")
        .iter()
        .map(|p| p["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        probes,
        ["open files", "accept queue", "source ports", "memory", "clock", "disk", "keep-alive"]
    );
    assert!(found["probes"][3]["measurements"]["total"].as_u64() > Some(1 << 20), "{found}");
    assert!(found["probes"][0]["measurements"]["limit"].as_u64() > Some(0), "{found}");
}

#[test]
fn a_healthy_node_has_no_finding() {
    // DX-49 DX-50 DX-53
    let folder = tempfile::tempdir().expect("a folder");
    let (config, document) = (folder.path().join("c.toml"), folder.path().join("apis.toml"));
    std::fs::write(&config, CONFIG).expect("write a file");
    std::fs::write(&document, ECHO).expect("write a file");
    let dev = Dev::start(&[
        "--config",
        config.to_str().expect("a path"),
        "--apply",
        document.to_str().expect("a path"),
    ]);
    let checked = dev.run(&["doctor", "--api", "chat", "--json"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let found = report(&checked);
    assert_eq!(ids(&found), Vec::<&str>::new());
    let checklist =
        found["probes"].as_array().expect("probes").iter().find(|probe| probe["name"] == "checklist");
    let lines = checklist.expect("a checklist")["measurements"]["lines"].as_array().expect("lines").clone();
    assert_eq!((lines.len(), &lines[1]["answer"]), (12, &json!("yes")));
    let shown = dev.run(&["doctor", "--api"]);
    assert!(
        shown.stdout.contains("1 yes, 0 no, 11 cannot tell")
            && !shown.stdout.contains("AWS_ENDPOINT_URL_APIGATEWAYV2"),
        "{shown:?}"
    );

    // DX-50: a message.
    let found = report(&dev.run(&["doctor", "--api", "chat", "--message", r#"{"action":"Join"}"#, "--json"]));
    assert_eq!(ids(&found), ["route.key-mismatch"]);
    let tested = dev.json(&["route", "test", "chat/dev", r#"{"action":"join"}"#]);
    assert_eq!((&tested[0]["routeKey"], &tested[0]["hasReply"]), (&json!("join"), &json!(true)));
    let shown = dev.run(&["route", "test", "chat", r#"{"data":{"kind":"join"}}"#]);
    assert!(shown.stdout.contains("$request.body.data.kind has the key of a route"), "{shown:?}");
    let file = dev.file("message.json", r#"{"action":"join"}"#);
    assert!(dev.run(&["route", "test", "chat", "--file", &file]).stdout.contains("route       join"));

    // DX-53: the watch.
    wait_until("the watch has looked", || {
        report(&dev.run(&["doctor", "--watch", "--json"]))["probes"][0]["result"] == "ok"
    });
    let unknown = dev.run(&["doctor", "--connection", "AAAAAAAAAAAAAAA="]);
    assert_eq!(unknown.code, 3, "{unknown:?}");
}

/// Ended by its process id.
struct Reflect(Child);

impl Drop for Reflect {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn reflect_answers_in_place_of_a_backend() {
    // DX-49
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("address.json");
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["doctor", "reflect", "--listen", "127.0.0.1:0", "--address-file"])
        .arg(&file)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start reflect");
    let _reflect = Reflect(child);
    let address = wait_for_json(&file)["listen"].as_str().expect("an address").to_owned();
    let config = folder.path().join("c.toml");
    std::fs::write(&config, CONFIG).expect("write a file");
    let dev = Dev::start(&[
        "--config",
        config.to_str().expect("a path"),
        "--backend",
        &format!("http://{address}/"),
    ]);
    let found = report(&dev.run(&["doctor", "--api", "--json"]));
    let reflected =
        found["probes"].as_array().expect("probes").iter().find(|probe| probe["name"] == "reflect");
    let measured = &reflected.unwrap_or_else(|| panic!("{found}"))["measurements"];
    assert!(measured["reflected"].as_u64() > Some(8) && measured["meaning"].is_string(), "{found}");
    assert!(!ids(&found).contains(&"backend.headers-stripped"), "{found}");
}

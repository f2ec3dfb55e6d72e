//! A node that runs, and the command line beside it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A `tidegate dev` on free ports, ended by its process id.
pub(crate) struct Dev {
    child: Child,
    pub(crate) addresses: Value,
    pub(crate) folder: tempfile::TempDir,
}

impl Dev {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), arguments)
    }

    /// With a document, and a key for each role: `key-of-read` and so on.
    pub(crate) fn with_document(document: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("write a file");
            path.to_str().expect("a path").to_owned()
        };
        let keys: String = ["read", "operate", "administer"]
            .map(|role| format!("[[keys]]\nname = '{role}'\nrole = '{role}'\nkey = 'key-of-{role}'\n"))
            .concat();
        let (config, document) = (write("tidegate.toml", &keys), write("apis.toml", document));
        Self::start_in(folder, &["--config", &config, "--apply", &document])
    }

    fn start_in(folder: tempfile::TempDir, arguments: &[&str]) -> Self {
        let file = folder.path().join("addresses.json");
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--address-file"])
            .arg(&file)
            .args(arguments)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start tidegate dev");
        let addresses = wait_for_json(&file);
        Self { child, addresses, folder }
    }

    pub(crate) fn url(&self) -> &str {
        self.addresses["url"].as_str().expect("a URL")
    }

    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.addresses["admin"].as_str().expect("an address"))
    }

    /// Path of a file with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, text).expect("write a file");
        path.to_str().expect("a path").to_owned()
    }

    fn command(&self, key: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).env_clear().env("TIDEGATE_ADMIN_URL", self.admin_url());
        command.env("TIDEGATE_KEY", key);
        command
    }

    /// Runs a command with the highest role.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_as("key-of-administer", arguments)
    }

    pub(crate) fn run_as(&self, key: &str, arguments: &[&str]) -> Ended {
        ended(self.command(key, arguments).stdin(Stdio::null()).output().expect("run a command"))
    }

    /// Runs a command with the access key that every `tidegate dev` without a configuration has.
    pub(crate) fn run_with_dev_key(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command("none", arguments);
        command.env_remove("TIDEGATE_KEY");
        ended(command.stdin(Stdio::null()).output().expect("run a command"))
    }

    /// Runs a command that reads `input`.
    pub(crate) fn run_with_input(&self, input: &str, arguments: &[&str]) -> Ended {
        let mut command = self.command("key-of-administer", arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start a command");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("write its input");
        ended(child.wait_with_output().expect("its end"))
    }

    /// What a command that succeeds prints with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let done = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        serde_json::from_str(&done.stdout).expect("JSON")
    }

    /// A client that is connected by `token create --connect` with these further arguments.
    pub(crate) fn client(&self, user: &str, arguments: &[&str]) -> Client {
        let fixed = ["token", "create", "--connect", "--json", "--user", user];
        let client = Client::start(self.command("key-of-administer", &[&fixed, arguments].concat()));
        wait_until("the client is connected", || {
            self.json(&["connections", "ls", "--user", user]).as_array().is_some_and(|all| !all.is_empty())
        });
        client
    }

    /// A client that connects to an address, for as long as it lives.
    pub(crate) fn connect(&self, url: &str) -> Client {
        Client::start(self.command("none", &["connect", "--json", url]))
    }

    /// Lines that a command prints while it runs.
    pub(crate) fn watch(&self, arguments: &[&str]) -> Client {
        Client::start(self.command("key-of-read", arguments))
    }

    /// The id of the only connection of a user.
    pub(crate) fn connection_of(&self, user: &str) -> String {
        let listed = self.json(&["connections", "ls", "--user", user]);
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        listed[0]["connection_id"].as_str().expect("an id").to_owned()
    }

    /// Ends it with SIGTERM; returns what it printed.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("/bin/kill").args(["-TERM", &pid]).status().expect("kill").success());
        let mut printed = String::new();
        let mut stdout = self.child.stdout.take().expect("its output");
        std::io::Read::read_to_string(&mut stdout, &mut printed).expect("read its output");
        assert!(self.child.wait().expect("its end").success());
        printed
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child that prints a JSON object a line.
pub(crate) struct Client {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Client {
    fn start(mut command: Command) -> Self {
        // Its input stays open, so that it goes on.
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("start a client");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> Value {
        let line = self.lines.next().expect("a line").expect("text");
        serde_json::from_str(&line).expect("a JSON line")
    }

    /// The text of the next message.
    pub(crate) fn message(&mut self) -> String {
        let line = self.line();
        assert_eq!((&line["direction"], &line["kind"]), (&"<-".into(), &"text".into()), "{line}");
        line["text"].as_str().expect("a text").to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().expect("an exit code"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        std::thread::yield_now();
    }
}

pub(crate) fn wait_for_json(path: &Path) -> Value {
    let mut found = None;
    wait_until("the addresses are written", || {
        found = std::fs::read_to_string(path).ok();
        found.is_some()
    });
    serde_json::from_str(&found.unwrap_or_default()).expect("JSON")
}

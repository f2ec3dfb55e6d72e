//! The Python originals on their usual servers, as processes of their own on free ports.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::child::OwnedChild;
use crate::identity::SECRET;

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the originals are.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Measure the Python original too, in turns
    #[arg(long)]
    pub reference: bool,
    /// Python with the packages of `tests/e2e/requirements.txt`
    #[arg(long, value_name = "PATH", default_value = ".cache/e2e/venv/bin/python")]
    python: PathBuf,
    /// The repository
    #[arg(long, value_name = "PATH", default_value = ".")]
    root: PathBuf,
}

impl Place {
    /// No comparison.
    pub fn none() -> Self {
        Self { reference: false, python: PathBuf::new(), root: PathBuf::new() }
    }

    fn python(&self) -> Result<PathBuf> {
        // Not its canonical form: an environment is recognized by the path of its interpreter.
        std::path::absolute(&self.python).context("find the interpreter")
    }

    /// The chat package under daphne, with these users entered: `id`, `username`, `email`, `first_name`, `last_name`.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn chat(&self, users: &Value) -> Result<PythonServer> {
        let project = self.root.join("tests/e2e/chat_project");
        let directory = tempfile::tempdir().context("make a temporary folder")?;
        let environment = |command: &mut Command| {
            command
                .current_dir(&project)
                .env("E2E_CHAT_SECRET", SECRET)
                .env("E2E_CHAT_DATABASE", directory.path().join("db.sqlite3"))
                .env("E2E_CHAT_SOFT_DELETE", "0")
                .env("DJANGO_SETTINGS_MODULE", "chat_settings")
                .env("PYTHONDONTWRITEBYTECODE", "1");
        };
        let mut prepare = Command::new(self.python()?);
        environment(prepare.arg("prepare.py").stdin(Stdio::piped()).stdout(Stdio::null()));
        let mut prepare = prepare.spawn().context("start the preparation of the package")?;
        if let Some(mut input) = prepare.stdin.take() {
            input.write_all(users.to_string().as_bytes()).context("enter the users")?;
        }
        let status = prepare.wait().context("wait for the preparation of the package")?;
        ensure!(status.success(), "the preparation of the package ended with {status}");
        let mut command = Command::new(self.python()?);
        environment(&mut command);
        let address = free_address()?;
        let port = address.port().to_string();
        command.args([
            "-m",
            "daphne",
            "-b",
            "127.0.0.1",
            "-p",
            &port,
            "--no-server-name",
            "chat_asgi:application",
        ]);
        PythonServer::start(command, address, directory)
    }

    /// An alert manager of the usual kind under uvicorn.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn alerts(&self) -> Result<PythonServer> {
        let directory = tempfile::tempdir().context("make a temporary folder")?;
        let address = free_address()?;
        let mut command = Command::new(self.python()?);
        command
            .current_dir(self.root.join("bench/reference"))
            .env("JWT_SECRET", SECRET)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args([
                "-m",
                "uvicorn",
                "alerts_app:app",
                "--host",
                "127.0.0.1",
                "--log-level",
                "warning",
                "--port",
            ])
            .arg(address.port().to_string());
        PythonServer::start(command, address, directory)
    }
}

/// A running server; ends when it is dropped.
#[derive(Debug)]
pub struct PythonServer {
    child: OwnedChild,
    /// Where it listens.
    pub address: SocketAddr,
    directory: tempfile::TempDir,
}

impl PythonServer {
    fn start(mut command: Command, address: SocketAddr, directory: tempfile::TempDir) -> Result<Self> {
        let log = File::create(directory.path().join("log")).context("create a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut server = Self { child: OwnedChild::spawn(&mut command)?, address, directory };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.ended()? {
                bail!("the reference ended with {status}: {}", server.log());
            }
            ensure!(started.elapsed() < START_TIMEOUT, "the reference is not ready: {}", server.log());
            sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What it has said, the end of it.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.chars().skip(text.chars().count().saturating_sub(2000)).collect()
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// An address that was free a moment ago: these servers take a number, no socket.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    listener.local_addr().context("find a free port")
}

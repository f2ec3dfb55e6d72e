//! Functions against a runtime of our own: a few lines of Python that speak the Runtime API.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_core::function::{FunctionRunner as _, Invocation, InvokeError, Invoked};
use tidegate_lambda::{FunctionSettings, Log, Runner, RunnerSettings};

/// Answers each event with what it is told to do.
const RUNTIME: &str = r#"
import json, os, sys, time, urllib.request, urllib.error
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/"
def post(path, value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    try:
        urllib.request.urlopen(urllib.request.Request(base + path, data)).read()
    except urllib.error.HTTPError as error:
        return error.code
if os.path.exists("no-init"):
    post("init/error", {"errorMessage": "no module", "errorType": "Runtime.ImportModuleError"})
    sys.exit(1)
if os.path.exists("exit-at-init"):
    sys.exit(7)
count = 0
while True:
    with urllib.request.urlopen(base + "invocation/next") as answer:
        event, headers = json.load(answer), answer.headers
    id = headers["Lambda-Runtime-Aws-Request-Id"]
    count += 1
    print("hello\rfrom", event.get("do"))
    do = event.get("do")
    if do == "sleep":
        time.sleep(event["seconds"])
    if do == "exit":
        os._exit(event["code"])
    if do == "child":
        os.system("sleep 60 & echo $! > child.pid")
        time.sleep(60)
    if do == "raise":
        post(f"invocation/{id}/error", {"errorMessage": "no", "errorType": "ValueError"})
        continue
    if do == "large":
        post(f"invocation/{id}/response", b"x" * 7_000_000)
        continue
    wrong = post("invocation/other/response", {})
    post(f"invocation/{id}/response", {
        "pid": os.getpid(), "count": count, "wrong": wrong, "version": open("version").read(),
        "arn": headers["Lambda-Runtime-Invoked-Function-Arn"], "trace": headers["Lambda-Runtime-Trace-Id"],
        "left": int(headers["Lambda-Runtime-Deadline-Ms"]) / 1000 - time.time(),
        "environment": dict(os.environ)})
"#;

struct Setup {
    folder: tempfile::TempDir,
    settings: FunctionSettings,
    async_retries: Vec<Duration>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("runtime.py"), RUNTIME).unwrap();
        std::fs::write(folder.path().join("version"), "1").unwrap();
        let settings = FunctionSettings {
            name: "echo".to_owned(),
            command: ["python3", "runtime.py"].map(str::to_owned).into(),
            handler: "app.handler".to_owned(),
            directory: folder.path().to_owned(),
            environment: BTreeMap::from([("MINE".to_owned(), "yes".to_owned())]),
            memory_mb: 128,
            timeout: Duration::from_secs(20),
            concurrency: 2,
            queue: 1,
            reload: true,
        };
        Self { folder, settings, async_retries: Vec::new(), lines: Arc::default() }
    }

    fn runner(&self) -> Arc<Runner> {
        let path = std::env::var_os("PATH").unwrap();
        let common = RunnerSettings {
            region: "eu-west-1".to_owned(),
            account_id: "000000000000".to_owned(),
            environment: vec![("PATH".into(), path)],
            async_retries: self.async_retries.clone(),
        };
        let lines = Arc::clone(&self.lines);
        let log: Log = Arc::new(move |name, line| lines.lock().unwrap().push(format!("{name}: {line}")));
        Arc::new(Runner::new(vec![self.settings.clone()], common, log))
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    async fn wait_for_line(&self, part: &str) {
        let is_there = || self.lines.lock().unwrap().iter().any(|line| line.contains(part));
        wait(is_there, part).await;
    }
}

async fn wait(mut is_so: impl FnMut() -> bool, what: &str) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn invoke(runner: &Runner, event: Value, limit: Duration) -> Result<Invoked, InvokeError> {
    let invocation = Invocation {
        name: "echo".to_owned(),
        qualifier: None,
        arn: "arn:aws:lambda:eu-west-1:000000000000:function:echo".to_owned(),
        payload: event.to_string().into(),
        is_async: false,
        timeout: limit,
        trace_id: Some("Root=1-x".to_owned()),
    };
    runner.invoke(invocation).await
}

const LONG: Duration = Duration::from_secs(30);

async fn answer(runner: &Runner, event: Value) -> Value {
    let invoked = invoke(runner, event, LONG).await.unwrap();
    assert_eq!(invoked.function_error, None, "{:?}", invoked.payload);
    serde_json::from_slice(&invoked.payload).unwrap()
}

async fn error(runner: &Runner, event: Value) -> Value {
    let invoked = invoke(runner, event, LONG).await.unwrap();
    assert_eq!(invoked.function_error.as_deref(), Some("Unhandled"));
    serde_json::from_slice(&invoked.payload).unwrap()
}

fn is_alive(pid: u64) -> bool {
    // A process that has ended and waits for its parent counts as gone.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_used_again_and_knows_where_it_is() {
    let setup = Setup::new();
    let runner = setup.runner();
    let first = answer(&runner, json!({})).await;
    let second = answer(&runner, json!({})).await;
    assert_eq!((&first["pid"], &second["count"]), (&second["pid"], &json!(2)));
    assert_eq!((&first["trace"], &first["wrong"]), (&json!("Root=1-x"), &json!(400)));
    assert_eq!(first["arn"], "arn:aws:lambda:eu-west-1:000000000000:function:echo");
    let left = first["left"].as_f64().unwrap();
    assert!((10.0..=20.0).contains(&left), "{left}");
    let environment = first["environment"].as_object().unwrap();
    for (name, value) in [
        ("_HANDLER", "app.handler"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "echo"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/echo"),
        ("MINE", "yes"),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
    assert_eq!(environment["LAMBDA_TASK_ROOT"], setup.folder.path().to_str().unwrap());
    // Of the gateway's own environment nothing comes along.
    assert!(!environment.contains_key("CARGO_MANIFEST_DIR"));
    setup.wait_for_line("echo: from None").await;
    for part in ["echo: START RequestId: ", "echo: END RequestId: ", "Memory Size: 128 MB\tMax Memory Used: "]
    {
        setup.wait_for_line(part).await;
    }
    setup.wait_for_line("Init Duration: ").await;
    let unknown = Invocation { name: "none".to_owned(), ..invocation() };
    assert!(matches!(runner.invoke(unknown).await, Err(InvokeError::Unknown { .. })));
}

fn invocation() -> Invocation {
    Invocation {
        name: "echo".to_owned(),
        qualifier: None,
        arn: String::new(),
        payload: json!({"do": "sleep", "seconds": 0}).to_string().into(),
        is_async: false,
        timeout: LONG,
        trace_id: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_as_the_service_tells_them() {
    let setup = Setup::new();
    let runner = setup.runner();
    let first = answer(&runner, json!({})).await;
    let raised = error(&runner, json!({"do": "raise"})).await;
    assert_eq!(raised, json!({"errorMessage": "no", "errorType": "ValueError"}));
    let large = error(&runner, json!({"do": "large"})).await;
    assert_eq!(large["errorType"], "Function.ResponseSizeTooLarge");
    // Neither costs the instance its life.
    assert_eq!(answer(&runner, json!({})).await["pid"], first["pid"]);
    let ended = error(&runner, json!({"do": "exit", "code": 3})).await;
    assert_eq!(ended["errorType"], "Runtime.ExitError");
    let message = ended["errorMessage"].as_str().unwrap();
    assert!(message.ends_with("Error: Runtime exited with error: exit status 3"), "{message}");
    assert_ne!(answer(&runner, json!({})).await["pid"], first["pid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_cannot_begin_says_why() {
    let mut setup = Setup::new();
    setup.write("no-init", "");
    let runner = setup.runner();
    let failed = error(&runner, json!({})).await;
    assert_eq!(failed["errorType"], "Runtime.ImportModuleError");
    std::fs::rename(setup.folder.path().join("no-init"), setup.folder.path().join("exit-at-init")).unwrap();
    let ended = error(&runner, json!({})).await;
    assert!(ended["errorMessage"].as_str().unwrap().ends_with("exit status 7"), "{ended}");
    setup.settings.command = vec!["/nowhere/at/all".to_owned()];
    let broken = invoke(&setup.runner(), json!({}), LONG).await;
    assert!(matches!(broken, Err(InvokeError::CannotStart { .. })), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_over_ends_the_instance_with_all_that_it_started() {
    let mut setup = Setup::new();
    setup.settings.timeout = Duration::from_secs(2);
    let runner = setup.runner();
    let pid = answer(&runner, json!({})).await["pid"].as_u64().unwrap();
    let over = error(&runner, json!({"do": "child"})).await;
    assert_eq!(over["errorType"], "Sandbox.Timedout");
    let message = over["errorMessage"].as_str().unwrap();
    assert!(message.ends_with("Error: Task timed out after 2.00 seconds"), "{message}");
    let child = std::fs::read_to_string(setup.folder.path().join("child.pid")).unwrap();
    let child: u64 = child.trim().parse().unwrap();
    wait(|| !is_alive(pid) && !is_alive(child), "the processes end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_as_many_as_may_be_and_few_wait() {
    let setup = Setup::new();
    let runner = setup.runner();
    let sleep = || {
        let runner = Arc::clone(&runner);
        tokio::spawn(async move { invoke(&runner, json!({"do": "sleep", "seconds": 1}), LONG).await })
    };
    let (first, second) = (sleep(), sleep());
    let n_started = || setup.lines.lock().unwrap().iter().filter(|line| line.contains("START")).count();
    wait(|| n_started() == 2, "both run at a time").await;
    {
        // One waits, until it has given up; then there is a place again.
        let mut third = std::pin::pin!(invoke(&runner, json!({}), LONG));
        let mut once = std::pin::pin!(std::future::ready(()));
        tokio::select! {
            biased;
            _ = &mut third => panic!("no instance is free"),
            () = &mut once => {}
        }
        let refused = invoke(&runner, json!({}), LONG).await.unwrap_err();
        assert_eq!(refused, InvokeError::TooMany { name: "echo".to_owned(), limit: 2 });
    }
    let began = Instant::now();
    while let Err(error) = invoke(&runner, json!({}), LONG).await {
        assert!(matches!(error, InvokeError::TooMany { .. }) && began.elapsed() < LONG, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for call in [first, second] {
        assert_eq!(call.await.unwrap().unwrap().function_error, None);
    }
    let over = invoke(&runner, json!({"do": "sleep", "seconds": 5}), Duration::from_millis(50)).await;
    assert_eq!(over.unwrap_err(), InvokeError::TimedOut { after: Duration::from_millis(50) });
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_replace_instances() {
    let setup = Setup::new();
    let runner = setup.runner();
    let first = answer(&runner, json!({})).await;
    setup.write("version", "22");
    let began = Instant::now();
    let second = loop {
        let second = answer(&runner, json!({})).await;
        if second["pid"] != first["pid"] {
            break second;
        }
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&first["version"], &second["version"]), (&json!("1"), &json!("22")));
    wait(|| !is_alive(first["pid"].as_u64().unwrap()), "the older instance ends").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_outlives_the_runner() {
    let setup = Setup::new();
    let runner = setup.runner();
    let idle = answer(&runner, json!({})).await["pid"].as_u64().unwrap();
    let is_async =
        Invocation { is_async: true, payload: json!({"do": "child"}).to_string().into(), ..invocation() };
    assert_eq!(runner.invoke(is_async).await.unwrap().status, 202);
    let child = setup.folder.path().join("child.pid");
    let read = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    wait(|| read(&child).is_some(), "the event runs").await;
    runner.stop().await;
    let child = read(&child).unwrap();
    wait(|| !is_alive(idle) && !is_alive(child), "all processes end").await;
    assert!(invoke(&runner, json!({}), LONG).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_events_that_fail_are_tried_again() {
    let mut setup = Setup::new();
    setup.async_retries = vec![Duration::from_millis(20), Duration::from_millis(40)];
    let runner = setup.runner();
    let event = |what: &str| {
        let payload = json!({ "do": what, "code": 3 }).to_string().into();
        Invocation { is_async: true, payload, ..invocation() }
    };
    let n_starts = |id: &str| {
        let start = format!("START RequestId: {id} ");
        setup.lines.lock().unwrap().iter().filter(|line| line.contains(&start)).count()
    };
    // Two further attempts with the id of the first, whether it raises or its process ends.
    for what in ["raise", "exit"] {
        let id = runner.invoke(event(what)).await.unwrap().request_id.unwrap();
        setup.wait_for_line(&format!("RequestId: {id} Error: given up after 3 attempts")).await;
        assert_eq!(n_starts(&id), 3);
    }
    // What succeeds runs once.
    let id = runner.invoke(event("nothing")).await.unwrap().request_id.unwrap();
    setup.wait_for_line(&format!("END RequestId: {id}")).await;
    answer(&runner, json!({})).await;
    assert_eq!(n_starts(&id), 1);
    runner.stop().await;

    // No more wait for another attempt than events may wait at all.
    setup.async_retries = vec![Duration::from_secs(600)];
    setup.settings.queue = 1;
    let runner = setup.runner();
    let began = Instant::now();
    let first = runner.invoke(event("raise")).await.unwrap().request_id.unwrap();
    setup.wait_for_line(&format!("END RequestId: {first}")).await;
    let second = runner.invoke(event("raise")).await.unwrap().request_id.unwrap();
    // Which of them is given up depends on who was sooner: one is, and the other waits.
    wait(
        || {
            let lines = setup.lines.lock().unwrap();
            let given_up = |id: &str| {
                let text = format!("RequestId: {id} Error: given up, too many wait");
                lines.iter().any(|line| line.contains(&text))
            };
            given_up(&first) || given_up(&second)
        },
        "one is given up",
    )
    .await;
    // Whoever waits does not keep the runner.
    runner.stop().await;
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_log_is_told_to_whoever_asks() {
    let setup = Setup::new();
    let runner = setup.runner();
    let call = |event: Value| Invocation { payload: event.to_string().into(), ..invocation() };
    for (n, event) in [json!({"do": "first"}), json!({"do": "raise"})].into_iter().enumerate() {
        let (invoked, log) = runner.invoke_with_log(call(event.clone())).await.unwrap();
        let id = invoked.request_id.unwrap();
        assert_eq!(invoked.function_error.is_some(), n == 1);
        for part in [format!("START RequestId: {id} "), format!("END RequestId: {id}"), "REPORT ".to_owned()]
        {
            assert!(log.contains(&part), "{part} in {log}");
        }
        // What it wrote, and nothing of the event before.
        let said = event["do"].as_str().unwrap();
        assert!(log.contains(&format!("from {said}")), "{log}");
        assert_eq!(log.matches("from ").count(), 1, "{log}");
        assert!(log.len() <= 4096);
    }
}

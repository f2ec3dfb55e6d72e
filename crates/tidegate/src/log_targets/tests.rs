use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

fn targets(settings: &LogSettings, folder: &Path) -> LogTargets {
    LogTargets::start(settings, folder, false).unwrap()
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} never came to be");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn lines_are_in_their_files_in_order() {
    // AG-28
    let folder = tempfile::tempdir().unwrap();
    let configured = folder.path().join("elsewhere/chat.log");
    let target = LogTarget { file: Some(configured.clone()), ..LogTarget::default() };
    let settings = LogSettings { targets: [("chat".to_owned(), target)].into(), execution: None };
    let logs = targets(&settings, folder.path());
    for idx in 0..5000 {
        logs.access(&"chat".into(), format!("line {idx}"));
        logs.access(&"/aws/../../api".into(), "other".to_owned());
    }
    logs.close();
    let text = std::fs::read_to_string(&configured).unwrap();
    let expected: Vec<String> = (0..5000).map(|idx| format!("line {idx}")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert_eq!(std::fs::metadata(&configured).unwrap().permissions().mode() & 0o777, 0o600);
    // The name of a log group is no path.
    let other = folder.path().join("logs/aws_.._.._api.log");
    assert_eq!(std::fs::read_to_string(&other).unwrap().lines().count(), 5000);
    assert_eq!(logs.counts(), LineCounts { written: 10_000, dropped: 0, failed: 0 });
}

#[test]
fn names_of_targets_are_names_of_files() {
    for (name, file) in [
        ("chat", "chat"),
        ("/aws/apigateway/chat", "aws_apigateway_chat"),
        ("../../etc/passwd", "etc_passwd"),
        ("..", "access"),
        ("", "access"),
        ("a\0b\nc", "a_b_c"),
    ] {
        assert_eq!(file_name(name), file, "{name:?}");
    }
    assert_eq!(file_name(&"x".repeat(500)).len(), MAX_NAME);
}

#[test]
fn a_file_is_rotated_by_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    let mut file = LogFile::new(path.clone(), 100, 2);
    let line = [b'x'; 59].iter().chain(b"\n").copied().collect::<Vec<u8>>();
    for _ in 0..5 {
        file.write(&line).unwrap();
    }
    let sizes: Vec<Option<u64>> = ["x.log", "x.log.1", "x.log.2", "x.log.3"]
        .iter()
        .map(|name| std::fs::metadata(folder.path().join(name)).ok().map(|metadata| metadata.size()))
        .collect();
    assert_eq!(sizes, [Some(60), Some(60), Some(60), None]);
    let mut alone = LogFile::new(folder.path().join("y.log"), 100, 0);
    for _ in 0..5 {
        alone.write(&line).unwrap();
    }
    assert_eq!(std::fs::metadata(folder.path().join("y.log")).unwrap().size(), 60);
    assert!(!folder.path().join("y.log.1").exists());
}

#[test]
fn a_file_that_was_moved_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let logs = targets(&LogSettings::default(), folder.path());
    let path = folder.path().join("logs/chat.log");
    logs.access(&"chat".into(), "before".to_owned());
    wait("the file", || path.exists() && logs.counts().written == 1);
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        logs.access(&"chat".into(), "after".to_owned());
        std::thread::sleep(Duration::from_millis(20));
    }
    logs.close();
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("after\n"));
    assert!(std::fs::read_to_string(folder.path().join("moved")).unwrap().starts_with("before\n"));
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    // A device that is always full.
    let settings = LogSettings {
        targets: [
            ("full".to_owned(), LogTarget { file: Some("/dev/full".into()), ..LogTarget::default() }),
            ("no".to_owned(), LogTarget { file: Some("/dev/null/x.log".into()), ..LogTarget::default() }),
        ]
        .into(),
        execution: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let logs = targets(&settings, folder.path());
    for _ in 0..100 {
        logs.access(&"full".into(), "x".to_owned());
        logs.access(&"no".into(), "x".to_owned());
        logs.access(&"fine".into(), "x".to_owned());
    }
    logs.close();
    assert_eq!(logs.counts(), LineCounts { written: 100, dropped: 0, failed: 200 });
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    // Nobody reads from it, so the thread hangs when it opens it.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let target = LogTarget { file: Some(pipe.clone()), ..LogTarget::default() };
    let settings = LogSettings { targets: [("stuck".to_owned(), target)].into(), execution: None };
    let logs = targets(&settings, folder.path());
    let n_lines = QUEUE_LINES * 2;
    for _ in 0..n_lines {
        logs.access(&"stuck".into(), "x".to_owned());
    }
    let counts = logs.counts();
    let n_kept = n_lines as u64 - counts.dropped;
    assert!(counts.dropped > 0 && n_kept >= QUEUE_LINES as u64, "{counts:?}");
    for _ in 0..100 {
        logs.access(&"stuck".into(), "y".repeat(QUEUE_BYTES / 50));
    }
    assert!(logs.counts.queued_bytes.load(Ordering::Relaxed) <= QUEUE_BYTES + QUEUE_BYTES / 50);
    // It ends nevertheless, once somebody reads.
    let reader = std::thread::spawn(move || std::fs::read(pipe).unwrap().len());
    wait("what was kept", || logs.counts().written >= n_kept);
    logs.close();
    drop(logs);
    assert!(reader.join().unwrap() as u64 >= 2 * n_kept);
}

//! Every log line that worries somebody says which cause it is, so that it can be asked for: `tidegate explain ID`.

use std::path::{Path, PathBuf};

use tidegate_core::diagnosis::Diagnosis;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("read a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_none_or(|name| name != "tests.rs")
        {
            into.push(path);
        }
    }
}

/// What stands between the parentheses of each use of a macro.
fn uses(source: &str, name: &str) -> Vec<String> {
    let opening = format!("{name}!(");
    let mut found = Vec::new();
    for (at, _) in source.match_indices(&opening) {
        let is_longer_name =
            source[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_longer_name {
            continue;
        }
        let mut depth = 1;
        let mut is_text = false;
        let mut before = ' ';
        let rest = &source[at + opening.len()..];
        let end = rest.find(|c: char| {
            match c {
                '"' if before != '\\' => is_text = !is_text,
                '(' if !is_text => depth += 1,
                ')' if !is_text => depth -= 1,
                _ => {}
            }
            before = c;
            depth == 0
        });
        found.push(rest[..end.expect("a closing parenthesis")].to_owned());
    }
    found
}

/// Whether a field `diag` is among the arguments; if its value is written out, it is in the catalogue.
fn has_diagnosis(arguments: &str) -> bool {
    arguments.split(',').map(str::trim).any(|field| match field.split_once('=') {
        None => field == "diag",
        Some((name, value)) => {
            let literal = value.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            name.trim() == "diag" && literal.is_none_or(|id| Diagnosis::find(id).is_some())
        }
    })
}

// DX-21
#[test]
fn every_warning_and_error_has_its_diagnosis() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crates folder");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(crates).expect("read the crates folder").flatten() {
        sources(&entry.path().join("src"), &mut files);
    }
    let mut n_lines = 0;
    let mut wrong = Vec::new();
    for file in files {
        let source = std::fs::read_to_string(&file).expect("read a source");
        for name in ["warn", "error", "line"] {
            for arguments in uses(&source, name) {
                // The definition of a macro, and lines that worry nobody.
                let level = arguments.split(',').next().unwrap_or_default().trim();
                if arguments.contains("$($")
                    || (name == "line" && matches!(level, "Level::Debug" | "Level::Info"))
                {
                    continue;
                }
                n_lines += 1;
                if !has_diagnosis(&arguments) {
                    wrong.push(format!("{}: {name}!({arguments})", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "log lines without `diag`:\n{}", wrong.join("\n"));
    assert!(n_lines > 20, "only {n_lines} were found: the search is broken");
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let source = r#"tracing::warn!(a, "x (y"); other_warn!(b); error!(diag = f(1, 2), "z")"#;
    assert_eq!(uses(source, "warn"), [r#"a, "x (y""#]);
    assert_eq!(uses(source, "error"), [r#"diag = f(1, 2), "z""#]);
    for (arguments, has) in [
        (r#"diag, "x""#, true),
        (r#"%error, diag = "store.unavailable", "x""#, true),
        (r#"diag = id.as_str(), "x""#, true),
        (r#"diag = "no.such-id", "x""#, false),
        (r#"%error, "about diag""#, false),
    ] {
        assert_eq!(has_diagnosis(arguments), has, "{arguments}");
    }
}

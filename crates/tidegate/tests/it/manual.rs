//! The manual's pages for backends print files that are run as they are, in pieces that can be read at a glance.

use std::collections::BTreeSet;
use std::path::Path;

/// Longest piece, in lines. Source: S0-102.
const MAX_LINES: usize = 30;

const PAGES: [&str; 8] = ["django", "flask", "fastapi", "express", "rails", "laravel", "go", "axum"];

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lines between the marks of an anchor, or `None` when it is not there.
fn anchored(text: &str, anchor: &str) -> Option<usize> {
    let ends_with =
        |line: &str, mark: &str| line.split_once(mark).is_some_and(|(_, rest)| rest.trim() == anchor);
    let start = text.lines().position(|line| ends_with(line, "ANCHOR:"))?;
    text.lines().skip(start + 1).position(|line| ends_with(line, "ANCHOR_END:"))
}

#[test]
fn every_framework_has_every_step_in_short_pieces() {
    // S0-92, S0-102
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = root.join("docs/src/backends");
    let summary = read(&root.join("docs/src/SUMMARY.md"));
    for page in PAGES {
        assert!(summary.contains(&format!("(backends/{page}.md)")), "{page} is not in the summary");
        let text = read(&pages.join(format!("{page}.md")));
        let mut files = BTreeSet::new();
        let mut n_pieces = 0;
        for piece in text.split("{{#include ").skip(1) {
            let (piece, _) = piece.split_once("}}").expect("an end of the include");
            let (path, anchor) = piece.rsplit_once(':').expect("an anchor");
            let file = read(&pages.join(path));
            let n_lines = anchored(&file, anchor).unwrap_or_else(|| panic!("{page}: no {anchor} in {path}"));
            assert!((1..MAX_LINES).contains(&n_lines), "{page}: {piece} has {n_lines} lines");
            files.insert(path.to_owned());
            n_pieces += 1;
        }
        assert!(n_pieces >= 4, "{page} prints {n_pieces} pieces");
        let code: String =
            files.iter().map(|path| read(&pages.join(path))).collect::<String>().to_lowercase();
        for step in ["connect", "disconnect", "general", "push", "login"] {
            assert!(code.contains(step), "{page}: no {step}");
        }
        if page != "axum" {
            for step in ["/@channels/", "/api/tokens", "/api/sessions/", "x-ws-gateway-secret"] {
                assert!(code.contains(step), "{page}: no {step}");
            }
        }
        for title in ["## The three events", "## Issue a token, end a session", "## After the commit"] {
            assert!(text.contains(title), "{page}: no {title}");
        }
    }
}

#[test]
fn what_all_backends_share_is_printed_in_short_pieces() {
    // S0-102
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src");
    let text = read(&manual.join("backends.md"));
    let mut printed = BTreeSet::new();
    for piece in text.split("{{#include ").skip(1) {
        let (piece, _) = piece.split_once("}}").expect("an end of the include");
        let (path, n_lines) = match piece.rsplit_once(':') {
            Some((path, anchor)) => {
                let n_lines = anchored(&read(&manual.join(path)), anchor);
                (path, n_lines.unwrap_or_else(|| panic!("no {anchor} in {path}")))
            }
            None => (piece, read(&manual.join(piece)).lines().count()),
        };
        assert!((1..MAX_LINES).contains(&n_lines), "{piece} has {n_lines} lines");
        printed.insert(path.rsplit('/').next().expect("a name").to_owned());
    }
    assert_eq!(printed, BTreeSet::from(["chat.toml".to_owned(), "page.js".to_owned()]));
}

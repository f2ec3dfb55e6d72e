//! Replays the corpus of the fuzz targets, and cuts of it, on the stable toolchain.

use std::fs;
use std::path::Path;

#[path = "../../../../fuzz/core_bodies.rs"]
mod core_bodies;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut n_files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is in the tree") {
        let data = fs::read(entry.expect("the corpus is readable").path()).expect("the corpus is readable");
        for end in 0..=data.len() {
            body(&data[..end]);
            body(&data[end..]);
        }
        n_files += 1;
    }
    assert!(n_files > 0, "{} is empty", folder.display());
}

#[test]
fn template() {
    replay("template", core_bodies::template);
}

#[test]
fn json_path() {
    replay("json_path", core_bodies::json_path);
}

#[test]
fn model() {
    replay("model", core_bodies::model);
}

#[test]
fn expression() {
    replay("expression", core_bodies::expression);
}

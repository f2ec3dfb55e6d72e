//! Replays the corpus of the fuzz targets, and cuts of it, on the stable toolchain.

use std::fs;
use std::path::Path;

use tidegate_ws::Role;

#[path = "../../../../fuzz/bodies.rs"]
mod bodies;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut n_files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is in the tree") {
        let data = fs::read(entry.expect("the corpus is readable").path()).expect("the corpus is readable");
        for end in 0..=data.len() {
            body(&data[..end]);
        }
        n_files += 1;
    }
    assert!(n_files > 0, "{} is empty", folder.display());
}

#[test]
fn decode_server() {
    replay("decode_server", |data| bodies::decode(Role::Server, data));
}

#[test]
fn decode_client() {
    replay("decode_client", |data| bodies::decode(Role::Client, data));
}

#[test]
fn extension_offers() {
    replay("extension_offers", bodies::extension_offers);
}

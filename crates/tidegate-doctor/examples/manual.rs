//! Writes the manual's chapter on failures: `cargo run -p tidegate-doctor --example manual`.
//!
//! Writes `docs/src/troubleshooting/`, removes pages there that no longer exist, and renews the chapter in
//! `docs/src/SUMMARY.md` and the table at the end of `docs/src/close-codes.md`.

use std::path::Path;
use std::{fs, io};

use tidegate_doctor::page::{close_code_section, manual_pages, with_section};

fn main() -> io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src");
    let folder = docs.join("troubleshooting");
    fs::create_dir_all(&folder)?;
    let pages = manual_pages();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if !pages.iter().any(|page| Some(&page.file) == name.as_ref()) {
            fs::remove_file(&path)?;
        }
    }
    for page in &pages {
        fs::write(folder.join(&page.file), &page.text)?;
    }
    for (name, renew) in [
        ("SUMMARY.md", with_section as fn(&str) -> String),
        ("close-codes.md", close_code_section as fn(&str) -> String),
    ] {
        let path = docs.join(name);
        fs::write(&path, renew(&fs::read_to_string(&path)?))?;
    }
    println!("{} pages", pages.len());
    Ok(())
}

//! Templates in the published style, and texts that nobody would write.

mod any_text;
mod cloudformation;
mod live;
mod sam;
mod serverless;

use tidegate_import::{Format, Imported, Options, Part, import};

/// A template of the folder `templates`.
fn template(name: &str) -> String {
    let path = format!("{}/tests/templates/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a template")
}

fn imported(name: &str, options: &Options) -> Imported {
    let format = if name.ends_with(".yml") { Format::Serverless } else { Format::CloudFormation };
    import(format, &template(name), options).expect("a template that can be imported")
}

/// What was left out of one part, without its reasons.
fn left_out(imported: &Imported, part: Part) -> Vec<&str> {
    imported.left_out.iter().filter(|entry| entry.part == part).map(|entry| entry.what.as_str()).collect()
}

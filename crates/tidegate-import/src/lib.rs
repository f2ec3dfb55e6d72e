//! Reads WebSocket APIs of Amazon API Gateway into the form that `tidegate plan` and `tidegate apply` take.
//!
//! Text and answers in, values out: no sockets, no files, no clock. A template goes through these steps:
//! `yaml.rs` reads it into a tree with lines (`node.rs`), `template.rs` takes its sections apart, `sam.rs` and
//! `serverless.rs` write out what is short for resources of CloudFormation, `intrinsic.rs` evaluates the functions,
//! `object.rs` makes objects with the members of the wire, and `form.rs` the document. A running API ([`LiveApi`])
//! begins at `object.rs`. What is not taken over is in [`Imported::left_out`].

mod cloudformation;
mod error;
mod form;
mod function;
mod intrinsic;
mod live;
mod node;
mod object;
mod report;
mod sam;
mod serverless;
mod template;
mod usage;
mod yaml;

use serde::Serialize;
use serde_json::Value;

pub use error::ImportError;
pub use function::Function;
pub use live::{LiveApi, import_live};
pub use report::{LeftOut, Part};
pub use template::Options;
pub use usage::UsagePlan;
pub use yaml::MAX_TEMPLATE;

use report::Report;
use template::Template;

/// How a template is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// CloudFormation, or the Serverless Application Model that is written into it.
    CloudFormation,
    /// `serverless.yml` of the Serverless Framework.
    Serverless,
}

/// What an import makes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Imported {
    /// APIs, domain names and VPC links in the declarative form.
    pub document: Value,
    /// Functions that the APIs call, for the configuration.
    pub functions: Vec<Function>,
    /// Usage plans, for the configuration.
    pub usage_plans: Vec<UsagePlan>,
    /// What is in neither.
    pub left_out: Vec<LeftOut>,
}

impl Imported {
    /// What the configuration file needs, in TOML; empty: nothing.
    pub fn configuration(&self) -> String {
        let mut parts: Vec<String> = self.functions.iter().map(Function::to_toml).collect();
        let plans = self.usage_plans.iter().map(|plan| format!("# {}\n", template::plain(&plan.sentence())));
        parts.extend(plans);
        parts.join("\n")
    }
}

/// Reads the template `text` of at most [`MAX_TEMPLATE`] bytes.
///
/// # Errors
/// What is wrong with the template, with its line; no WebSocket API in it.
pub fn import(format: Format, text: &str, options: &Options) -> Result<Imported, ImportError> {
    let read = yaml::read(text)?;
    let mut report = Report::default();
    for (key, line) in &read.repeated {
        let why = "is there twice; the later one counts";
        report.add(Part::Api, &template::plain(key), *line, why, "keep one of them");
    }
    let mut template = match format {
        Format::CloudFormation => Template::new(&read.root, &mut report)?,
        Format::Serverless => serverless::template(&read.root, options, &mut report)?,
    };
    sam::expand(&mut template, &mut report)?;
    let made = cloudformation::make(&template, options, &mut report)?;
    Ok(Imported {
        document: made.document,
        functions: made.functions,
        usage_plans: made.usage_plans,
        left_out: report.into_entries(),
    })
}

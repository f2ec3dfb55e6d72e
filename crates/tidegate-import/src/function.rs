//! Functions of a template, and what the configuration of Tidegate needs to run them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::ImportError;
use crate::intrinsic::{Evaluator, unmark};
use crate::node::Node;
use crate::report::{Part, Report};
use crate::template::{Resource, plain};

/// A function that a route or an authorizer calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Function {
    /// As the ARN in the document names it.
    pub name: String,
    /// What starts it; absent where the template does not say enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Folder of its code, relative to the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// `python3.13`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// `app.handler`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Longest time for one event, in milliseconds, where the template has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// Variables whose values the template knows.
    pub environment: BTreeMap<String, String>,
    /// Variables whose values only AWS knows, with what they are made of.
    pub unknown_environment: BTreeMap<String, String>,
}

/// Properties that are here; and those that have no meaning for a process on one's own machine.
const TAKEN: &[&str] = &[
    "AutoPublishAlias",
    "Code",
    "CodeUri",
    "Description",
    "Environment",
    "Events",
    "FunctionName",
    "Handler",
    "InlineCode",
    "PackageType",
    "Runtime",
    "Timeout",
];

impl Function {
    /// From an `AWS::Lambda::Function`, or one of SAM that has its form.
    ///
    /// # Errors
    /// A property that cannot be evaluated.
    pub(crate) fn new(
        resource: &Resource,
        evaluator: &Evaluator<'_>,
        known: &dyn Fn(&str) -> Option<String>,
        report: &mut Report,
    ) -> Result<Self, ImportError> {
        let path = resource.path();
        let property =
            |name: &str| resource.properties.get(name).map(|node| evaluator.value(node)).transpose();
        let text = |name: &str| -> Result<Option<String>, ImportError> {
            let value = property(name)?;
            Ok(value.as_ref().and_then(Node::as_text).map(|text| unmark(text, known).text))
        };
        let name = text("FunctionName")?.unwrap_or_else(|| resource.id.clone());
        let (runtime, handler) = (text("Runtime")?, text("Handler")?);
        let command = runtime
            .as_deref()
            .zip(handler.as_deref())
            .and_then(|(runtime, handler)| command(runtime, handler));
        if command.is_none() {
            let why = match (&runtime, &handler) {
                _ if resource.properties.get("PackageType").is_some_and(|p| p.as_text() == Some("Image")) => {
                    "is a container image".to_owned()
                }
                (Some(runtime), Some(_)) => format!("no command is known for the runtime {}", plain(runtime)),
                _ => "has no runtime or no handler".to_owned(),
            };
            let to_do = format!("write the command that starts it into [lambda.functions.{}]", plain(&name));
            report.add(Part::Configuration, &path, resource.line, why, &to_do);
        }
        let directory = match text("CodeUri")? {
            Some(uri) if !uri.contains("://") => Some(uri),
            _ => None,
        };
        if directory.is_none() {
            let why = match resource.properties.get("InlineCode").is_some()
                || resource.properties.below(&["Code", "ZipFile"]).is_some()
            {
                true => "its code is written in the template",
                false => "the template does not say where on this machine its code is",
            };
            let to_do = "put the code into a folder and name that in `directory`";
            report.add(Part::Configuration, &path, resource.line, why, to_do);
        }
        let (mut environment, mut unknown_environment) = (BTreeMap::new(), BTreeMap::new());
        let variables = resource.properties.below(&["Environment", "Variables"]);
        let variables = variables.map(|node| evaluator.value(node)).transpose()?;
        for (variable, node) in variables.iter().flat_map(Node::entries) {
            let Some(text) = node.as_text() else { continue };
            let found = unmark(text, known);
            if found.names.is_empty() {
                environment.insert(variable.clone(), found.text);
            } else {
                let names = found.names.join(", ");
                let why = format!(
                    "the environment variable {} is made of {names}, which AWS alone knows",
                    plain(variable)
                );
                let api = found.names.iter().find(|name| {
                    let resource = evaluator.template.resource(name);
                    resource.is_some_and(|resource| resource.kind == "AWS::ApiGatewayV2::Api")
                });
                let to_do = match api {
                    Some(api) => format!(
                        "choose the id of the API with --parameter {api}=ID, or set the variable in [lambda.functions]"
                    ),
                    None => "set it in [lambda.functions]".to_owned(),
                };
                report.add(Part::Configuration, &path, node.line, why, &to_do);
                unknown_environment.insert(variable.clone(), names);
            }
        }
        let seconds = text("Timeout")?.and_then(|text| text.parse::<u32>().ok());
        let timeout_ms = seconds.and_then(|seconds| seconds.checked_mul(1000));
        let rest = resource.properties.entries().iter().map(|(key, _)| key.as_str());
        let rest: Vec<String> = rest.filter(|key| !TAKEN.contains(key)).map(plain).collect();
        if !rest.is_empty() {
            let why = format!("{} concern AWS Lambda alone", rest.join(", "));
            let to_do = "rights, layers and networks are those of the process and its machine here";
            report.add(Part::Beside, &path, resource.line, why, to_do);
        }
        Ok(Self { name, command, directory, runtime, handler, timeout_ms, environment, unknown_environment })
    }

    /// As the configuration file has it.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = format!("[lambda.functions.{}]\n", key(&self.name));
        match &self.command {
            Some(command) => {
                let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
                text.push_str(&format!("command = [{}]\n", words.join(", ")));
            }
            None => text.push_str("# command = []  # what starts it is not known\n"),
        }
        match &self.directory {
            Some(directory) => text.push_str(&format!("directory = {}\n", quoted(directory))),
            None => text.push_str("# directory = \"\"  # where its code is, is not known\n"),
        }
        if !self.environment.is_empty() {
            let variables =
                self.environment.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value)));
            text.push_str(&format!("environment = {{ {} }}\n", variables.collect::<Vec<_>>().join(", ")));
        }
        if let Some(timeout_ms) = self.timeout_ms {
            text.push_str(&format!("timeout_ms = {timeout_ms}\n"));
        }
        for (name, made_of) in &self.unknown_environment {
            text.push_str(&format!("# environment variable {}: made of {}\n", plain(name), plain(made_of)));
        }
        text
    }
}

/// What starts a function of a runtime.
fn command(runtime: &str, handler: &str) -> Option<Vec<String>> {
    let words: &[&str] = match runtime {
        _ if runtime.starts_with("python") => &["python3", "-m", "awslambdaric"],
        _ if runtime.starts_with("nodejs") => &["npx", "aws-lambda-ric"],
        _ if runtime.starts_with("ruby") => &["aws_lambda_ric"],
        // The program itself speaks the Runtime API.
        _ if runtime.starts_with("provided") || runtime.starts_with("go1") => {
            return Some(vec!["./bootstrap".to_owned()]);
        }
        _ => return None,
    };
    Some(words.iter().copied().chain([handler]).map(str::to_owned).collect())
}

fn key(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare { name.to_owned() } else { quoted(name) }
}

/// A basic string of TOML: JSON's escapes are TOML's, but for DEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

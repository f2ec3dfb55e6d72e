//! A CloudFormation template, taken apart into its sections.

use std::collections::BTreeMap;

use crate::error::ImportError;
use crate::node::Node;
use crate::report::{Part, Report};

/// What a template may ask of its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Values of parameters; also of anything that only AWS knows, by `Resource` or `Resource.Attribute`. For a
    /// resource that is an API, its id.
    pub parameters: BTreeMap<String, String>,
    /// `AWS::Region`; unless given that of the template's provider, or `us-east-1`.
    pub region: Option<String>,
    /// `AWS::AccountId`.
    pub account_id: String,
    /// `AWS::StackName`; unless given `service-stage` of the Serverless Framework, or `stack`.
    pub stack_name: Option<String>,
    /// `--stage` of the Serverless Framework.
    pub stage: Option<String>,
    /// Environment variables, for `${env:X}` of the Serverless Framework.
    pub environment: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parameters: BTreeMap::new(),
            region: None,
            account_id: "000000000000".to_owned(),
            stack_name: None,
            stage: None,
            environment: BTreeMap::new(),
        }
    }
}

/// One resource as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) id: String,
    /// `AWS::ApiGatewayV2::Api`
    pub(crate) kind: String,
    pub(crate) line: usize,
    pub(crate) condition: Option<String>,
    /// A map.
    pub(crate) properties: Node,
}

impl Resource {
    /// `Resources.ChatApi`
    pub(crate) fn path(&self) -> String {
        format!("Resources.{}", self.id)
    }
}

/// The sections that decide what a stack is.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) parameters: Node,
    pub(crate) mappings: Node,
    pub(crate) conditions: Node,
    pub(crate) globals: Node,
    pub(crate) resources: Vec<Resource>,
    /// Of the provider, where a format has one.
    pub(crate) region: Option<String>,
    pub(crate) stack_name: Option<String>,
}

/// Sections without an effect on an API.
const SILENT: &[&str] = &["AWSTemplateFormatVersion", "Description", "Metadata", "Outputs", "Rules"];

impl Template {
    /// # Errors
    /// No map, or a resource without a type.
    pub(crate) fn new(root: &Node, report: &mut Report) -> Result<Self, ImportError> {
        let Some(sections) = root.as_map() else {
            return Err(ImportError::at(root.line, "a template with `Resources` expected"));
        };
        let section = |name: &str| root.get(name).cloned().unwrap_or_else(|| Node::map(0, []));
        for (name, node) in sections {
            match name.as_str() {
                "Parameters" | "Mappings" | "Conditions" | "Globals" | "Resources" => {}
                "Transform" => transforms(node, report),
                name if SILENT.contains(&name) => {}
                name if name.starts_with("Fn::") => {
                    let why = "is a macro or a language extension that only CloudFormation runs";
                    report.add(Part::Api, name, node.line, why, PROCESSED);
                }
                name => report.add(Part::Api, name, node.line, "is no section that is known", ""),
            }
        }
        let mut template = Self {
            parameters: section("Parameters"),
            mappings: section("Mappings"),
            conditions: section("Conditions"),
            globals: section("Globals"),
            resources: Vec::new(),
            region: None,
            stack_name: None,
        };
        let Some(resources) = root.get("Resources") else {
            return Err(ImportError::at(root.line, "the template has no `Resources`"));
        };
        for (id, node) in resources.entries() {
            if id.starts_with("Fn::") {
                let why = "is a macro or a language extension that only CloudFormation runs";
                report.add(Part::Api, &format!("Resources.{id}"), node.line, why, PROCESSED);
                continue;
            }
            template.resources.push(resource(id, node)?);
        }
        Ok(template)
    }

    pub(crate) fn resource(&self, id: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.id == id)
    }

    pub(crate) fn push(
        &mut self,
        id: String,
        kind: &str,
        line: usize,
        condition: Option<String>,
        properties: Node,
    ) {
        self.resources.push(Resource { id, kind: kind.to_owned(), line, condition, properties });
    }
}

/// How to get at what a template becomes.
pub(crate) const PROCESSED: &str =
    "import the processed template: `aws cloudformation get-template --template-stage Processed`";

fn transforms(node: &Node, report: &mut Report) {
    let alone = std::slice::from_ref(node);
    for name in node.as_list().unwrap_or(alone) {
        match name.as_text() {
            Some("AWS::Serverless-2016-10-31" | "AWS::LanguageExtensions") => {}
            Some(other) => {
                let why = format!("the macro {} runs in CloudFormation only", plain(other));
                report.add(Part::Api, "Transform", node.line, why, PROCESSED);
            }
            None => report.add(
                Part::Api,
                "Transform",
                node.line,
                "a macro runs in CloudFormation only",
                PROCESSED,
            ),
        }
    }
}

/// A name as it may be shown.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn resource(id: &str, node: &Node) -> Result<Resource, ImportError> {
    let Some(kind) = node.text_at(&["Type"]) else {
        return Err(ImportError::at(node.line, format!("the resource {} has no Type", plain(id))));
    };
    let properties = match node.get("Properties") {
        None => Node::map(node.line, []),
        Some(properties) if properties.as_map().is_some() => properties.clone(),
        Some(other) => {
            let message = format!("the Properties of {} are no map", plain(id));
            return Err(ImportError::at(other.line, message));
        }
    };
    Ok(Resource {
        id: id.to_owned(),
        kind: kind.to_owned(),
        line: node.line,
        condition: node.text_at(&["Condition"]).map(str::to_owned),
        properties,
    })
}

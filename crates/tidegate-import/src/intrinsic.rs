//! The functions of CloudFormation: `Ref`, `Fn::Sub` and so on, evaluated without a stack.
//!
//! What only AWS knows, such as the host name of a load balancer, becomes a mark in the text with the name of what it
//! is: `LoadBalancer.DNSName`. Whoever uses the text decides what to make of it ([`Unknown`]). Values and steps of one
//! import are counted together, so that nested functions cannot make a small template work for long.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::error::ImportError;
use crate::node::{Content, MAX_DEPTH, Node};
use crate::template::{Options, Resource, Template, plain};
use crate::yaml::{UNKNOWN_BEGIN, UNKNOWN_END};

/// Most steps of one import.
const MAX_STEPS: usize = 500_000;

/// Most bytes that functions make in one import.
const MAX_MADE: usize = 32 * 1024 * 1024;

/// Evaluates what is in a template.
pub(crate) struct Evaluator<'a> {
    pub(crate) template: &'a Template,
    pub(crate) options: &'a Options,
    steps: Cell<usize>,
    made: Cell<usize>,
    conditions: RefCell<BTreeMap<String, bool>>,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(template: &'a Template, options: &'a Options) -> Self {
        Self {
            template,
            options,
            steps: Cell::new(0),
            made: Cell::new(0),
            conditions: RefCell::new(BTreeMap::new()),
        }
    }

    /// The value without functions. Entries that are null or `AWS::NoValue` are gone.
    ///
    /// # Errors
    /// A function with arguments that it does not take, a map that is not there, beyond one of the bounds.
    pub(crate) fn value(&self, node: &Node) -> Result<Node, ImportError> {
        self.eval(node, 0)
    }

    /// Whether a resource is part of the stack.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub(crate) fn is_there(&self, resource: &Resource) -> Result<bool, ImportError> {
        match &resource.condition {
            Some(name) => self.condition(name, resource.line, 0),
            None => Ok(true),
        }
    }

    fn region(&self) -> &str {
        let region = self.options.region.as_deref().or(self.template.region.as_deref());
        region.unwrap_or("us-east-1")
    }

    fn stack_name(&self) -> &str {
        let name = self.options.stack_name.as_deref().or(self.template.stack_name.as_deref());
        name.unwrap_or("stack")
    }

    fn partition(&self) -> &'static str {
        match self.region() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    fn step(&self, node: &Node, depth: usize) -> Result<(), ImportError> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_STEPS {
            return Err(ImportError::at(
                node.line,
                format!("the functions take more than {MAX_STEPS} steps"),
            ));
        }
        if depth > 2 * MAX_DEPTH {
            let message = format!("functions that use each other more than {} deep", 2 * MAX_DEPTH);
            return Err(ImportError::at(node.line, message));
        }
        Ok(())
    }

    fn make(&self, line: usize, text: String) -> Result<Node, ImportError> {
        self.made.set(self.made.get().saturating_add(text.len()));
        if self.made.get() > MAX_MADE {
            return Err(ImportError::at(line, format!("the functions make more than {MAX_MADE} bytes")));
        }
        Ok(Node::text(line, text))
    }

    fn eval(&self, node: &Node, depth: usize) -> Result<Node, ImportError> {
        self.step(node, depth)?;
        let content = match &node.content {
            Content::Null => Content::Null,
            Content::Scalar { text, is_plain } => {
                self.made.set(self.made.get().saturating_add(text.len()));
                let is_dynamic = text.contains("{{resolve:");
                let text = if is_dynamic { without_dynamic(text) } else { text.clone() };
                Content::Scalar { text, is_plain: *is_plain && !is_dynamic }
            }
            Content::List(items) => {
                let items = items.iter().map(|item| self.eval(item, depth + 1));
                let items: Vec<Node> = items.collect::<Result<_, _>>()?;
                Content::List(items.into_iter().filter(|item| !item.is_null()).collect())
            }
            Content::Map(entries) => {
                if let [(name, argument)] = entries.as_slice()
                    && (name == "Ref" || name.starts_with("Fn::"))
                {
                    let mut value = self.function(name, argument, depth + 1)?;
                    value.line = node.line;
                    return Ok(value);
                }
                let mut made = Vec::new();
                for (key, item) in entries {
                    let item = self.eval(item, depth + 1)?;
                    if !item.is_null() {
                        made.push((key.clone(), item));
                    }
                }
                Content::Map(made)
            }
        };
        if self.made.get() > MAX_MADE {
            return Err(ImportError::at(node.line, format!("the functions make more than {MAX_MADE} bytes")));
        }
        Ok(Node { line: node.line, content })
    }

    fn function(&self, name: &str, argument: &Node, depth: usize) -> Result<Node, ImportError> {
        let line = argument.line;
        let wrong = |what: &str| Err(ImportError::at(line, format!("{}: {what}", plain(name))));
        match name {
            "Ref" => match argument.as_text() {
                Some(name) => self.reference(name, line, depth),
                None => wrong("a name expected"),
            },
            "Fn::GetAtt" => match (argument.as_text(), argument.as_list()) {
                (Some(text), _) => {
                    let (name, attribute) = text.split_once('.').unwrap_or((text, ""));
                    self.attribute(name, attribute, line, depth)
                }
                (_, Some([name, attribute])) => {
                    let attribute = self.eval(attribute, depth)?;
                    match (name.as_text(), attribute.as_text()) {
                        (Some(name), Some(attribute)) => self.attribute(name, attribute, line, depth),
                        _ => wrong("a name and an attribute expected"),
                    }
                }
                _ => wrong("`Resource.Attribute` expected"),
            },
            "Fn::Sub" => match argument.as_list() {
                None => match argument.as_text() {
                    Some(text) => self.substitute(text, &[], line, depth),
                    None => wrong("a text expected"),
                },
                Some([text, variables]) => match (text.as_text(), variables.as_map()) {
                    (Some(text), Some(variables)) => self.substitute(text, variables, line, depth),
                    _ => wrong("a text and a map expected"),
                },
                Some(_) => wrong("a text, or a text and a map expected"),
            },
            "Fn::Join" => {
                let Some([delimiter, items]) = argument.as_list() else {
                    return wrong("a delimiter and a list expected");
                };
                let items = self.eval(items, depth)?;
                let (Some(delimiter), Some(items)) = (delimiter.as_text(), items.as_list()) else {
                    return wrong("a delimiter and a list expected");
                };
                let mut text = String::new();
                for (item_idx, item) in items.iter().enumerate() {
                    let Some(part) = item.as_text() else { return wrong("a list of texts expected") };
                    if item_idx > 0 {
                        text.push_str(delimiter);
                    }
                    text.push_str(part);
                }
                self.make(line, text)
            }
            "Fn::Split" => {
                let Some([delimiter, text]) = argument.as_list() else {
                    return wrong("a delimiter and a text expected");
                };
                let text = self.eval(text, depth)?;
                match (delimiter.as_text(), text.as_text()) {
                    (Some(delimiter), Some(text)) if !delimiter.is_empty() => {
                        // The name in a mark is no text to split.
                        let parts: Vec<&str> = match text.contains(UNKNOWN_BEGIN) {
                            true => vec![text],
                            false => text.split(delimiter).collect(),
                        };
                        let parts = parts.into_iter().map(|part| self.make(line, part.to_owned()));
                        Ok(Node::list(line, parts.collect::<Result<_, _>>()?))
                    }
                    _ => wrong("a delimiter and a text expected"),
                }
            }
            "Fn::Select" => {
                let Some([index, items]) = argument.as_list() else {
                    return wrong("an index and a list expected");
                };
                let (index, items) = (self.eval(index, depth)?, self.eval(items, depth)?);
                let index = index.as_text().and_then(|text| text.parse::<usize>().ok());
                let (Some(index), Some(items)) = (index, items.as_list()) else {
                    return wrong("an index and a list expected");
                };
                let unknown = || items.iter().find(|item| item.as_text().is_some_and(is_unknown));
                match items.get(index).or_else(unknown) {
                    Some(item) => Ok(item.clone()),
                    None => wrong(&format!("there is no item {index}")),
                }
            }
            "Fn::If" => {
                let Some([condition, yes, no]) = argument.as_list() else {
                    return wrong("a condition and two values expected");
                };
                let Some(condition) = condition.as_text() else {
                    return wrong("the name of a condition expected");
                };
                let is_met = self.condition(condition, line, depth)?;
                self.eval(if is_met { yes } else { no }, depth)
            }
            "Fn::FindInMap" => self.find_in_map(argument, depth),
            "Fn::ToJsonString" => {
                let value = self.eval(argument, depth)?;
                self.make(line, value.to_json().to_string())
            }
            "Fn::Length" => match self.eval(argument, depth)?.as_list() {
                Some(items) => Ok(Node::plain(line, items.len().to_string())),
                None => wrong("a list expected"),
            },
            "Fn::And" | "Fn::Or" | "Fn::Not" | "Fn::Equals" => {
                let node = Node { line, content: Content::Map(vec![(name.to_owned(), argument.clone())]) };
                Ok(Node::plain(line, self.test(&node, depth)?.to_string()))
            }
            "Fn::ImportValue" => {
                let value = self.eval(argument, depth)?;
                let export = plain(value.as_text().unwrap_or_default());
                self.known_or_mark(&format!("Fn::ImportValue {export}"), line)
            }
            "Fn::GetAZs" | "Fn::Cidr" => {
                self.known_or_mark(name, line).map(|mark| Node::list(line, vec![mark]))
            }
            other => self.known_or_mark(&plain(other), line),
        }
    }

    fn find_in_map(&self, argument: &Node, depth: usize) -> Result<Node, ImportError> {
        let line = argument.line;
        let wrong = |what: &str| Err(ImportError::at(line, format!("Fn::FindInMap: {what}")));
        let Some([map, keys @ ..]) = argument.as_list() else {
            return wrong("a map and two keys expected");
        };
        let ([first, second] | [first, second, _]) = keys else {
            return wrong("a map and two keys expected");
        };
        let mut path = Vec::new();
        for part in [map, first, second] {
            match self.eval(part, depth)?.as_text() {
                Some(text) => path.push(text.to_owned()),
                None => return wrong("texts expected"),
            }
        }
        let keys_of: Vec<&str> = path.iter().map(String::as_str).collect();
        if let Some(found) = self.template.mappings.below(&keys_of) {
            return self.eval(found, depth);
        }
        if let Some(default) = keys.get(2).and_then(|options| options.get("DefaultValue")) {
            return self.eval(default, depth);
        }
        let name = path.iter().map(|key| plain(without_marks(key).as_str())).collect::<Vec<_>>().join(".");
        wrong(&format!("there is no {name} in Mappings"))
    }

    fn substitute(
        &self,
        text: &str,
        variables: &[(String, Node)],
        line: usize,
        depth: usize,
    ) -> Result<Node, ImportError> {
        let mut made = String::new();
        let mut rest = text;
        while let Some(begin) = rest.find("${") {
            made.push_str(&rest[..begin]);
            let after = &rest[begin + 2..];
            let Some(end) = after.find('}') else {
                made.push_str("${");
                rest = after;
                continue;
            };
            let name = &after[..end];
            rest = &after[end + 1..];
            if let Some(literal) = name.strip_prefix('!') {
                made.push_str(&format!("${{{literal}}}"));
                continue;
            }
            let name = name.trim();
            let value = match variables.iter().find(|(variable, _)| variable == name) {
                Some((_, node)) => self.eval(node, depth + 1)?,
                None => match name.split_once('.') {
                    Some((resource, attribute)) => self.attribute(resource, attribute, line, depth + 1)?,
                    None => self.reference(name, line, depth + 1)?,
                },
            };
            match (&value.content, value.as_text()) {
                (_, Some(value)) => made.push_str(value),
                (Content::Null, _) => {}
                // CloudFormation joins a list parameter.
                (Content::List(items), _) => {
                    let items: Vec<&str> = items.iter().filter_map(Node::as_text).collect();
                    made.push_str(&items.join(","));
                }
                _ => {
                    let message = format!("Fn::Sub: ${{{}}} is no text", plain(name));
                    return Err(ImportError::at(line, message));
                }
            }
            if made.len() > MAX_MADE {
                return Err(ImportError::at(line, format!("the functions make more than {MAX_MADE} bytes")));
            }
        }
        made.push_str(rest);
        self.make(line, made)
    }

    fn reference(&self, name: &str, line: usize, depth: usize) -> Result<Node, ImportError> {
        let partition = self.partition();
        let pseudo = match name {
            "AWS::Region" => self.region(),
            "AWS::AccountId" => self.options.account_id.as_str(),
            "AWS::Partition" => partition,
            "AWS::URLSuffix" if partition == "aws-cn" => "amazonaws.com.cn",
            "AWS::URLSuffix" => "amazonaws.com",
            "AWS::StackName" => self.stack_name(),
            "AWS::NoValue" => return Ok(Node::null(line)),
            "AWS::NotificationARNs" => return Ok(Node::list(line, Vec::new())),
            _ => {
                return match self.template.parameters.get(name) {
                    Some(parameter) => self.parameter(name, parameter, line),
                    None => self.physical(name, "", line, depth),
                };
            }
        };
        self.make(line, pseudo.to_owned())
    }

    fn parameter(&self, name: &str, parameter: &Node, line: usize) -> Result<Node, ImportError> {
        let kind = parameter.text_at(&["Type"]).unwrap_or("String");
        let given = self.options.parameters.get(name).map(String::as_str);
        // The default of such a parameter is the name of the value in another service.
        let default =
            parameter.text_at(&["Default"]).filter(|_| !kind.starts_with("AWS::SSM::Parameter::Value"));
        let Some(value) = given.or(default) else { return self.make(line, mark(name)) };
        if kind == "CommaDelimitedList" || kind.starts_with("List<") {
            let items = value.split(',').map(|item| self.make(line, item.trim().to_owned()));
            return Ok(Node::list(line, items.collect::<Result<_, _>>()?));
        }
        self.make(line, value.to_owned())
    }

    fn attribute(&self, name: &str, attribute: &str, line: usize, depth: usize) -> Result<Node, ImportError> {
        self.physical(name, attribute, line, depth)
    }

    /// What a resource of the stack is called.
    fn physical(&self, name: &str, attribute: &str, line: usize, depth: usize) -> Result<Node, ImportError> {
        let whole = match attribute {
            "" => name.to_owned(),
            attribute => format!("{name}.{attribute}"),
        };
        // `MyFunction.Alias`, as SAM has it, is a name as well as an attribute.
        let (name, attribute) = match name.split_once('.') {
            Some((name, attribute)) if self.template.resource(&whole).is_none() => (name, attribute),
            _ => (name, attribute),
        };
        let (resource, attribute) = match self.template.resource(&whole) {
            Some(resource) => (Some(resource), ""),
            None => (self.template.resource(name), attribute),
        };
        let is_gateway = resource.is_some_and(|r| r.kind.starts_with("AWS::ApiGatewayV2::"));
        if !is_gateway && let Some(given) = self.options.parameters.get(&whole) {
            return self.make(line, given.clone());
        }
        let Some(resource) = resource else { return self.make(line, mark(&plain(&whole))) };
        let (region, account, partition) = (self.region(), &self.options.account_id, self.partition());
        let property = |key: &str| -> Result<Option<String>, ImportError> {
            let Some(node) = resource.properties.get(key) else { return Ok(None) };
            let value = self.eval(node, depth + 1)?;
            Ok(value.as_text().map(str::to_owned))
        };
        let text = match (resource.kind.as_str(), attribute) {
            ("AWS::ApiGatewayV2::Stage", "") => property("StageName")?.unwrap_or_else(|| name.to_owned()),
            ("AWS::ApiGatewayV2::DomainName", "") => {
                property("DomainName")?.unwrap_or_else(|| name.to_owned())
            }
            (
                kind,
                "" | "ApiId" | "RouteId" | "IntegrationId" | "AuthorizerId" | "DeploymentId" | "ModelId"
                | "VpcLinkId",
            ) if kind.starts_with("AWS::ApiGatewayV2::") => mark(name),
            ("AWS::Lambda::Function", _) => {
                let function = property("FunctionName")?.unwrap_or_else(|| name.to_owned());
                let arn = format!("arn:{partition}:lambda:{region}:{account}:function:{function}");
                match attribute {
                    "" => function,
                    "Arn" => arn,
                    "Alias" => match property("AutoPublishAlias")? {
                        Some(alias) => format!("{arn}:{alias}"),
                        None => arn,
                    },
                    "Version" | "SnapStartResponse" => arn,
                    _ => mark(&plain(&whole)),
                }
            }
            ("AWS::Lambda::Alias" | "AWS::Lambda::Version", "" | "AliasArn" | "FunctionArn") => {
                let function = property("FunctionName")?.unwrap_or_default();
                let arn = match function.starts_with("arn:") {
                    true => function,
                    false => format!("arn:{partition}:lambda:{region}:{account}:function:{function}"),
                };
                match property("Name")?.filter(|_| resource.kind == "AWS::Lambda::Alias") {
                    Some(alias) => format!("{arn}:{alias}"),
                    // Tidegate runs one version of a function.
                    None => arn,
                }
            }
            ("AWS::Logs::LogGroup", "" | "Arn") => {
                let group = property("LogGroupName")?.unwrap_or_else(|| name.to_owned());
                match attribute {
                    "" => group,
                    _ => format!("arn:{partition}:logs:{region}:{account}:log-group:{group}:*"),
                }
            }
            ("AWS::IAM::Role", "" | "Arn") => {
                let role = property("RoleName")?.unwrap_or_else(|| name.to_owned());
                match attribute {
                    "" => role,
                    _ => format!("arn:{partition}:iam::{account}:role/{role}"),
                }
            }
            ("AWS::ApiGateway::ApiKey" | "AWS::ApiGateway::UsagePlan", "") => name.to_owned(),
            (kind, "") => match name_property(kind) {
                Some(key) => property(key)?.unwrap_or_else(|| mark(name)),
                None => mark(&plain(&whole)),
            },
            _ => mark(&plain(&whole)),
        };
        self.make(line, text)
    }

    fn known_or_mark(&self, name: &str, line: usize) -> Result<Node, ImportError> {
        let text = self.options.parameters.get(name).cloned().unwrap_or_else(|| mark(name));
        self.make(line, text)
    }

    fn condition(&self, name: &str, line: usize, depth: usize) -> Result<bool, ImportError> {
        if let Some(known) = self.conditions.borrow().get(name) {
            return Ok(*known);
        }
        let Some(node) = self.template.conditions.get(name) else {
            return Err(ImportError::at(line, format!("there is no condition {}", plain(name))));
        };
        let is_met = self.test(node, depth + 1)?;
        self.conditions.borrow_mut().insert(name.to_owned(), is_met);
        Ok(is_met)
    }

    fn test(&self, node: &Node, depth: usize) -> Result<bool, ImportError> {
        self.step(node, depth)?;
        let wrong = || Err(ImportError::at(node.line, "a condition expected"));
        let [(name, argument)] = node.entries() else { return wrong() };
        let tests = |most: usize| match argument.as_list() {
            Some(items) if (1..=most).contains(&items.len()) => {
                items.iter().map(|item| self.test(item, depth + 1)).collect::<Result<Vec<bool>, _>>()
            }
            _ => Err(ImportError::at(argument.line, "a list of conditions expected")),
        };
        match name.as_str() {
            "Condition" => match argument.as_text() {
                Some(name) => self.condition(name, node.line, depth),
                None => wrong(),
            },
            "Fn::And" => Ok(tests(10)?.into_iter().all(|is_met| is_met)),
            "Fn::Or" => Ok(tests(10)?.into_iter().any(|is_met| is_met)),
            "Fn::Not" => Ok(!tests(1)?.into_iter().any(|is_met| is_met)),
            "Fn::Equals" => match argument.as_list() {
                Some([left, right]) => {
                    let (left, right) = (self.eval(left, depth + 1)?, self.eval(right, depth + 1)?);
                    match (left.as_text(), right.as_text()) {
                        (Some(left), Some(right)) => Ok(left == right),
                        _ => Ok(left.to_json() == right.to_json()),
                    }
                }
                _ => wrong(),
            },
            _ => wrong(),
        }
    }
}

/// The property that is what `Ref` answers.
fn name_property(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "AWS::DynamoDB::Table" | "AWS::DynamoDB::GlobalTable" | "AWS::Serverless::SimpleTable" => "TableName",
        "AWS::S3::Bucket" => "BucketName",
        "AWS::Kinesis::Stream" | "AWS::SSM::Parameter" => "Name",
        "AWS::ECR::Repository" => "RepositoryName",
        _ => return None,
    })
}

fn mark(name: &str) -> String {
    format!("{UNKNOWN_BEGIN}{name}{UNKNOWN_END}")
}

/// `{{resolve:ssm:name}}` is read by AWS when a stack is made.
fn without_dynamic(text: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find("{{resolve:") {
        made.push_str(&rest[..begin]);
        let after = &rest[begin + 2..];
        let end = after.find("}}").unwrap_or(after.len());
        made.push_str(&mark(&plain(&after[..end])));
        rest = after.get(end + 2..).unwrap_or_default();
    }
    made.push_str(rest);
    made
}

pub(crate) fn is_unknown(text: &str) -> bool {
    text.contains(UNKNOWN_BEGIN)
}

/// A text with marks, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// The text with names in place of marks.
    pub(crate) text: String,
    /// What only AWS knows.
    pub(crate) names: Vec<String>,
}

/// Takes the marks out; `known` says what some of them are.
pub(crate) fn unmark(text: &str, known: impl Fn(&str) -> Option<String>) -> Unknown {
    let mut unmarked = Unknown::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(UNKNOWN_BEGIN) {
        unmarked.text.push_str(before);
        let (name, after) = after.split_once(UNKNOWN_END).unwrap_or((after, ""));
        match known(name) {
            Some(value) => unmarked.text.push_str(&value),
            None => {
                unmarked.text.push_str(name);
                unmarked.names.push(name.to_owned());
            }
        }
        rest = after;
    }
    unmarked.text.push_str(rest);
    unmarked
}

/// The text with names in place of marks.
pub(crate) fn without_marks(text: &str) -> String {
    unmark(text, |_| None).text
}

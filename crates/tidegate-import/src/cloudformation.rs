//! The resources of a template become objects of APIs, functions and usage plans; everything else is told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::ImportError;
use crate::form::Objects;
use crate::function::Function;
use crate::intrinsic::Evaluator;
use crate::object::{Kind, Object};
use crate::report::{Part, Report};
use crate::template::{Options, Resource, Template, plain};
use crate::usage::{self, UsagePlan};

/// Most resources, those included that SAM and the Serverless Framework make. CloudFormation takes 500.
const MAX_RESOURCES: usize = 3000;

/// What a template is made into.
pub(crate) struct Made {
    pub(crate) document: Value,
    pub(crate) functions: Vec<Function>,
    pub(crate) usage_plans: Vec<UsagePlan>,
}

/// # Errors
/// A function of the template that cannot be evaluated; no WebSocket API in it.
pub(crate) fn make(template: &Template, options: &Options, report: &mut Report) -> Result<Made, ImportError> {
    if template.resources.len() > MAX_RESOURCES {
        return Err(ImportError::whole(format!("the template has more than {MAX_RESOURCES} resources")));
    }
    let evaluator = Evaluator::new(template, options);
    let apis = template.resources.iter().filter(|resource| resource.kind == "AWS::ApiGatewayV2::Api");
    let api_ids: BTreeMap<String, String> =
        apis.filter_map(|api| Some((api.id.clone(), options.parameters.get(&api.id)?.clone()))).collect();
    let known = |name: &str| api_ids.get(name).cloned();
    let mut objects = Vec::new();
    for resource in &template.resources {
        if !evaluator.is_there(resource)? {
            let why = format!(
                "its condition {} is not met",
                plain(resource.condition.as_deref().unwrap_or_default())
            );
            let part =
                if resource.kind.starts_with("AWS::ApiGatewayV2::") { Part::Api } else { Part::Beside };
            report.add(part, &resource.path(), resource.line, why, "other values of --parameter may meet it");
            continue;
        }
        match Kind::of_resource(&resource.kind) {
            Some(kind) => {
                let properties = evaluator.value(&resource.properties)?;
                objects.push(Object::from_properties(
                    kind,
                    resource.path(),
                    resource.line,
                    &resource.id,
                    &properties,
                    &known,
                    report,
                ));
            }
            None => beside(resource, report),
        }
    }
    objects.retain(|object| {
        let is_other = object.kind == Kind::Api && object.text("protocolType") != Some("WEBSOCKET");
        if is_other {
            let why = "is no WebSocket API";
            report.add(Part::Beside, &object.path, object.line, why, "");
        }
        !is_other
    });
    if !objects.iter().any(|object| object.kind == Kind::Api) {
        return Err(ImportError::whole("the template has no WebSocket API"));
    }
    let functions = functions(template, &objects, &evaluator, &known, report)?;
    let usage_plans = usage::plans(template, &evaluator, report)?;
    let document = Objects { all: &objects, api_ids: &api_ids, is_live: false }.document(report);
    Ok(Made { document, functions, usage_plans })
}

/// Functions that an integration or an authorizer calls.
fn functions(
    template: &Template,
    objects: &[Object],
    evaluator: &Evaluator<'_>,
    known: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Result<Vec<Function>, ImportError> {
    let mut called: BTreeSet<String> = BTreeSet::new();
    for object in objects {
        let uri = object.text("integrationUri").or_else(|| object.text("authorizerUri"));
        called.extend(uri.and_then(function_name).map(str::to_owned));
    }
    let mut made = Vec::new();
    for resource in template.resources.iter().filter(|resource| resource.kind == "AWS::Lambda::Function") {
        if !evaluator.is_there(resource)? {
            continue;
        }
        let mut unused = Report::default();
        let function = Function::new(resource, evaluator, known, &mut unused)?;
        if called.remove(&function.name) {
            made.push(Function::new(resource, evaluator, known, report)?);
        } else {
            let why = "is a function that no route and no authorizer calls";
            report.add(Part::Beside, &resource.path(), resource.line, why, "");
        }
    }
    for name in called {
        let why = format!("the function {} is called, but is not in the template", plain(&name));
        let to_do =
            format!("describe it in [lambda.functions.{}], or name the endpoint that has it", plain(&name));
        report.add(Part::Configuration, "functions", 0, why, &to_do);
    }
    Ok(made)
}

/// The name in the ARN of a function, or in the ARN of its call.
pub(crate) fn function_name(uri: &str) -> Option<&str> {
    let (_, after) = uri.split_once(":function:")?;
    let end = after.find([':', '/']).unwrap_or(after.len());
    Some(&after[..end]).filter(|name| !name.is_empty())
}

fn beside(resource: &Resource, report: &mut Report) {
    let (part, why, to_do) = match resource.kind.as_str() {
        // They have a place of their own in the result, or are only names for it.
        "AWS::Lambda::Function"
        | "AWS::Lambda::Alias"
        | "AWS::Lambda::Version"
        | "AWS::ApiGateway::ApiKey"
        | "AWS::ApiGateway::UsagePlan"
        | "AWS::ApiGateway::UsagePlanKey" => return,
        "AWS::Lambda::Permission" => {
            (Part::Beside, "functions that Tidegate runs need no permission to be called", "")
        }
        "AWS::ApiGateway::Account" => (Part::Beside, "the role that writes logs on AWS", ""),
        "AWS::Logs::LogGroup" => {
            (Part::Beside, "a log group; a stage keeps its name as the destination of its access log", "")
        }
        kind if kind.starts_with("AWS::IAM::") => (Part::Beside, "rights in AWS", ""),
        kind if kind.starts_with("AWS::ApiGatewayV2::") => {
            (Part::Api, "there is no counterpart", "check whether the API needs it")
        }
        kind if kind.starts_with("AWS::Serverless::") => (Part::Beside, "no part of a WebSocket API", ""),
        kind if kind.starts_with("AWS::CloudFormation::Stack") => {
            (Part::Api, "a template of its own", "import that template too")
        }
        _ => (Part::Beside, "no part of a WebSocket API", "functions that use it need it where they run now"),
    };
    let why = format!("{}: {why}", plain(&resource.kind));
    report.add(part, &resource.path(), resource.line, why, to_do);
}

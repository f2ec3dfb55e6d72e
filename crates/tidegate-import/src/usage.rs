//! API keys and usage plans: on AWS of the older control plane, in Tidegate of the configuration.

use serde::Serialize;

use crate::error::ImportError;
use crate::intrinsic::{Evaluator, unmark, without_marks};
use crate::node::Node;
use crate::report::{Part, Report};
use crate::template::Template;

/// What a usage plan permits, and to whom.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct UsagePlan {
    /// Its name, or the name of the resource.
    pub name: String,
    /// Stages: names of APIs and stages.
    pub stages: Vec<(String, String)>,
    /// Requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Requests in a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u32>,
    /// `DAY`, `WEEK` or `MONTH`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Names of the keys. Their values are never shown.
    pub keys: Vec<String>,
}

/// The plans of a template, with the keys in them.
///
/// # Errors
/// A property that cannot be evaluated.
pub(crate) fn plans(
    template: &Template,
    evaluator: &Evaluator<'_>,
    report: &mut Report,
) -> Result<Vec<UsagePlan>, ImportError> {
    let (mut plans, mut in_plans) = (Vec::new(), Vec::new());
    let there = |kind: &'static str| template.resources.iter().filter(move |resource| resource.kind == kind);
    for resource in there("AWS::ApiGateway::UsagePlanKey") {
        if evaluator.is_there(resource)? {
            let text = |name: &str| -> Result<String, ImportError> {
                let value = resource.properties.get(name).map(|node| evaluator.value(node)).transpose()?;
                Ok(without_marks(value.as_ref().and_then(Node::as_text).unwrap_or_default()))
            };
            in_plans.push((text("UsagePlanId")?, text("KeyId")?));
        }
    }
    for resource in there("AWS::ApiGateway::UsagePlan") {
        if !evaluator.is_there(resource)? {
            continue;
        }
        let value = evaluator.value(&resource.properties)?;
        let text = |path: &[&str]| value.text_at(path).map(|text| unmark(text, |_| None).text);
        let keys = in_plans.iter().filter(|(plan, _)| *plan == resource.id).map(|(_, key)| key.clone());
        let stages = value.get("ApiStages").and_then(Node::as_list).unwrap_or_default();
        let plan = UsagePlan {
            name: text(&["UsagePlanName"]).unwrap_or_else(|| resource.id.clone()),
            stages: stages
                .iter()
                .map(|stage| {
                    let text = |name: &str| without_marks(stage.text_at(&[name]).unwrap_or_default());
                    (text("ApiId"), text("Stage"))
                })
                .collect(),
            rate: text(&["Throttle", "RateLimit"])
                .and_then(|t| t.parse().ok())
                .filter(|rate: &f64| rate.is_finite()),
            burst: text(&["Throttle", "BurstLimit"]).and_then(|t| t.parse().ok()),
            quota: text(&["Quota", "Limit"]).and_then(|t| t.parse().ok()),
            period: text(&["Quota", "Period"]),
            keys: keys.collect(),
        };
        let why = "usage plans and their keys are no part of the document";
        let to_do = "write the plan and its keys into the configuration";
        report.add(Part::Configuration, &resource.path(), resource.line, why, to_do);
        plans.push(plan);
    }
    for resource in there("AWS::ApiGateway::ApiKey") {
        if evaluator.is_there(resource)? {
            let why = "API keys are no part of the document";
            let to_do = "write the key into the configuration";
            report.add(Part::Configuration, &resource.path(), resource.line, why, to_do);
        }
    }
    Ok(plans)
}

impl UsagePlan {
    /// One line for people.
    pub(crate) fn sentence(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.rate.map(|rate| format!("{rate} requests a second")));
        parts.extend(self.burst.map(|burst| format!("{burst} at once")));
        parts.extend(self.quota.map(|quota| {
            format!("{quota} a {}", self.period.as_deref().unwrap_or("period").to_ascii_lowercase())
        }));
        parts.extend(self.stages.iter().map(|(api, stage)| format!("for stage {stage} of {api}")));
        parts.extend(self.keys.iter().map(|key| format!("key {key}")));
        format!("usage plan {}: {}", self.name, parts.join(", "))
    }
}

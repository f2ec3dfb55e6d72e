//! One host name of the operator's own, from its definition to its certificate and its addresses.

use std::net::IpAddr;

use serde_json::json;
use tidegate_core::definition::{ApiMapping, DomainName, LiveApi};
use tidegate_core::diagnosis::Diagnosis;

use super::facts;
use crate::report::{Confidence, Finding, Severity};

/// What is known of a domain name.
#[derive(Debug, Clone, Copy)]
pub struct DomainView<'a> {
    /// As it was asked for.
    pub name: &'a str,
    /// All domain names with their mappings.
    pub domains: &'a [(DomainName, Vec<ApiMapping>)],
    /// All APIs.
    pub apis: &'a [std::sync::Arc<LiveApi>],
    /// Region of the installation.
    pub region: &'a str,
    /// Names of the configured certificate; none: there is no TLS here.
    pub certificate_names: Option<&'a [String]>,
}

/// What the definitions say of a domain name: known or not, mappings and where they lead, region, certificate.
pub fn check(view: &DomainView<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = view.name.trim_end_matches('.').to_ascii_lowercase();
    let covers = |pattern: &str| super::certificate::covers(pattern, &name);
    let found = view.domains.iter().find(|(domain, _)| covers(&domain.domain_name.to_ascii_lowercase()));
    let Some((domain, mappings)) = found else {
        let known: Vec<&str> = view.domains.iter().map(|(domain, _)| domain.domain_name.as_str()).collect();
        let nearest = tidegate_core::nearest::nearest(&name, known.iter().copied());
        let hint =
            nearest.map(|nearest| format!("; the nearest that exists is {nearest}")).unwrap_or_default();
        let finding = Finding::problem(Diagnosis::DOMAIN_UNKNOWN_HOST);
        return vec![finding.seen(
            format!("no domain name {name} is defined here{hint}"),
            facts([("host", name.as_str().into()), ("nearest", json!(nearest))]),
        )];
    };
    if mappings.is_empty() {
        let text = format!("{} has no mapping: every path is refused", domain.domain_name);
        findings.push(
            Finding::problem(Diagnosis::DOMAIN_NO_MAPPING)
                .seen(text, facts([("domain", domain.domain_name.as_str().into())])),
        );
    }
    for mapping in mappings {
        let api = view.apis.iter().find(|api| api.api.api_id == mapping.api_id);
        let stage =
            api.and_then(|api| api.stages.iter().find(|stage| stage.stage.stage_name == mapping.stage));
        let place = format!("{}/{}", domain.domain_name, mapping.api_mapping_key);
        let mapped = facts([
            ("mappingKey", mapping.api_mapping_key.as_str().into()),
            ("apiId", mapping.api_id.as_str().into()),
            ("stage", mapping.stage.as_str().into()),
        ]);
        match (api, stage) {
            (None, _) => {
                findings.push(Finding::problem(Diagnosis::DOMAIN_MAPPING_WRONG_STAGE).seen(
                    format!("{place} leads to the API {}, which does not exist", mapping.api_id),
                    mapped,
                ))
            }
            (Some(_), None) => findings.push(
                Finding::problem(Diagnosis::DOMAIN_MAPPING_WRONG_STAGE)
                    .seen(format!("{place} leads to stage {}, which does not exist", mapping.stage), mapped),
            ),
            (_, Some(stage)) if stage.deployment.is_none() => {
                findings.push(
                    Finding::problem(Diagnosis::STAGE_NOT_DEPLOYED)
                        .seen(format!("{place} leads to a stage without a deployment"), mapped),
                );
            }
            _ => {}
        }
    }
    if !mappings.is_empty() && mappings.iter().all(|mapping| !mapping.api_mapping_key.is_empty()) {
        let keys: Vec<&str> = mappings.iter().map(|mapping| mapping.api_mapping_key.as_str()).collect();
        let text = format!("clients must use one of the paths /{}; nothing else is mapped", keys.join(", /"));
        let finding = Finding::new(Diagnosis::DOMAIN_MAPPING_PATH, Severity::Info, Confidence::Possible);
        findings.push(finding.seen(text, facts([("mappingKeys", json!(keys))])));
    }
    findings.extend(region_finding(domain, view.region));
    if let Some(names) = view.certificate_names
        && !names.iter().any(|pattern| super::certificate::covers(pattern, &name))
    {
        let text = format!("the configured certificate is for {}, not for {name}", names.join(", "));
        findings.push(
            Finding::problem(Diagnosis::TLS_HOSTNAME_MISMATCH)
                .seen(text, facts([("certificateNames", json!(names)), ("host", name.as_str().into())])),
        );
    }
    findings
}

/// A domain name that was made for another region.
pub fn region_finding(domain: &DomainName, region: &str) -> Option<Finding> {
    // `arn:aws:apigateway:REGION::/domainnames/NAME`
    let of_domain = domain.domain_name_arn.split(':').nth(3).filter(|region| !region.is_empty())?;
    (of_domain != region).then(|| {
        let text =
            format!("{} was made for region {of_domain}; this installation is {region}", domain.domain_name);
        Finding::warning(Diagnosis::DOMAIN_WRONG_REGION)
            .seen(text, facts([("region", of_domain.into()), ("expected", region.into())]))
    })
}

/// What the addresses of a name say. `listeners` are addresses of this machine; `is_ours`: the probe of the installation
/// answered through the name, where somebody asked.
pub fn check_addresses(
    name: &str,
    resolved: &[IpAddr],
    listeners: &[IpAddr],
    is_ours: Option<bool>,
) -> Option<Finding> {
    let shown: Vec<String> = resolved.iter().map(IpAddr::to_string).collect();
    let found = facts([("host", name.into()), ("addresses", json!(shown))]);
    if resolved.is_empty() {
        return Some(
            Finding::problem(Diagnosis::DNS_NO_RECORD).seen(format!("{name} has no address"), found),
        );
    }
    if is_ours == Some(true) || resolved.iter().any(|address| listeners.contains(address)) {
        return None;
    }
    let text = format!(
        "{name} leads to {}, and no listener of this installation has that address",
        shown.join(", ")
    );
    // A proxy or balancer in front has other addresses and is right all the same.
    let (severity, confidence) = match is_ours {
        Some(false) => (Severity::Problem, Confidence::Proven),
        _ => (Severity::Info, Confidence::Possible),
    };
    Some(Finding::new(Diagnosis::DNS_WRONG_TARGET, severity, confidence).seen(text, found))
}

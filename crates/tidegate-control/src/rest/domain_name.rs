//! CreateDomainName, GetDomainName, GetDomainNames, UpdateDomainName, DeleteDomainName.
//!
//! Certificates come from the configuration: the ARNs given here are kept and shown, and mean nothing.

use serde_json::Value;
use tidegate_core::definition::{DomainName, DomainNameConfiguration};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;

use super::{Outcome, Reply, tag};
use crate::error::ApiError;
use crate::limits;
use crate::members::{Members, replace};
use crate::page::{Query, page};
use crate::plane::{Context, ControlPlane};
use crate::state::{DomainState, State};
use crate::table::Table;

/// Shown when none was given: clients keep it to make DNS records of their own.
pub(crate) const HOSTED_ZONE_ID: &str = "Z00000000TIDEGATE";

pub(super) fn list(plane: &ControlPlane, query: &Query) -> Outcome {
    Reply::ok(&page(&plane.state().domains, "domainnames", query, |d| d.domain.clone())?)
}

pub(super) fn get(plane: &ControlPlane, name: &str) -> Outcome {
    Reply::ok(&plane.state().domain(name)?.domain)
}

pub(super) async fn create(plane: &ControlPlane, body: &Members) -> Outcome {
    let domain = plane.write(|state, context| insert(state, body, context)).await?;
    Reply::created(&domain)
}

/// Adds the domain name that `body` describes.
pub(crate) fn insert(
    state: &mut State,
    body: &Members,
    context: &Context<'_>,
) -> Result<DomainName, ApiError> {
    let domain = build(body, context)?;
    if state.domains.iter().any(|d| d.domain.domain_name.eq_ignore_ascii_case(&domain.domain_name)) {
        let message = "The domain name resource already exists.";
        return Err(ApiError::exists(&domain.domain_name, None, message));
    }
    if state.domains.len() >= context.quotas().domain_names {
        return Err(ApiError::too_many("Maximum number of domain names has been reached"));
    }
    let sequence = state.sequence();
    let new = DomainState { domain: domain.clone(), mappings: Table::default() };
    state.domains.insert(&domain.domain_name, sequence, new);
    Ok(domain)
}

/// A domain name as `body` alone describes it.
pub(crate) fn build(body: &Members, context: &Context<'_>) -> Result<DomainName, ApiError> {
    let name = body.required_text("domainName", limits::DOMAIN_NAME)?;
    check_name(&name)?;
    let mut domain = DomainName {
        domain_name_arn: format!("arn:aws:apigateway:{}::/domainnames/{name}", context.settings.region),
        domain_name: name,
        api_mapping_selection_expression: "$request.basepath".to_owned(),
        domain_name_configurations: vec![configuration(&Members::default(), context)?],
        mutual_tls_authentication: None,
        routing_mode: "API_MAPPING_ONLY".to_owned(),
        tags: tag::given(body)?,
    };
    edit(&mut domain, body, context)?;
    Ok(domain)
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let host = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let Some(wrong) = host.split('.').find(|label| !is_label(label)) else { return Ok(()) };
    let rule = match wrong.len() {
        0 => "a label is empty",
        1..=63 => "a label has other characters than letters, digits, `-` and `_`",
        _ => "a label is longer than 63 characters",
    };
    let facts = Facts::none().with("domain", name.chars().take(128).collect::<String>()).with("rule", rule);
    Err(ApiError::bad_request(format!("Invalid domain name specified: {name}"))
        .because(Diagnosis::PROVISION_INVALID_DOMAIN, facts))
}

pub(super) async fn update(plane: &ControlPlane, name: &str, body: &Members) -> Outcome {
    let domain = plane
        .write(|state, context| {
            let domain = &mut state.domain_mut(name)?.domain;
            edit(domain, body, context)?;
            Ok(domain.clone())
        })
        .await?;
    Reply::ok(&domain)
}

fn edit(domain: &mut DomainName, body: &Members, context: &Context<'_>) -> Result<(), ApiError> {
    if let Some(given) = body.object_list("domainNameConfigurations")?.filter(|list| !list.is_empty()) {
        domain.domain_name_configurations =
            given.iter().map(|members| configuration(members, context)).collect::<Result<_, _>>()?;
    }
    if let Some(mutual_tls) = body.object("mutualTlsAuthentication")? {
        edit_mutual_tls(&mut domain.mutual_tls_authentication, &mutual_tls)?;
    }
    match body.text("routingMode", limits::NAME)?.as_deref() {
        None | Some("" | "API_MAPPING_ONLY") => Ok(()),
        Some(_) => Err(ApiError::bad_request("Routing rules are not supported")),
    }
}

/// Members that are not given stay; an empty address takes everything away.
fn edit_mutual_tls(stored: &mut Option<Value>, given: &Members) -> Result<(), ApiError> {
    let mut members = match stored.take() {
        Some(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    for (name, longest) in [("truststoreUri", limits::URI), ("truststoreVersion", limits::VERSION)] {
        match given.text(name, longest)? {
            None => {}
            Some(text) if text.is_empty() => drop(members.remove(name)),
            Some(text) => drop(members.insert(name.to_owned(), text.into())),
        }
    }
    *stored = members.contains_key("truststoreUri").then_some(Value::Object(members));
    Ok(())
}

fn configuration(body: &Members, context: &Context<'_>) -> Result<DomainNameConfiguration, ApiError> {
    let mut configuration = DomainNameConfiguration {
        api_gateway_domain_name: context.settings.public_hostname.clone(),
        domain_name_status: "AVAILABLE".to_owned(),
        endpoint_type: "REGIONAL".to_owned(),
        hosted_zone_id: Some(HOSTED_ZONE_ID.to_owned()),
        security_policy: "TLS_1_2".to_owned(),
        ..DomainNameConfiguration::default()
    };
    body.choice("endpointType", &["REGIONAL"])?;
    body.choice("securityPolicy", &["TLS_1_2"])?;
    let arn = body.text("certificateArn", limits::ARN)?;
    if arn.as_deref().is_some_and(|arn| !arn.is_empty() && !is_arn(arn)) {
        let facts = Facts::none().with("detail", "it does not begin with `arn:`, or has blanks in it");
        return Err(ApiError::bad_request("Invalid certificate ARN specified in the request")
            .because(Diagnosis::PROVISION_INVALID_CERTIFICATE, facts));
    }
    replace(&mut configuration.certificate_arn, arn);
    replace(&mut configuration.certificate_name, body.text("certificateName", limits::NAME)?);
    if configuration.certificate_arn.is_some() {
        configuration.certificate_upload_date = Some(context.timestamp());
    }
    if let Some(zone) = body.text("hostedZoneId", limits::NAME)?.filter(|zone| !zone.is_empty()) {
        configuration.hosted_zone_id = Some(zone);
    }
    replace(&mut configuration.ip_address_type, body.choice("ipAddressType", &["ipv4", "dualstack"])?);
    replace(
        &mut configuration.ownership_verification_certificate_arn,
        body.text("ownershipVerificationCertificateArn", limits::ARN)?,
    );
    Ok(configuration)
}

fn is_arn(text: &str) -> bool {
    text.starts_with("arn:") && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Removes the domain name and its mappings.
pub(super) async fn delete(plane: &ControlPlane, name: &str) -> Outcome {
    plane
        .write(|state, _| {
            state.domain(name)?;
            state.domains.remove(name);
            Ok(())
        })
        .await?;
    Reply::no_content()
}

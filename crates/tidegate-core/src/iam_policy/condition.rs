//! `Condition` of a statement: operators, each with keys, each with values.
//!
//! All clauses must hold. One holds when any of its values fits; negated operators (`StringNotEquals`) hold when none
//! does. A key without a value fits nothing, so negated operators hold for it, and `...IfExists` always does.
//!
//! Source: *IAM JSON policy elements: Condition operators* in the IAM user guide.

use std::net::IpAddr;

use serde_json::Value;

use super::{ConditionKeys, has_variable};
use crate::network::Network;
use crate::wildcard::is_match;

/// Most values that the conditions of a statement have. Source: our choice; see [`super::MAX_STATEMENTS`].
const MAX_VALUES: usize = 512;

/// One operator with one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clause {
    operator: Operator,
    /// In lower case.
    key: String,
    wanted: Vec<Wanted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operator {
    quantifier: Option<Quantifier>,
    test: Test,
    is_negated: bool,
    is_if_exists: bool,
}

/// What holds for keys with several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    All,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equals,
    EqualsIgnoreCase,
    Like,
    Arn,
    Number(Comparison),
    Date(Comparison),
    Bool,
    Address,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value of the policy, read as its operator wants it.
#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    Text(String),
    Number(f64),
    /// Milliseconds since 1970.
    Date(i64),
    Flag(bool),
    Network(Network),
}

/// The clauses of a `Condition`, or what is wrong with it.
pub(super) fn parse(condition: &Value) -> Result<Vec<Clause>, &'static str> {
    let operators = condition.as_object().ok_or("an object expected")?;
    let mut clauses = Vec::new();
    for (name, keys) in operators {
        let operator = Operator::parse(name).ok_or("unknown operator")?;
        for (key, values) in keys.as_object().ok_or("an object of keys expected")? {
            let values: Vec<&Value> = match values {
                Value::Array(list) => list.iter().collect(),
                value => vec![value],
            };
            if values.is_empty() || values.len() > MAX_VALUES {
                return Err("between 1 and 512 values expected");
            }
            let wanted = values.into_iter().map(|value| operator.test.read(value));
            let wanted = wanted.collect::<Result<_, _>>()?;
            clauses.push(Clause { operator, key: key.to_ascii_lowercase(), wanted });
        }
    }
    Ok(clauses)
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        let (quantifier, name) = match name.split_once(':') {
            Some(("ForAllValues", name)) => (Some(Quantifier::All), name),
            Some(("ForAnyValue", name)) => (Some(Quantifier::Any), name),
            Some(_) => return None,
            None => (None, name),
        };
        let (name, is_if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (test, is_negated) = match name {
            "StringEquals" => (Test::Equals, false),
            "StringNotEquals" => (Test::Equals, true),
            "StringEqualsIgnoreCase" => (Test::EqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => (Test::EqualsIgnoreCase, true),
            "StringLike" => (Test::Like, false),
            "StringNotLike" => (Test::Like, true),
            "ArnEquals" | "ArnLike" => (Test::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
            "NumericEquals" => (Test::Number(Comparison::Equal), false),
            "NumericNotEquals" => (Test::Number(Comparison::Equal), true),
            "NumericLessThan" => (Test::Number(Comparison::Less), false),
            "NumericLessThanEquals" => (Test::Number(Comparison::LessOrEqual), false),
            "NumericGreaterThan" => (Test::Number(Comparison::Greater), false),
            "NumericGreaterThanEquals" => (Test::Number(Comparison::GreaterOrEqual), false),
            "DateEquals" => (Test::Date(Comparison::Equal), false),
            "DateNotEquals" => (Test::Date(Comparison::Equal), true),
            "DateLessThan" => (Test::Date(Comparison::Less), false),
            "DateLessThanEquals" => (Test::Date(Comparison::LessOrEqual), false),
            "DateGreaterThan" => (Test::Date(Comparison::Greater), false),
            "DateGreaterThanEquals" => (Test::Date(Comparison::GreaterOrEqual), false),
            "Bool" => (Test::Bool, false),
            "IpAddress" => (Test::Address, false),
            "NotIpAddress" => (Test::Address, true),
            // The one that asks whether a key is there has no form that does not mind.
            "Null" if !is_if_exists && quantifier.is_none() => (Test::Null, false),
            _ => return None,
        };
        Some(Self { quantifier, test, is_negated, is_if_exists })
    }
}

impl Test {
    fn read(self, value: &Value) -> Result<Wanted, &'static str> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return Err("values must be texts, numbers or booleans"),
        };
        match self {
            Self::Equals | Self::EqualsIgnoreCase | Self::Like | Self::Arn => match has_variable(&text) {
                true => Err("policy variables are not supported"),
                false => Ok(Wanted::Text(text)),
            },
            Self::Number(_) => number(&text).map(Wanted::Number).ok_or("a number expected"),
            Self::Date(_) => date(&text).map(Wanted::Date).ok_or("a date expected"),
            Self::Bool | Self::Null => flag(&text).map(Wanted::Flag).ok_or("true or false expected"),
            Self::Address => text.parse().map(Wanted::Network).map_err(|_| "an address or network expected"),
        }
    }

    /// Whether a value of the request is one that the policy names. What cannot be read fits nothing.
    fn fits(self, wanted: &Wanted, found: &str) -> bool {
        match (self, wanted) {
            (Self::Equals, Wanted::Text(wanted)) => wanted == found,
            (Self::EqualsIgnoreCase, Wanted::Text(wanted)) => wanted.to_lowercase() == found.to_lowercase(),
            (Self::Like, Wanted::Text(wanted)) => is_match(wanted, found),
            (Self::Arn, Wanted::Text(wanted)) => is_arn_match(wanted, found),
            (Self::Number(comparison), Wanted::Number(wanted)) => {
                number(found).is_some_and(|found| comparison.holds(found.partial_cmp(wanted)))
            }
            (Self::Date(comparison), Wanted::Date(wanted)) => {
                date(found).is_some_and(|found| comparison.holds(Some(found.cmp(wanted))))
            }
            (Self::Bool, Wanted::Flag(wanted)) => flag(found) == Some(*wanted),
            (Self::Address, Wanted::Network(network)) => {
                found.parse::<IpAddr>().is_ok_and(|address| network.contains(address))
            }
            _ => false,
        }
    }
}

impl Comparison {
    /// `order` is that of the request's value to the policy's.
    fn holds(self, order: Option<std::cmp::Ordering>) -> bool {
        let Some(order) = order else { return false };
        match self {
            Self::Equal => order.is_eq(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Clause {
    pub(super) fn holds(&self, keys: &ConditionKeys) -> bool {
        let Operator { quantifier, test, is_negated, is_if_exists } = self.operator;
        let found = keys.of(&self.key);
        if test == Test::Null {
            // `true`: the key must be absent.
            return self.wanted.contains(&Wanted::Flag(found.is_empty()));
        }
        if found.is_empty() && is_if_exists {
            return true;
        }
        let fits = |found: &str| self.wanted.iter().any(|wanted| test.fits(wanted, found));
        match quantifier {
            Some(Quantifier::All) => found.iter().all(|found| fits(found) != is_negated),
            Some(Quantifier::Any) => found.iter().any(|found| fits(found) != is_negated),
            None => found.iter().any(|found| fits(found)) != is_negated,
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

fn flag(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// ISO 8601 (`2025-01-15T12:00:00Z`, or a day alone), or seconds since 1970.
fn date(text: &str) -> Option<i64> {
    if let Some(seconds) = number(text) {
        return Some((seconds * 1000.0) as i64);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let day = text.parse::<jiff::civil::Date>().ok()?;
    Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// Each of the six parts of an ARN is compared by itself, so that a star does not reach over a colon, except in the last.
fn is_arn_match(pattern: &str, arn: &str) -> bool {
    let (patterns, parts) = (pattern.splitn(6, ':'), arn.splitn(6, ':'));
    let (patterns, parts): (Vec<_>, Vec<_>) = (patterns.collect(), parts.collect());
    patterns.len() == parts.len() && patterns.iter().zip(parts).all(|(pattern, part)| is_match(pattern, part))
}

//! Filters: `[?(@.a == 'x' && @.b > 1)]`.

use std::cmp::Ordering;

use super::{Budget, Hits, JsonPath, TooComplex};
use crate::json::Json;
use crate::pattern::Pattern;

/// What a filter demands of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Any(Vec<Condition>),
    All(Vec<Condition>),
    Not(Box<Condition>),
    Exists(Operand),
    Compare(Operand, Comparison, Operand),
    /// The whole text fits a regular expression.
    Fits(Operand, Pattern),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// From `@`, or from `$` when it is absolute.
    Path(Box<JsonPath>),
    Literal(Json<'static>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Contains,
    Size,
    Empty,
}

impl Condition {
    pub(super) fn admits(
        &self,
        value: &Json<'_>,
        root: &Json<'_>,
        budget: &Budget,
    ) -> Result<bool, TooComplex> {
        budget.spend(1)?;
        Ok(match self {
            Condition::Any(any) => {
                for condition in any {
                    if condition.admits(value, root, budget)? {
                        return Ok(true);
                    }
                }
                false
            }
            Condition::All(all) => {
                for condition in all {
                    if !condition.admits(value, root, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            Condition::Not(condition) => !condition.admits(value, root, budget)?,
            Condition::Exists(operand) => {
                let mut exists = false;
                operand.with(value, root, budget, &mut |found| {
                    exists = found.is_some();
                    Ok(())
                })?;
                exists
            }
            Condition::Fits(operand, pattern) => {
                let mut fits = false;
                operand.with(value, root, budget, &mut |found| {
                    let text = match found {
                        Some(Json::Text(text)) => &**text,
                        Some(Json::Number(digits)) => &**digits,
                        _ => return Ok(()),
                    };
                    budget.spend(pattern.cost(text))?;
                    fits = pattern.fits(text);
                    Ok(())
                })?;
                fits
            }
            Condition::Compare(left, comparison, right) => {
                let mut holds = false;
                left.with(value, root, budget, &mut |left| {
                    right.with(value, root, budget, &mut |right| {
                        holds = comparison.holds(left, right, budget)?;
                        Ok(())
                    })
                })?;
                holds
            }
        })
    }
}

/// Gets the value, if there is one.
type Take<'t> = &'t mut dyn FnMut(Option<&Json<'_>>) -> Result<(), TooComplex>;

impl Operand {
    /// Calls `take` once.
    fn with(
        &self,
        value: &Json<'_>,
        root: &Json<'_>,
        budget: &Budget,
        take: Take<'_>,
    ) -> Result<(), TooComplex> {
        match self {
            Operand::Literal(literal) => take(Some(literal)),
            Operand::Path(path) => {
                let start = if path.is_absolute { root } else { value };
                match path.hits(start, root, budget)? {
                    Hits::Nothing => take(None),
                    Hits::One(found) => take(Some(found)),
                    Hits::List(list) if list.is_empty() => take(None),
                    Hits::List(list) => {
                        let mut items = Vec::with_capacity(list.len());
                        for item in list {
                            budget.spend_copy(item)?;
                            items.push(item.clone());
                        }
                        take(Some(&Json::Array(items)))
                    }
                    Hits::Made(made) => take(Some(&made)),
                }
            }
        }
    }
}

impl Comparison {
    fn holds(
        self,
        left: Option<&Json<'_>>,
        right: Option<&Json<'_>>,
        budget: &Budget,
    ) -> Result<bool, TooComplex> {
        let (Some(left), Some(right)) = (left, right) else {
            // What is absent equals nothing.
            return Ok(matches!(self, Comparison::NotEqual | Comparison::NotIn));
        };
        Ok(match self {
            Comparison::Equal => equal(left, right, budget)?,
            Comparison::NotEqual => !equal(left, right, budget)?,
            Comparison::Less => order(left, right).is_some_and(Ordering::is_lt),
            Comparison::LessOrEqual => order(left, right).is_some_and(Ordering::is_le),
            Comparison::Greater => order(left, right).is_some_and(Ordering::is_gt),
            Comparison::GreaterOrEqual => order(left, right).is_some_and(Ordering::is_ge),
            Comparison::In => is_in(left, right, budget)?,
            Comparison::NotIn => !is_in(left, right, budget)?,
            Comparison::Contains => match (left, right) {
                (Json::Text(text), Json::Text(part)) => {
                    budget.spend(text.len() as u64 / 64)?;
                    text.contains(&**part)
                }
                _ => is_in(right, left, budget)?,
            },
            Comparison::Size => {
                let length = match left {
                    Json::Array(items) => Some(items.len()),
                    Json::Text(text) => Some(text.encode_utf16().count()),
                    _ => None,
                };
                length.is_some_and(|length| right.as_f64() == Some(length as f64))
            }
            Comparison::Empty => {
                let is_empty = match left {
                    Json::Array(items) => Some(items.is_empty()),
                    Json::Object(members) => Some(members.is_empty()),
                    Json::Text(text) => Some(text.is_empty()),
                    _ => None,
                };
                is_empty.is_some_and(|is_empty| *right == Json::Bool(is_empty))
            }
        })
    }
}

fn is_in(item: &Json<'_>, list: &Json<'_>, budget: &Budget) -> Result<bool, TooComplex> {
    let Json::Array(items) = list else { return Ok(false) };
    for known in items {
        if equal(item, known, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A number also equals its text.
fn equal(left: &Json<'_>, right: &Json<'_>, budget: &Budget) -> Result<bool, TooComplex> {
    let mut steps = 0;
    let is_equal = match (left, right) {
        (Json::Number(digits), Json::Text(text)) | (Json::Text(text), Json::Number(digits)) => {
            text == digits || text.parse::<f64>().is_ok_and(|number| digits.parse() == Ok(number))
        }
        _ => left.same(right, &mut steps),
    };
    budget.spend(1 + steps)?;
    Ok(is_equal)
}

fn order(left: &Json<'_>, right: &Json<'_>) -> Option<Ordering> {
    match (left, right) {
        (Json::Text(left), Json::Text(right)) => Some(left.cmp(right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

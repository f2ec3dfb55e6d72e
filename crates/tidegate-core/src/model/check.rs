//! Checking a value.

use super::{Kind, MAX_DEPTH, MAX_STEPS, MAX_VIOLATIONS, Rest, Rule, Schema, SchemaId};
use crate::json::{Json, Member};

/// See [`super::Misfit::TooComplex`].
#[derive(Debug)]
pub(super) struct TooComplex;

/// Longest list of permitted values that is told, in bytes.
const MAX_TOLD: usize = 200;

pub(super) struct Check<'m> {
    schemas: &'m [Schema],
    steps_left: u64,
    depth: usize,
    /// Inside of `anyOf` and the like nothing is told.
    is_quiet: bool,
    pub(super) violations: Vec<String>,
}

impl<'m> Check<'m> {
    pub(super) fn new(schemas: &'m [Schema]) -> Self {
        Self { schemas, steps_left: MAX_STEPS, depth: 0, is_quiet: false, violations: Vec::new() }
    }

    fn spend(&mut self, steps: u64) -> Result<(), TooComplex> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(TooComplex)?;
        Ok(())
    }

    /// Whether what follows cannot change anything any more.
    fn is_over(&self) -> bool {
        self.is_quiet || self.violations.len() >= MAX_VIOLATIONS
    }

    pub(super) fn fits(&mut self, id: SchemaId, value: &Json<'_>) -> Result<bool, TooComplex> {
        self.spend(1)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TooComplex);
        }
        let schemas = self.schemas;
        let Schema { reference, rules } = &schemas[id];
        let mut fits = match reference {
            Some(id) => self.fits(*id, value)?,
            None => true,
        };
        for rule in rules {
            if !self.obeys(rule, value)? {
                fits = false;
                if self.is_over() {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(fits)
    }

    fn fits_quietly(&mut self, id: SchemaId, value: &Json<'_>) -> Result<bool, TooComplex> {
        let before = std::mem::replace(&mut self.is_quiet, true);
        let fits = self.fits(id, value);
        self.is_quiet = before;
        fits
    }

    /// Tells a violation, if it is one.
    fn told(&mut self, fits: bool, text: impl FnOnce() -> String) -> bool {
        if !fits && !self.is_over() {
            self.violations.push(text());
        }
        fits
    }

    fn obeys(&mut self, rule: &Rule, value: &Json<'_>) -> Result<bool, TooComplex> {
        self.spend(1)?;
        match rule {
            Rule::Types(kinds) => {
                let kind = Kind::of(value);
                let is_whole = kind == Kind::Integer;
                let fits = kinds.contains(&kind) || (is_whole && kinds.contains(&Kind::Number));
                Ok(self.told(fits, || {
                    let allowed: Vec<String> =
                        kinds.iter().map(|kind| format!("\"{}\"", kind.as_str())).collect();
                    let (kind, allowed) = (kind.as_str(), allowed.join(","));
                    format!(
                        "instance type ({kind}) does not match any allowed primitive type (allowed: [{allowed}])"
                    )
                }))
            }
            Rule::Enum(values) => {
                let mut steps = 0;
                let fits = values.iter().any(|known| known.same(value, &mut steps));
                self.spend(steps)?;
                Ok(self.told(fits, || {
                    let mut known = String::new();
                    let list = Json::Array(values.clone());
                    if !list.write_json(&mut known, MAX_TOLD) {
                        known = "[...]".to_owned();
                    }
                    format!("instance value not found in enum (possible values: {known})")
                }))
            }
            Rule::AllOf(ids) => {
                let mut fits = true;
                for id in ids {
                    fits &= self.fits(*id, value)?;
                    if !fits && self.is_over() {
                        break;
                    }
                }
                Ok(fits)
            }
            Rule::AnyOf(ids) => {
                for id in ids {
                    if self.fits_quietly(*id, value)? {
                        return Ok(true);
                    }
                }
                let n_schemas = ids.len();
                Ok(self.told(false, || {
                    format!("instance failed to match at least one required schema among {n_schemas}")
                }))
            }
            Rule::OneOf(ids) => {
                let mut n_fitting = 0;
                for id in ids {
                    n_fitting += usize::from(self.fits_quietly(*id, value)?);
                }
                Ok(self.told(n_fitting == 1, || {
                    format!(
                        "instance failed to match exactly one schema (matched {n_fitting} out of {})",
                        ids.len()
                    )
                }))
            }
            Rule::Not(id) => {
                let fits = !self.fits_quietly(*id, value)?;
                Ok(self.told(fits, || "instance matched a schema which it should not have".to_owned()))
            }
            _ => match value {
                Json::Number(_) => Ok(self.number(rule, value)),
                Json::Text(text) => self.text(rule, text),
                Json::Array(items) => self.array(rule, items),
                Json::Object(_) => self.object(rule, value),
                Json::Null | Json::Bool(_) => Ok(true),
            },
        }
    }

    fn number(&mut self, rule: &Rule, value: &Json<'_>) -> bool {
        let Some(number) = value.as_f64() else { return true };
        match rule {
            Rule::MultipleOf(factor) => {
                let quotient = number / factor;
                let tolerance = (quotient.abs() * f64::EPSILON * 4.0).max(1e-9);
                let fits = quotient.is_finite() && (quotient - quotient.round()).abs() <= tolerance;
                self.told(fits, || format!("numeric instance is not a multiple of {factor}"))
            }
            Rule::Minimum { limit, is_exclusive } => {
                let fits = if *is_exclusive { number > *limit } else { number >= *limit };
                self.told(fits, || {
                    format!("numeric instance is lower than the required minimum (minimum: {limit})")
                })
            }
            Rule::Maximum { limit, is_exclusive } => {
                let fits = if *is_exclusive { number < *limit } else { number <= *limit };
                self.told(fits, || {
                    format!("numeric instance is greater than the required maximum (maximum: {limit})")
                })
            }
            _ => true,
        }
    }

    fn text(&mut self, rule: &Rule, text: &str) -> Result<bool, TooComplex> {
        self.spend(text.len() as u64 / 64)?;
        Ok(match rule {
            Rule::MinLength(least) => {
                let length = text.chars().count();
                self.told(length >= *least, || {
                    format!("string is too short (length: {length}, required minimum: {least})")
                })
            }
            Rule::MaxLength(most) => {
                let length = text.chars().count();
                self.told(length <= *most, || {
                    format!("string is too long (length: {length}, maximum allowed: {most})")
                })
            }
            Rule::Pattern(pattern) => {
                self.spend(pattern.cost(text))?;
                let fits = pattern.is_found(text);
                self.told(fits, || {
                    format!("ECMA 262 regex \"{}\" does not match input string", pattern.as_str())
                })
            }
            _ => true,
        })
    }

    fn array(&mut self, rule: &Rule, items: &[Json<'_>]) -> Result<bool, TooComplex> {
        let length = items.len();
        Ok(match rule {
            Rule::MinItems(least) => self.told(length >= *least, || {
                format!("array is too short: must have at least {least} elements but instance has {length} elements")
            }),
            Rule::MaxItems(most) => self.told(length <= *most, || {
                format!("array is too long: must have at most {most} elements but instance has {length} elements")
            }),
            Rule::UniqueItems => {
                let mut is_unique = true;
                for (item_idx, item) in items.iter().enumerate() {
                    let mut steps = 0;
                    is_unique &= !items[..item_idx].iter().any(|before| before.same(item, &mut steps));
                    self.spend(steps)?;
                }
                self.told(is_unique, || "array must not contain duplicate elements".to_owned())
            }
            Rule::Items { first, rest } => {
                let mut fits = true;
                for (item_idx, item) in items.iter().enumerate() {
                    let id = match (first.get(item_idx), rest) {
                        (Some(id), _) | (None, Rest::Each(id)) => *id,
                        (None, Rest::Any) => break,
                        (None, Rest::None) => {
                            return Ok(self.told(false, || {
                                let most = first.len();
                                format!("array must have at most {most} elements but has {length}")
                            }));
                        }
                    };
                    fits &= self.fits(id, item)?;
                    if !fits && self.is_over() {
                        break;
                    }
                }
                fits
            }
            _ => true,
        })
    }

    fn object(&mut self, rule: &Rule, value: &Json<'_>) -> Result<bool, TooComplex> {
        let Json::Object(members) = value else { return Ok(true) };
        let n_members = members.len();
        let search = 1 + n_members as u64 / 16;
        Ok(match rule {
            Rule::MinProperties(least) => self.told(n_members >= *least, || {
                format!(
                    "object has too few properties (found {n_members} but schema requires at least {least})"
                )
            }),
            Rule::MaxProperties(most) => self.told(n_members <= *most, || {
                format!(
                    "object has too many properties (found {n_members} but schema requires at most {most})"
                )
            }),
            Rule::Required(names) => {
                self.spend(search * names.len() as u64)?;
                let missing: Vec<&str> =
                    names.iter().filter(|name| value.get(name).is_none()).map(|name| &**name).collect();
                self.told(missing.is_empty(), || {
                    format!("object has missing required properties ([\"{}\"])", missing.join("\",\""))
                })
            }
            Rule::Dependencies(dependencies) => {
                let mut fits = true;
                for (name, needed) in dependencies {
                    self.spend(search * (1 + needed.len() as u64))?;
                    let has_all = || needed.iter().all(|needed| value.get(needed).is_some());
                    let is_met = value.get(name).is_none() || has_all();
                    fits &= self.told(is_met, || {
                        format!("property \"{name}\" of object has missing property dependencies")
                    });
                }
                fits
            }
            Rule::SchemaDependencies(dependencies) => {
                let mut fits = true;
                for (name, id) in dependencies {
                    self.spend(search)?;
                    if value.get(name).is_some() {
                        fits &= self.fits(*id, value)?;
                    }
                }
                fits
            }
            Rule::Properties { named, patterns, rest } => self.members(members, named, patterns, *rest)?,
            _ => true,
        })
    }

    fn members(
        &mut self,
        members: &[Member<'_>],
        named: &[(Box<str>, SchemaId)],
        patterns: &[(crate::pattern::Pattern, SchemaId)],
        rest: Rest,
    ) -> Result<bool, TooComplex> {
        let mut fits = true;
        let mut n_forbidden = 0;
        for (name, member) in members {
            self.spend(1 + named.len() as u64 / 16)?;
            let mut is_known = false;
            if let Some((_, id)) = named.iter().find(|(known, _)| **known == **name) {
                is_known = true;
                fits &= self.fits(*id, member)?;
            }
            for (pattern, id) in patterns {
                self.spend(pattern.cost(name))?;
                if pattern.is_found(name) {
                    is_known = true;
                    fits &= self.fits(*id, member)?;
                }
            }
            match rest {
                Rest::Each(id) if !is_known => fits &= self.fits(id, member)?,
                Rest::None if !is_known => n_forbidden += 1,
                _ => {}
            }
            if !fits && self.is_over() {
                break;
            }
        }
        // Names that are not in the schema are the client's own: they are counted, not told.
        let are_allowed = self.told(n_forbidden == 0, || {
            format!("object instance has properties which are not allowed by the schema: {n_forbidden}")
        });
        Ok(fits && are_allowed)
    }
}

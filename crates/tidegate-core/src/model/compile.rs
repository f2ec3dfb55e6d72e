//! From a document to the rules of its schemas.
//!
//! Schemas wait in a list for their turn, so neither nesting nor chains of references lead deep.

use std::collections::HashMap;

use super::{Kind, ModelError, Rest, Rule, Schema, SchemaId};
use crate::json::{Json, Member};
use crate::pattern::Pattern;

/// The schema of the whole is the first.
pub(super) fn compile(root: &Json<'_>) -> Result<Vec<Schema>, ModelError> {
    let mut compiler = Compiler { root, ids: HashMap::new(), pending: Vec::new(), schemas: Vec::new() };
    compiler.id(root, "#".to_owned());
    while let Some((id, json, place)) = compiler.pending.pop() {
        compiler.schemas[id] = compiler.schema(json, &place)?;
    }
    Ok(compiler.schemas)
}

struct Compiler<'d> {
    root: &'d Json<'d>,
    /// By the address of the node in the document: a schema that several references name is compiled once.
    ids: HashMap<usize, SchemaId>,
    pending: Vec<(SchemaId, &'d Json<'d>, String)>,
    schemas: Vec<Schema>,
}

fn bad(place: &str, reason: impl Into<String>) -> ModelError {
    ModelError::Schema { place: place.to_owned(), reason: reason.into() }
}

fn number(json: &Json<'_>, place: &str) -> Result<f64, ModelError> {
    json.as_f64().ok_or_else(|| bad(place, "a number expected"))
}

fn count(json: &Json<'_>, place: &str) -> Result<usize, ModelError> {
    let count = match json {
        Json::Number(digits) => digits.strip_suffix(".0").unwrap_or(digits).parse().ok(),
        _ => None,
    };
    count.ok_or_else(|| bad(place, "a whole number from 0 on expected"))
}

fn flag(json: &Json<'_>, place: &str) -> Result<bool, ModelError> {
    match json {
        Json::Bool(value) => Ok(*value),
        _ => Err(bad(place, "true or false expected")),
    }
}

fn members<'d>(json: &'d Json<'d>, place: &str) -> Result<&'d [Member<'d>], ModelError> {
    match json {
        Json::Object(members) => Ok(members),
        _ => Err(bad(place, "an object expected")),
    }
}

fn items<'d>(json: &'d Json<'d>, place: &str) -> Result<&'d [Json<'d>], ModelError> {
    match json {
        Json::Array(items) if !items.is_empty() => Ok(items),
        _ => Err(bad(place, "an array with at least one item expected")),
    }
}

fn names(json: &Json<'_>, place: &str) -> Result<Vec<Box<str>>, ModelError> {
    let name = |item: &Json<'_>| item.as_str().map(Box::from).ok_or_else(|| bad(place, "names expected"));
    items(json, place)?.iter().map(name).collect()
}

fn pattern(text: &str, place: &str) -> Result<Pattern, ModelError> {
    Pattern::compile(text).map_err(|error| bad(place, error.to_string()))
}

/// A name as a pointer has it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

impl<'d> Compiler<'d> {
    /// The id of a schema, which is compiled when its turn comes.
    fn id(&mut self, json: &'d Json<'d>, place: String) -> SchemaId {
        let node = std::ptr::from_ref(json) as usize;
        if let Some(id) = self.ids.get(&node) {
            return *id;
        }
        let id = self.schemas.len();
        self.schemas.push(Schema::default());
        self.ids.insert(node, id);
        self.pending.push((id, json, place));
        id
    }

    fn all(&mut self, list: &'d Json<'d>, place: &str) -> Result<Vec<SchemaId>, ModelError> {
        let list = items(list, place)?.iter().enumerate();
        Ok(list.map(|(item_idx, item)| self.id(item, format!("{place}/{item_idx}"))).collect())
    }

    fn rest(&mut self, json: &'d Json<'d>, place: String) -> Rest {
        match json {
            Json::Bool(true) => Rest::Any,
            Json::Bool(false) => Rest::None,
            json => Rest::Each(self.id(json, place)),
        }
    }

    /// `#`, `#/definitions/x`.
    fn reference(&mut self, text: &str, place: &str) -> Result<SchemaId, ModelError> {
        let nowhere = || bad(place, format!("the reference {text} leads nowhere in the schema"));
        let pointer = text.strip_prefix('#').ok_or_else(|| {
            bad(place, format!("the reference {text} leads out of the schema; only `#/...` is available"))
        })?;
        let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8().map_err(|_| nowhere())?;
        let mut node = self.root;
        if !pointer.is_empty() {
            for name in pointer.strip_prefix('/').ok_or_else(nowhere)?.split('/') {
                let name = name.replace("~1", "/").replace("~0", "~");
                node = match node {
                    Json::Array(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
                    node => node.get(&name),
                }
                .ok_or_else(nowhere)?;
            }
        }
        Ok(self.id(node, format!("#{pointer}")))
    }

    fn schema(&mut self, json: &'d Json<'d>, place: &str) -> Result<Schema, ModelError> {
        let members_of = members(json, place)?;
        if let Some(Json::Text(reference)) = json.get("$ref") {
            let reference = Some(self.reference(reference, place)?);
            return Ok(Schema { reference, rules: Vec::new() });
        }
        let mut rules = Vec::new();
        for (keyword, value) in members_of {
            let place = format!("{place}/{}", escaped(keyword));
            if let Some(rule) = self.simple(keyword, value, json, &place)? {
                rules.push(rule);
            } else if let Some(rule) = self.compound(keyword, value, &place)? {
                rules.push(rule);
            }
        }
        rules.extend(self.of_members(json, place)?);
        rules.extend(self.of_items(json, place)?);
        Ok(Schema { reference: None, rules })
    }

    /// Rules that have no schemas in them.
    fn simple(
        &self,
        keyword: &str,
        value: &Json<'_>,
        schema: &Json<'_>,
        place: &str,
    ) -> Result<Option<Rule>, ModelError> {
        let is_exclusive = |name: &str| schema.get(name).map_or(Ok(false), |value| flag(value, place));
        Ok(Some(match keyword {
            "type" => {
                let kind = |json: &Json<'_>| {
                    json.as_str()
                        .and_then(Kind::parse)
                        .ok_or_else(|| bad(place, "the name of a type expected"))
                };
                Rule::Types(match value {
                    Json::Array(_) => items(value, place)?.iter().map(kind).collect::<Result<_, _>>()?,
                    value => vec![kind(value)?],
                })
            }
            "enum" => Rule::Enum(items(value, place)?.iter().cloned().map(Json::into_owned).collect()),
            "multipleOf" => match number(value, place)? {
                factor if factor > 0.0 => Rule::MultipleOf(factor),
                _ => return Err(bad(place, "a number above 0 expected")),
            },
            "minimum" => Rule::Minimum {
                limit: number(value, place)?,
                is_exclusive: is_exclusive("exclusiveMinimum")?,
            },
            "maximum" => Rule::Maximum {
                limit: number(value, place)?,
                is_exclusive: is_exclusive("exclusiveMaximum")?,
            },
            "exclusiveMinimum" | "exclusiveMaximum" => {
                flag(value, place)?;
                return Ok(None);
            }
            "minLength" => Rule::MinLength(count(value, place)?),
            "maxLength" => Rule::MaxLength(count(value, place)?),
            "pattern" => {
                let text = value.as_str().ok_or_else(|| bad(place, "a text expected"))?;
                Rule::Pattern(pattern(text, place)?)
            }
            "minItems" => Rule::MinItems(count(value, place)?),
            "maxItems" => Rule::MaxItems(count(value, place)?),
            "uniqueItems" => match flag(value, place)? {
                true => Rule::UniqueItems,
                false => return Ok(None),
            },
            "minProperties" => Rule::MinProperties(count(value, place)?),
            "maxProperties" => Rule::MaxProperties(count(value, place)?),
            "required" => Rule::Required(names(value, place)?),
            _ => return Ok(None),
        }))
    }

    /// Rules that join schemas.
    fn compound(
        &mut self,
        keyword: &str,
        value: &'d Json<'d>,
        place: &str,
    ) -> Result<Option<Rule>, ModelError> {
        Ok(Some(match keyword {
            "allOf" => Rule::AllOf(self.all(value, place)?),
            "anyOf" => Rule::AnyOf(self.all(value, place)?),
            "oneOf" => Rule::OneOf(self.all(value, place)?),
            "not" => Rule::Not(self.id(value, place.to_owned())),
            "definitions" => {
                for (name, schema) in members(value, place)? {
                    self.id(schema, format!("{place}/{}", escaped(name)));
                }
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }

    fn of_members(&mut self, schema: &'d Json<'d>, place: &str) -> Result<Vec<Rule>, ModelError> {
        let mut rules = Vec::new();
        let mut named = Vec::new();
        let mut patterns = Vec::new();
        if let Some(json) = schema.get("properties") {
            for (name, json) in members(json, &format!("{place}/properties"))? {
                let id = self.id(json, format!("{place}/properties/{}", escaped(name)));
                named.push((name.as_ref().into(), id));
            }
        }
        if let Some(json) = schema.get("patternProperties") {
            let place = format!("{place}/patternProperties");
            for (name, json) in members(json, &place)? {
                let id = self.id(json, format!("{place}/{}", escaped(name)));
                patterns.push((pattern(name, &place)?, id));
            }
        }
        let rest = schema.get("additionalProperties");
        let rest = rest.map_or(Rest::Any, |json| self.rest(json, format!("{place}/additionalProperties")));
        if !named.is_empty() || !patterns.is_empty() || rest != Rest::Any {
            rules.push(Rule::Properties { named, patterns, rest });
        }
        if let Some(json) = schema.get("dependencies") {
            let place = format!("{place}/dependencies");
            let mut of_names = Vec::new();
            let mut of_schemas = Vec::new();
            for (name, json) in members(json, &place)? {
                match json {
                    Json::Array(_) => of_names.push((name.as_ref().into(), names(json, &place)?)),
                    json => {
                        of_schemas.push((
                            name.as_ref().into(),
                            self.id(json, format!("{place}/{}", escaped(name))),
                        ));
                    }
                }
            }
            rules.push(Rule::Dependencies(of_names));
            rules.push(Rule::SchemaDependencies(of_schemas));
        }
        Ok(rules)
    }

    fn of_items(&mut self, schema: &'d Json<'d>, place: &str) -> Result<Option<Rule>, ModelError> {
        let rest = schema.get("additionalItems");
        let rest = rest.map_or(Rest::Any, |json| self.rest(json, format!("{place}/additionalItems")));
        Ok(match schema.get("items") {
            None => None,
            Some(list @ Json::Array(_)) => {
                Some(Rule::Items { first: self.all(list, &format!("{place}/items"))?, rest })
            }
            Some(json) => {
                let each = Rest::Each(self.id(json, format!("{place}/items")));
                Some(Rule::Items { first: Vec::new(), rest: each })
            }
        })
    }
}

//! Models: what a message must look like, as JSON Schema draft-04.
//!
//! A schema is compiled at deployment and references lead only within it. `format` says nothing, as the draft
//! permits. Checking a message is bounded in steps and depth, whatever the schema and the message say.

use std::collections::HashMap;

use crate::definition::{self, ApiDefinition};
use crate::json::{Json, JsonError};
use crate::pattern::Pattern;
use crate::select::Expression;

use self::check::Check;

mod check;
mod compile;
#[cfg(test)]
mod tests;

/// Longest schema, in bytes. Source: the API model.
pub const MAX_SCHEMA_BYTES: usize = 32_768;

/// What one check may do: schemas, members and items that are looked at.
pub const MAX_STEPS: u64 = 500_000;

/// How deep references and members may lead in one check.
pub const MAX_DEPTH: usize = 256;

/// Violations that are told; the check ends with the last.
pub const MAX_VIOLATIONS: usize = 10;

/// A compiled schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    schemas: Vec<Schema>,
}

/// The text is no schema that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Over [`MAX_SCHEMA_BYTES`].
    #[error("the schema is longer than {MAX_SCHEMA_BYTES} bytes")]
    TooLong,
    /// Not JSON.
    #[error("the schema is {0}")]
    Json(JsonError),
    /// Not JSON Schema draft-04.
    #[error("at {place}: {reason}")]
    Schema {
        /// JSON pointer; `#` is the whole.
        place: String,
        /// What was expected.
        reason: String,
    },
}

/// Why a message does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The message is not JSON, or nested too deep.
    #[error("the message is {0}")]
    Json(JsonError),
    /// Rules that failed, as text; of the message only lengths and kinds are in it.
    #[error("[{}]", .0.join(", "))]
    Violations(Vec<String>),
    /// Over [`MAX_STEPS`] or [`MAX_DEPTH`].
    #[error("the schema needs more than {MAX_STEPS} steps, or leads deeper than {MAX_DEPTH}")]
    TooComplex,
}

/// Whether a text is a schema that can be used. The control plane asks for each model before a deployment.
///
/// # Errors
/// [`ModelError`], whose text may be shown to whoever wrote the schema.
pub fn check(schema: &str) -> Result<(), ModelError> {
    Model::compile(schema).map(drop)
}

impl Model {
    /// Compiles a schema.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn compile(schema: &str) -> Result<Self, ModelError> {
        if schema.len() > MAX_SCHEMA_BYTES {
            return Err(ModelError::TooLong);
        }
        let root = Json::parse(schema).map_err(ModelError::Json)?;
        compile::compile(&root).map(|schemas| Self { schemas })
    }

    /// Checks a message.
    ///
    /// # Errors
    /// [`Misfit`].
    pub fn validate(&self, message: &str) -> Result<(), Misfit> {
        let message = Json::parse(message).map_err(Misfit::Json)?;
        let mut check = Check::new(&self.schemas);
        let fits = check.fits(0, &message).map_err(|check::TooComplex| Misfit::TooComplex)?;
        if fits { Ok(()) } else { Err(Misfit::Violations(check.violations)) }
    }
}

/// The models of a route, and what chooses among them.
#[derive(Debug)]
pub struct RouteModels {
    selection: Expression,
    /// By key; in place of a model that cannot be used, why.
    by_key: HashMap<String, Result<Model, String>>,
}

/// Why a message does not get to the integration of its route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The expression gives no key that the route has, and there is no `$default`.
    #[error("no model is chosen")]
    NoModel,
    /// The model itself cannot be used.
    #[error("{0}")]
    Broken(String),
    /// The message does not fit.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

impl RouteModels {
    /// Those of a route; nothing when its messages are not checked. Never fails: what is wrong with a model is told when
    /// it is needed.
    pub fn of(route: &definition::Route, definition: &ApiDefinition) -> Option<Self> {
        let expression = route.model_selection_expression.as_deref().filter(|text| !text.is_empty())?;
        let compile = |name: &String| {
            let known = definition.models.iter().find(|model| model.name == *name);
            let model = known.ok_or_else(|| format!("there is no model {name}"))?;
            Model::compile(&model.schema).map_err(|error| format!("the model {name} is none: {error}"))
        };
        let named = route.request_models.iter().flatten();
        Some(Self {
            // The control plane has checked it.
            selection: Expression::parse(expression).unwrap_or_else(|_| Expression::empty()),
            by_key: named.map(|(key, name)| (key.clone(), compile(name))).collect(),
        })
    }

    /// Checks a message.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn check(&self, message: &str) -> Result<(), Unfit> {
        let key = self.selection.select(message).value;
        match self.by_key.get(&key).or_else(|| self.by_key.get("$default")) {
            None => Err(Unfit::NoModel),
            Some(Err(reason)) => Err(Unfit::Broken(reason.clone())),
            Some(Ok(model)) => Ok(model.validate(message)?),
        }
    }
}

/// Place in [`Model::schemas`].
type SchemaId = usize;

/// The rules of one schema.
#[derive(Debug, Clone, PartialEq, Default)]
struct Schema {
    reference: Option<SchemaId>,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Types(Vec<Kind>),
    Enum(Vec<Json<'static>>),
    MultipleOf(f64),
    Minimum {
        limit: f64,
        is_exclusive: bool,
    },
    Maximum {
        limit: f64,
        is_exclusive: bool,
    },
    MinLength(usize),
    MaxLength(usize),
    Pattern(Pattern),
    Items {
        first: Vec<SchemaId>,
        rest: Rest,
    },
    MinItems(usize),
    MaxItems(usize),
    UniqueItems,
    Properties {
        named: Vec<(Box<str>, SchemaId)>,
        patterns: Vec<(Pattern, SchemaId)>,
        rest: Rest,
    },
    MinProperties(usize),
    MaxProperties(usize),
    Required(Vec<Box<str>>),
    /// Where the first is, the others must be.
    Dependencies(Vec<(Box<str>, Vec<Box<str>>)>),
    SchemaDependencies(Vec<(Box<str>, SchemaId)>),
    AllOf(Vec<SchemaId>),
    AnyOf(Vec<SchemaId>),
    OneOf(Vec<SchemaId>),
    Not(SchemaId),
}

/// Of items or members that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Any,
    None,
    Each(SchemaId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    const ALL: [(&'static str, Kind); 7] = [
        ("null", Kind::Null),
        ("boolean", Kind::Boolean),
        ("integer", Kind::Integer),
        ("number", Kind::Number),
        ("string", Kind::String),
        ("array", Kind::Array),
        ("object", Kind::Object),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// A number is an integer when it is written as one.
    fn of(value: &Json<'_>) -> Self {
        match value {
            Json::Null => Kind::Null,
            Json::Bool(_) => Kind::Boolean,
            Json::Number(digits) if digits.contains(['.', 'e', 'E']) => Kind::Number,
            Json::Number(_) => Kind::Integer,
            Json::Text(_) => Kind::String,
            Json::Array(_) => Kind::Array,
            Json::Object(_) => Kind::Object,
        }
    }
}

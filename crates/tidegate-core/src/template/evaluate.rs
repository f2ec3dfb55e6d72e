//! Running the nodes of a template.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::node::{Access, Expr, Literal, Macro, Node, Operator, Reference, Target};
use super::value::{Heap, Members, Value};
use super::{MAX_DEPTH, MAX_ITERATIONS, MAX_OUTPUT_BYTES, RenderError, Scope, Template};
use crate::json::Json;
use crate::json_path::JsonPath;
use crate::pattern::Pattern;

/// Longest range, in items.
const MAX_RANGE: i64 = 100_000;

/// Runs a template.
pub(super) fn render(template: &Template, scope: &Scope<'_>) -> Result<String, RenderError> {
    let mut machine = Machine {
        scope,
        macros: &template.macros,
        known_paths: &template.paths,
        heap: Heap::new(),
        out: String::with_capacity(scope.body.len() + 256),
        depth: 0,
        variables: HashMap::new(),
        loops: Vec::new(),
        document: None,
        paths: HashMap::new(),
        patterns: HashMap::new(),
        parameters: None,
    };
    machine.run(&template.nodes)?;
    Ok(machine.out)
}

/// What follows a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Stop,
}

/// A `#foreach` that runs.
#[derive(Debug)]
struct Loop {
    index: usize,
    n_items: usize,
    is_stopped: bool,
}

/// A run.
pub(super) struct Machine<'a> {
    pub(super) scope: &'a Scope<'a>,
    macros: &'a [Macro],
    pub(super) known_paths: &'a HashMap<Arc<str>, Arc<JsonPath>>,
    pub(super) heap: Heap,
    out: String,
    depth: usize,
    variables: HashMap<Arc<str>, Value>,
    loops: Vec<Loop>,
    /// The body as a tree, once it was asked for.
    pub(super) document: Option<Rc<Json<'a>>>,
    /// Paths and patterns that were met; at most [`Self::MAX_KEPT`] of each.
    pub(super) paths: HashMap<Arc<str>, Arc<JsonPath>>,
    pub(super) patterns: HashMap<Arc<str>, Rc<Pattern>>,
    /// `$input.params()`.
    pub(super) parameters: Option<Value>,
}

impl Machine<'_> {
    pub(super) const MAX_KEPT: usize = 64;

    fn print(&mut self, text: &str) -> Result<(), RenderError> {
        if self.out.len() + text.len() > MAX_OUTPUT_BYTES {
            return Err(RenderError::TooLong);
        }
        self.heap.spend_bytes(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn print_value(&mut self, value: &Value) -> Result<(), RenderError> {
        if let Value::Text(text) = value {
            return self.print(&Arc::clone(text));
        }
        let mut out = std::mem::take(&mut self.out);
        let result = self.heap.write(value, &mut out);
        self.out = out;
        result
    }

    fn print_reference(&mut self, reference: &Reference) -> Result<(), RenderError> {
        if self.print_at_once(reference)? {
            return Ok(());
        }
        match self.resolve(reference)? {
            Value::Null if reference.is_quiet => Ok(()),
            Value::Null => self.print(&reference.source),
            value => self.print_value(&value),
        }
    }

    /// What most references are, `$context.name` and `$input.json('$.path')`, without a value in between; false for
    /// others.
    fn print_at_once(&mut self, reference: &Reference) -> Result<bool, RenderError> {
        let [step] = reference.steps.as_slice() else { return Ok(false) };
        if self.variables.contains_key(&reference.root) {
            return Ok(false);
        }
        match (&*reference.root, step) {
            ("context", Access::Property(name)) => {
                let Some(text) = self.scope.event.variable(name) else { return Ok(false) };
                self.heap.spend(1)?;
                self.print(&text)?;
            }
            ("input", Access::Method(name, arguments)) if &**name == "json" => {
                let [Expr::Literal(Literal::Text(path))] = arguments.as_slice() else { return Ok(false) };
                self.heap.spend(2)?;
                let mut out = std::mem::take(&mut self.out);
                let before = out.len();
                let result = self.write_json(path, &mut out);
                self.heap.spend_bytes(out.len() - before)?;
                self.out = out;
                result?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, RenderError>,
    ) -> Result<T, RenderError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(RenderError::TooDeep);
        }
        let result = inner(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn run(&mut self, nodes: &[Node]) -> Result<Flow, RenderError> {
        self.nested(|machine| {
            for node in nodes {
                match machine.node(node)? {
                    Flow::Next => {}
                    other => return Ok(other),
                }
            }
            Ok(Flow::Next)
        })
    }

    fn node(&mut self, node: &Node) -> Result<Flow, RenderError> {
        self.heap.spend(1)?;
        match node {
            Node::Text(text) => self.print(text)?,
            Node::Print(reference) => self.print_reference(reference)?,
            Node::Escaped { n_slashes, reference } => {
                let value = self.resolve(reference)?;
                let is_defined = value != Value::Null;
                let shown = if is_defined { n_slashes / 2 } else { *n_slashes };
                self.print(&"\\".repeat(shown))?;
                match is_defined && n_slashes % 2 == 0 {
                    true => self.print_value(&value)?,
                    false => self.print(&reference.source)?,
                }
            }
            Node::Set { target, value } => {
                let value = self.evaluate(value)?;
                // Nothing is no value: the old one stays.
                if value != Value::Null {
                    self.set(target, value)?;
                }
            }
            Node::If { branches, otherwise } => {
                for (test, nodes) in branches {
                    if self.evaluate(test)?.is_true() {
                        return self.run(nodes);
                    }
                }
                return self.run(otherwise);
            }
            Node::Foreach { variable, list, body } => return self.foreach(variable, list, body),
            Node::Call { name, arguments } => return self.call(name, arguments),
            Node::Break => return Ok(Flow::Break),
            Node::Stop => return Ok(Flow::Stop),
        }
        Ok(Flow::Next)
    }

    fn set(&mut self, target: &Target, value: Value) -> Result<(), RenderError> {
        match target {
            Target::Variable(name) => {
                if !self.variables.contains_key(name) {
                    self.heap.allocate(64)?;
                }
                self.variables.insert(Arc::clone(name), value);
            }
            Target::Property(owner, name) => {
                if let Value::Map(id) = self.resolve(owner)? {
                    self.heap.put(id, Arc::clone(name), value)?;
                }
            }
            Target::Index(owner, index) => {
                let owner = self.resolve(owner)?;
                let index = self.evaluate(index)?;
                match (owner, index) {
                    (Value::List(id), Value::Int(index)) => {
                        let place = place(index, self.heap.list(id).len());
                        if let (Some(place), items) = (place, self.heap.list_mut(id)?) {
                            items[place] = value;
                        }
                    }
                    (Value::Map(id), key) => {
                        let key = self.heap.text_of(&key)?;
                        self.heap.put(id, key, value)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What a `#foreach` goes through: of a map the values.
    fn items(&mut self, list: &Value) -> Result<Vec<Value>, RenderError> {
        let items = match list {
            Value::List(id) => self.heap.list(*id).to_vec(),
            Value::Map(id) => self
                .heap
                .map(*id)
                .map(|members| members.entries.iter().map(|(_, value)| value.clone()).collect())
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        self.heap.spend(items.len() as u64 / 8)?;
        self.heap.allocate(items.len() * 32)?;
        Ok(items)
    }

    fn foreach(&mut self, variable: &Arc<str>, list: &Expr, body: &[Node]) -> Result<Flow, RenderError> {
        let list = self.evaluate(list)?;
        let items = self.items(&list)?;
        let before = self.variables.get(variable).cloned();
        let mut flow = Flow::Next;
        self.loops.push(Loop { index: 0, n_items: items.len(), is_stopped: false });
        for (index, item) in items.into_iter().take(MAX_ITERATIONS).enumerate() {
            self.heap.spend(1)?;
            match item {
                Value::Null => drop(self.variables.remove(variable)),
                item => drop(self.variables.insert(Arc::clone(variable), item)),
            }
            if let Some(running) = self.loops.last_mut() {
                running.index = index;
            }
            flow = self.run(body)?;
            if flow != Flow::Next || self.loops.last().is_some_and(|running| running.is_stopped) {
                break;
            }
        }
        self.loops.pop();
        self.restore(variable, before);
        Ok(if flow == Flow::Break { Flow::Next } else { flow })
    }

    fn restore(&mut self, variable: &Arc<str>, before: Option<Value>) {
        match before {
            Some(value) => drop(self.variables.insert(Arc::clone(variable), value)),
            None => drop(self.variables.remove(variable)),
        }
    }

    fn call(&mut self, name: &str, arguments: &[Expr]) -> Result<Flow, RenderError> {
        // The first definition of a name counts.
        let macros = self.macros;
        let Some(called) = macros.iter().find(|known| *known.name == *name) else { return Ok(Flow::Next) };
        let mut before = Vec::with_capacity(called.parameters.len());
        let values =
            arguments.iter().map(|argument| self.evaluate(argument)).collect::<Result<Vec<_>, _>>()?;
        let mut values = values.into_iter();
        for parameter in &called.parameters {
            before.push(self.variables.remove(parameter));
            match values.next() {
                None | Some(Value::Null) => {}
                Some(value) => drop(self.variables.insert(Arc::clone(parameter), value)),
            }
        }
        let flow = self.run(&called.body)?;
        for (parameter, before) in called.parameters.iter().zip(before) {
            self.restore(parameter, before);
        }
        Ok(if flow == Flow::Break { Flow::Next } else { flow })
    }

    fn root(&mut self, name: &str) -> Result<Value, RenderError> {
        if let Some(value) = self.variables.get(name) {
            return Ok(value.clone());
        }
        Ok(match name {
            "input" => Value::Input,
            "util" => Value::Util,
            "context" => Value::Context(""),
            "stageVariables" => {
                let mut entries = Vec::with_capacity(self.scope.stage_variables.len());
                for (name, value) in self.scope.stage_variables {
                    entries.push((Arc::from(name.as_str()), self.heap.text(value.as_str())?));
                }
                let map = self.heap.new_map(Members { entries, ignores_case: false })?;
                self.variables.insert(name.into(), map.clone());
                map
            }
            "foreach" if !self.loops.is_empty() => Value::Foreach(self.loops.len() - 1),
            "velocityCount" => {
                self.loops.last().map_or(Value::Null, |running| Value::Int(running.index as i64 + 1))
            }
            _ => Value::Null,
        })
    }

    fn resolve(&mut self, reference: &Reference) -> Result<Value, RenderError> {
        let mut value = self.root(&reference.root)?;
        for step in &reference.steps {
            self.heap.spend(1)?;
            if value == Value::Null {
                break;
            }
            value = match step {
                Access::Property(name) => self.property(&value, name)?,
                Access::Index(index) => {
                    let index = self.evaluate(index)?;
                    self.index(&value, &index)?
                }
                Access::Method(name, arguments) => {
                    let arguments = arguments
                        .iter()
                        .map(|argument| self.evaluate(argument))
                        .collect::<Result<Vec<_>, _>>()?;
                    self.method(&value, name, &arguments)?.unwrap_or(Value::Null)
                }
            };
        }
        Ok(value)
    }

    fn property(&mut self, owner: &Value, name: &str) -> Result<Value, RenderError> {
        Ok(match owner {
            Value::Map(id) => match self.heap.get(*id, name)? {
                Some(value) => value,
                None if name == "empty" => {
                    Value::Bool(self.heap.map(*id).is_some_and(|members| members.entries.is_empty()))
                }
                None => Value::Null,
            },
            Value::Entry(id) => match (name, self.heap.entry(*id)) {
                ("key", Some((key, _))) => key.clone(),
                ("value", Some((_, value))) => value.clone(),
                _ => Value::Null,
            },
            Value::List(id) if name == "empty" => Value::Bool(self.heap.list(*id).is_empty()),
            Value::Text(text) if name == "empty" => Value::Bool(text.is_empty()),
            Value::Input if name == "body" => {
                let body = self.scope.body;
                self.heap.text(body)?
            }
            Value::Context(section) => self.context(section, name)?,
            Value::Foreach(level) => self.of_loop(*level, name),
            Value::Absent => Value::Absent,
            _ => Value::Null,
        })
    }

    fn of_loop(&mut self, level: usize, name: &str) -> Value {
        let Some(running) = self.loops.get_mut(level) else { return Value::Null };
        match name {
            "index" => Value::Int(running.index as i64),
            "count" => Value::Int(running.index as i64 + 1),
            "hasNext" => Value::Bool(running.index + 1 < running.n_items),
            "first" => Value::Bool(running.index == 0),
            "last" => Value::Bool(running.index + 1 >= running.n_items),
            "topmost" => Value::Foreach(0),
            "parent" if level > 0 => Value::Foreach(level - 1),
            "stop" => {
                running.is_stopped = true;
                Value::Absent
            }
            _ => Value::Null,
        }
    }

    fn index(&mut self, owner: &Value, index: &Value) -> Result<Value, RenderError> {
        Ok(match (owner, index) {
            (Value::List(id), Value::Int(index)) => {
                let items = self.heap.list(*id);
                place(*index, items.len()).map_or(Value::Null, |place| items[place].clone())
            }
            (Value::List(_), _) => Value::Null,
            (owner, key) => {
                let key = self.heap.text_of(key)?;
                self.property(owner, &key)?
            }
        })
    }

    /// Nothing: there is no such method.
    fn method(
        &mut self,
        owner: &Value,
        name: &str,
        arguments: &[Value],
    ) -> Result<Option<Value>, RenderError> {
        self.heap.spend(1 + arguments.len() as u64)?;
        match (owner, name, arguments) {
            (_, "toString", []) => {
                let text = self.heap.text_of(owner)?;
                return self.heap.text(text).map(Some);
            }
            (_, "equals", [other]) => return self.heap.equal(owner, other).map(Value::Bool).map(Some),
            _ => {}
        }
        match owner {
            Value::Text(text) => self.text_method(text, name, arguments),
            Value::Absent => self.text_method("", name, arguments),
            Value::List(id) => self.list_method(*id, name, arguments),
            Value::Map(id) => self.map_method(*id, name, arguments),
            Value::Entry(_) => match name {
                "getKey" => self.property(owner, "key").map(Some),
                "getValue" => self.property(owner, "value").map(Some),
                _ => Ok(None),
            },
            Value::Input => self.input_method(name, arguments),
            Value::Util => self.util_method(name, arguments),
            Value::Context(section) => match (name, arguments) {
                ("get", [key]) => {
                    let key = self.heap.text_of(key)?;
                    self.context(section, &key).map(Some)
                }
                _ => Ok(None),
            },
            Value::Foreach(level) => match name {
                "stop" => Ok(Some(self.of_loop(*level, "stop"))),
                "hasNext" => Ok(Some(self.of_loop(*level, "hasNext"))),
                _ => Ok(None),
            },
            Value::Int(_) | Value::Float(_) | Value::Digits(_) => self.number_method(owner, name, arguments),
            Value::Null | Value::Bool(_) => Ok(None),
        }
    }

    fn evaluate(&mut self, expr: &Expr) -> Result<Value, RenderError> {
        self.heap.spend(1)?;
        match expr {
            Expr::Literal(literal) => Ok(match literal {
                Literal::Null => Value::Null,
                Literal::Bool(value) => Value::Bool(*value),
                Literal::Int(number) => Value::Int(*number),
                Literal::Float(number) => Value::Float(*number),
                Literal::Text(text) => Value::Text(Arc::clone(text)),
            }),
            Expr::Reference(reference) => self.nested(|machine| machine.resolve(reference)),
            Expr::Interpolated(nodes) => {
                let outer = std::mem::take(&mut self.out);
                let flow = self.run(nodes);
                let text = std::mem::replace(&mut self.out, outer);
                flow?;
                self.heap.text(text)
            }
            Expr::Chain(first, rest) => self.nested(|machine| machine.chain(first, rest)),
            Expr::Not(inner) => {
                let value = self.nested(|machine| machine.evaluate(inner))?;
                Ok(Value::Bool(!value.is_true()))
            }
            Expr::Negative(inner) => Ok(match self.nested(|machine| machine.evaluate(inner))? {
                Value::Int(number) => number.checked_neg().map_or(Value::Null, Value::Int),
                Value::Float(number) => Value::Float(-number),
                _ => Value::Null,
            }),
            Expr::List(items) => self.nested(|machine| {
                let items = items.iter().map(|item| machine.evaluate(item)).collect::<Result<Vec<_>, _>>()?;
                machine.heap.new_list(items)
            }),
            Expr::Range(start, end) => self.nested(|machine| {
                let (Value::Int(start), Value::Int(end)) = (machine.evaluate(start)?, machine.evaluate(end)?)
                else {
                    return Ok(Value::Null);
                };
                let length = end.abs_diff(start);
                if length >= MAX_RANGE as u64 {
                    return Err(RenderError::TooMuchMemory);
                }
                machine.heap.spend(length / 8)?;
                let items: Vec<Value> = match start <= end {
                    true => (start..=end).map(Value::Int).collect(),
                    false => (end..=start).rev().map(Value::Int).collect(),
                };
                machine.heap.new_list(items)
            }),
            Expr::Map(entries) => self.nested(|machine| {
                let map = machine.heap.new_map(Members::default())?;
                for (key, value) in entries {
                    let key = machine.evaluate(key)?;
                    let key = machine.heap.text_of(&key)?;
                    let value = machine.evaluate(value)?;
                    if let Value::Map(id) = map {
                        machine.heap.put(id, key, value)?;
                    }
                }
                Ok(map)
            }),
        }
    }

    fn chain(&mut self, first: &Expr, rest: &[(Operator, Expr)]) -> Result<Value, RenderError> {
        let mut left = self.evaluate(first)?;
        for (operator, right) in rest {
            self.heap.spend(1)?;
            left = match operator {
                Operator::Or => Value::Bool(left.is_true() || self.evaluate(right)?.is_true()),
                Operator::And => Value::Bool(left.is_true() && self.evaluate(right)?.is_true()),
                operator => {
                    let right = self.evaluate(right)?;
                    self.binary(*operator, &left, &right)?
                }
            };
        }
        Ok(left)
    }

    fn binary(&mut self, operator: Operator, left: &Value, right: &Value) -> Result<Value, RenderError> {
        let compared = |test: fn(std::cmp::Ordering) -> bool| {
            let order = match (left, right) {
                (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
                (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
                _ => left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right)),
            };
            Value::Bool(order.is_some_and(test))
        };
        Ok(match operator {
            Operator::Equal => Value::Bool(self.heap.equal(left, right)?),
            Operator::NotEqual => Value::Bool(!self.heap.equal(left, right)?),
            Operator::Less => compared(std::cmp::Ordering::is_lt),
            Operator::LessOrEqual => compared(std::cmp::Ordering::is_le),
            Operator::Greater => compared(std::cmp::Ordering::is_gt),
            Operator::GreaterOrEqual => compared(std::cmp::Ordering::is_ge),
            Operator::Add if matches!(left, Value::Text(_)) || matches!(right, Value::Text(_)) => {
                let mut text = String::new();
                self.heap.write(left, &mut text)?;
                self.heap.write(right, &mut text)?;
                self.heap.text(text)?
            }
            _ => arithmetic(operator, left, right),
        })
    }
}

/// Place of an index; negative ones count from the end.
pub(super) fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(length as i64)? } else { index };
    usize::try_from(index).ok().filter(|place| *place < length)
}

/// Whole numbers stay whole; what cannot be computed is nothing.
fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Value {
    if let (Value::Int(left), Value::Int(right)) = (left, right) {
        let whole = match operator {
            Operator::Add => left.checked_add(*right),
            Operator::Subtract => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Divide => left.checked_div(*right),
            _ => left.checked_rem(*right),
        };
        if whole.is_some() || *right == 0 {
            return whole.map_or(Value::Null, Value::Int);
        }
    }
    let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) else { return Value::Null };
    Value::Float(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide if right == 0.0 => return Value::Null,
        Operator::Divide => left / right,
        _ if right == 0.0 => return Value::Null,
        _ => left % right,
    })
}

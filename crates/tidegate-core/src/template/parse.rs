//! From the text of a template to its nodes.
//!
//! One pass over the text. Where Velocity prints what it does not understand, this parser does too; what it begins to
//! understand and cannot finish is an error.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::builtin::parse_path;
use super::node::{Access, Expr, Literal, Macro, Node, Operator, Reference, Target};
use super::{Template, TemplateError};
use crate::json_path::JsonPath;

/// How deep directives, brackets and texts may stand in one another.
const MAX_NESTING: usize = 40;

/// Directives of Velocity that the service does not have.
const REFUSED: [&str; 4] = ["include", "parse", "evaluate", "define"];

/// What a list of nodes ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Text,
    End,
    Else,
    ElseIf,
}

/// Nodes and macros of a template.
pub(super) fn parse(text: &str) -> Result<Template, TemplateError> {
    let mut macros = HashSet::new();
    find_macros(text, &mut macros);
    let mut parser =
        Parser { text, at: 0, depth: 0, names: &macros, macros: Vec::new(), paths: HashMap::new() };
    let (nodes, ended) = parser.nodes()?;
    if ended != Ended::Text {
        return Err(parser.error("a directive without its begin"));
    }
    Ok(Template { nodes, macros: parser.macros, paths: parser.paths })
}

/// Macros may be called before they are defined.
fn find_macros<'t>(text: &'t str, names: &mut HashSet<&'t str>) {
    for (at, _) in text.match_indices("#macro") {
        let rest = text[at + "#macro".len()..].trim_start();
        let rest = rest.strip_prefix('(').unwrap_or_default().trim_start();
        let name = &rest[..name_length(rest)];
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

/// Length of the name that a text begins with: letters, digits, `_` and `-`, without hyphens at its end.
fn name_length(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return 0;
    }
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let length = text.find(ends).unwrap_or(text.len());
    text[..length].trim_end_matches('-').len()
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    names: &'t HashSet<&'t str>,
    macros: Vec<Macro>,
    /// Of `$input.json('$.a')` and the like.
    paths: HashMap<Arc<str>, Arc<JsonPath>>,
}

impl<'t> Parser<'t> {
    fn error(&self, reason: impl Into<String>) -> TemplateError {
        let before = &self.text[..self.at.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        TemplateError::Syntax { line, reason: reason.into() }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), TemplateError> {
        match self.eat(token) {
            true => Ok(()),
            false => Err(self.error(format!("`{token}` expected"))),
        }
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Blanks and the line end behind a directive belong to it, when nothing else stands on the line.
    fn line_end(&mut self) {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches([' ', '\t']);
        let n_blanks = rest.len() - trimmed.len();
        let n_end =
            if trimmed.starts_with("\r\n") { 2 } else { usize::from(trimmed.starts_with(['\n', '\r'])) };
        if n_end > 0 {
            self.at += n_blanks + n_end;
        }
    }

    fn name(&mut self) -> Option<&'t str> {
        let length = name_length(self.rest());
        let name = &self.rest()[..length];
        self.at += length;
        (length > 0).then_some(name)
    }

    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.error(format!("nested deeper than {MAX_NESTING}")));
        }
        let result = inner(self)?;
        self.depth -= 1;
        Ok(result)
    }

    /// Text, references and directives up to `#end`, `#else`, `#elseif` or the end of the text.
    fn nodes(&mut self) -> Result<(Vec<Node>, Ended), TemplateError> {
        self.nested(Self::nodes_inside)
    }

    fn nodes_inside(&mut self) -> Result<(Vec<Node>, Ended), TemplateError> {
        let mut nodes = Vec::new();
        let mut plain = String::new();
        while let Some(length) = self.rest().find(['$', '#', '\\']) {
            plain.push_str(&self.rest()[..length]);
            self.at += length;
            let start = self.at;
            let found = match self.peek() {
                Some(b'\\') => {
                    self.escaped(&mut plain, &mut nodes)?;
                    continue;
                }
                Some(b'$') => self.reference()?.map(Node::Print),
                _ => {
                    if self.eat("##") {
                        let length = self.rest().find('\n').map_or(self.rest().len(), |end| end + 1);
                        self.at += length;
                        continue;
                    }
                    if self.eat("#*") {
                        let end = self.rest().find("*#").ok_or_else(|| self.error("`*#` expected"))?;
                        self.at += end + 2;
                        continue;
                    }
                    if self.eat("#[[") {
                        let end = self.rest().find("]]#").ok_or_else(|| self.error("`]]#` expected"))?;
                        plain.push_str(&self.rest()[..end]);
                        self.at += end + 3;
                        continue;
                    }
                    match self.directive(&mut plain)? {
                        Directive::Ended(ended) => {
                            push_text(&mut nodes, &mut plain);
                            return Ok((nodes, ended));
                        }
                        Directive::Nothing => continue,
                        Directive::Node(node) => Some(node),
                        Directive::None => None,
                    }
                }
            };
            match found {
                Some(node) => {
                    push_text(&mut nodes, &mut plain);
                    nodes.push(node);
                }
                None => {
                    self.at = start + 1;
                    plain.push_str(&self.text[start..self.at]);
                }
            }
        }
        plain.push_str(self.rest());
        self.at = self.text.len();
        push_text(&mut nodes, &mut plain);
        Ok((nodes, Ended::Text))
    }

    /// At backslashes. They mean something only before a reference or a directive.
    fn escaped(&mut self, plain: &mut String, nodes: &mut Vec<Node>) -> Result<(), TemplateError> {
        let rest = self.rest();
        let n_slashes = rest.len() - rest.trim_start_matches('\\').len();
        self.at += n_slashes;
        let start = self.at;
        if self.peek() == Some(b'$')
            && let Some(reference) = self.reference()?
        {
            push_text(nodes, plain);
            nodes.push(Node::Escaped { n_slashes, reference });
            return Ok(());
        }
        self.at = start;
        let is_directive = self.peek() == Some(b'#') && {
            let name = self.rest()[1..].trim_start_matches('{');
            let name = &name[..name_length(name)];
            matches!(name, "set" | "if" | "elseif" | "else" | "end" | "foreach" | "break" | "stop" | "macro")
                || self.names.contains(name)
        };
        if !is_directive {
            plain.extend(std::iter::repeat_n('\\', n_slashes));
            return Ok(());
        }
        plain.extend(std::iter::repeat_n('\\', n_slashes / 2));
        if n_slashes % 2 == 1 {
            plain.push('#');
            self.at += 1;
        }
        Ok(())
    }

    /// At `#`.
    fn directive(&mut self, plain: &mut String) -> Result<Directive, TemplateError> {
        self.at += 1;
        let is_braced = self.eat("{");
        let Some(name) = self.name() else { return Ok(Directive::None) };
        if is_braced && !self.eat("}") {
            return Ok(Directive::None);
        }
        match name {
            "end" => {
                self.line_end();
                Ok(Directive::Ended(Ended::End))
            }
            "else" => {
                self.line_end();
                Ok(Directive::Ended(Ended::Else))
            }
            "elseif" => Ok(Directive::Ended(Ended::ElseIf)),
            "set" => {
                // Blanks before it on its line go with it.
                let kept = plain.trim_end_matches([' ', '\t']).len();
                plain.truncate(kept);
                self.set().map(Directive::Node)
            }
            "if" => self.condition().map(Directive::Node),
            "foreach" => self.foreach().map(Directive::Node),
            "macro" => {
                let defined = self.macro_definition()?;
                self.macros.push(defined);
                Ok(Directive::Nothing)
            }
            "break" | "stop" => {
                if self.eat("(") {
                    self.blanks();
                    if self.peek() != Some(b')') {
                        self.expression()?;
                        self.blanks();
                    }
                    self.expect(")")?;
                }
                self.line_end();
                Ok(Directive::Node(if name == "break" { Node::Break } else { Node::Stop }))
            }
            name if self.names.contains(name) => {
                self.blanks();
                self.expect("(")?;
                self.call(name).map(Directive::Node)
            }
            name if REFUSED.contains(&name) && self.rest().trim_start().starts_with('(') => {
                Err(self.error(format!("#{name} is not available")))
            }
            _ => Ok(Directive::None),
        }
    }

    fn set(&mut self) -> Result<Node, TemplateError> {
        self.blanks();
        self.expect("(")?;
        self.blanks();
        let reference = self.reference()?.ok_or_else(|| self.error("a reference expected"))?;
        let target = target(reference).ok_or_else(|| self.error("a variable or property expected"))?;
        self.blanks();
        self.expect("=")?;
        let value = self.expression()?;
        self.blanks();
        self.expect(")")?;
        self.line_end();
        Ok(Node::Set { target, value })
    }

    fn condition(&mut self) -> Result<Node, TemplateError> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        let mut has_else = false;
        loop {
            let test = match has_else {
                true => None,
                false => {
                    self.blanks();
                    self.expect("(")?;
                    let test = self.expression()?;
                    self.blanks();
                    self.expect(")")?;
                    self.line_end();
                    Some(test)
                }
            };
            let (nodes, ended) = self.nodes()?;
            match test {
                Some(test) => branches.push((test, nodes)),
                None => otherwise = nodes,
            }
            match ended {
                Ended::End => return Ok(Node::If { branches, otherwise }),
                Ended::ElseIf if !has_else => {}
                Ended::Else if !has_else => has_else = true,
                _ => return Err(self.error("`#end` of `#if` expected")),
            }
        }
    }

    fn body(&mut self, of: &str) -> Result<Vec<Node>, TemplateError> {
        let (nodes, ended) = self.nodes()?;
        match ended {
            Ended::End => Ok(nodes),
            _ => Err(self.error(format!("`#end` of `#{of}` expected"))),
        }
    }

    fn foreach(&mut self) -> Result<Node, TemplateError> {
        self.blanks();
        self.expect("(")?;
        self.blanks();
        let variable = self.variable()?;
        self.blanks();
        self.expect("in")?;
        let list = self.expression()?;
        self.blanks();
        self.expect(")")?;
        self.line_end();
        let body = self.body("foreach")?;
        Ok(Node::Foreach { variable, list, body })
    }

    /// `$name`, `${name}`, with or without `!`.
    fn variable(&mut self) -> Result<Arc<str>, TemplateError> {
        let reference = self.reference()?.filter(|reference| reference.steps.is_empty());
        reference.map(|reference| reference.root).ok_or_else(|| self.error("a variable expected"))
    }

    fn macro_definition(&mut self) -> Result<Macro, TemplateError> {
        self.blanks();
        self.expect("(")?;
        self.blanks();
        let name = self.name().ok_or_else(|| self.error("the name of the macro expected"))?.into();
        let mut parameters = Vec::new();
        loop {
            self.blanks();
            if self.eat(",") {
                continue;
            }
            if self.eat(")") {
                break;
            }
            parameters.push(self.variable()?);
        }
        self.line_end();
        let body = self.body("macro")?;
        Ok(Macro { name, parameters, body })
    }

    /// Arguments of a macro: apart by blanks or commas.
    /// A path that is written out is read once. One that is none fails when it is asked for.
    fn keep_path(&mut self, method: &str, arguments: &[Expr]) {
        if let ("json" | "path", [Expr::Literal(Literal::Text(path))]) = (method, arguments)
            && let Ok(parsed) = parse_path(path)
        {
            self.paths.insert(Arc::clone(path), Arc::new(parsed));
        }
    }

    fn call(&mut self, name: &str) -> Result<Node, TemplateError> {
        let mut arguments = Vec::new();
        loop {
            self.blanks();
            if self.eat(",") {
                continue;
            }
            if self.eat(")") {
                break;
            }
            arguments.push(self.nested(Self::operand)?);
        }
        self.line_end();
        Ok(Node::Call { name: name.into(), arguments })
    }

    /// At `$`: a reference, or nothing.
    fn reference(&mut self) -> Result<Option<Reference>, TemplateError> {
        let start = self.at;
        if !self.eat("$") {
            return Ok(None);
        }
        let is_quiet = self.eat("!");
        let is_braced = self.eat("{");
        let Some(root) = self.name() else {
            self.at = start;
            return Ok(None);
        };
        let mut steps = Vec::new();
        loop {
            if self.eat("[") {
                let index = self.expression()?;
                self.blanks();
                self.expect("]")?;
                steps.push(Access::Index(index));
                continue;
            }
            let before = self.at;
            if !self.eat(".") {
                break;
            }
            let Some(name) = self.name() else {
                // A full stop at the end belongs to the sentence.
                self.at = before;
                break;
            };
            if self.eat("(") {
                let arguments = self.arguments()?;
                self.keep_path(name, &arguments);
                steps.push(Access::Method(name.into(), arguments));
            } else {
                steps.push(Access::Property(name.into()));
            }
        }
        if is_braced && !self.eat("}") {
            return Err(self.error("`}` expected"));
        }
        let source = self.text[start..self.at].into();
        Ok(Some(Reference { root: root.into(), steps, is_quiet, source }))
    }

    /// Behind `(` of a method.
    fn arguments(&mut self) -> Result<Vec<Expr>, TemplateError> {
        let mut arguments = Vec::new();
        self.blanks();
        if self.eat(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression()?);
            self.blanks();
            if self.eat(")") {
                return Ok(arguments);
            }
            self.expect(",")?;
        }
    }

    fn expression(&mut self) -> Result<Expr, TemplateError> {
        self.nested(|parser| parser.level(0))
    }

    /// Operators of one rank, each stronger than that before.
    fn level(&mut self, rank: usize) -> Result<Expr, TemplateError> {
        use Operator::{
            Add, And, Divide, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Multiply, NotEqual, Or,
            Remainder, Subtract,
        };
        const RANKS: [&[(&str, Operator)]; 6] = [
            &[("||", Or), ("or", Or)],
            &[("&&", And), ("and", And)],
            &[("==", Equal), ("!=", NotEqual), ("eq", Equal), ("ne", NotEqual)],
            &[
                ("<=", LessOrEqual),
                (">=", GreaterOrEqual),
                ("<", Less),
                (">", Greater),
                ("le", LessOrEqual),
                ("ge", GreaterOrEqual),
                ("lt", Less),
                ("gt", Greater),
            ],
            &[("+", Add), ("-", Subtract)],
            &[("*", Multiply), ("/", Divide), ("%", Remainder)],
        ];
        let Some(operators) = RANKS.get(rank) else { return self.unary() };
        let first = self.level(rank + 1)?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let found = operators.iter().find(|(token, _)| {
                self.rest().strip_prefix(token).is_some_and(|behind| {
                    let is_word = token.starts_with(|c: char| c.is_ascii_alphabetic());
                    !is_word || !behind.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                })
            });
            let Some((token, operator)) = found else { break };
            self.at += token.len();
            rest.push((*operator, self.level(rank + 1)?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expr::Chain(Box::new(first), rest),
        })
    }

    fn unary(&mut self) -> Result<Expr, TemplateError> {
        self.blanks();
        let is_word =
            self.rest().strip_prefix("not").is_some_and(|behind| behind.starts_with([' ', '(', '$']));
        if self.peek() == Some(b'!') || is_word {
            self.at += if is_word { 3 } else { 1 };
            return self.nested(Self::unary).map(|inner| Expr::Not(Box::new(inner)));
        }
        if self.peek() == Some(b'-') && !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
            self.at += 1;
            return self.nested(Self::unary).map(|inner| Expr::Negative(Box::new(inner)));
        }
        self.nested(Self::operand)
    }

    /// A value without operators around it.
    fn operand(&mut self) -> Result<Expr, TemplateError> {
        self.blanks();
        match self.peek() {
            Some(b'$') => match self.reference()? {
                Some(reference) => Ok(Expr::Reference(reference)),
                None => Err(self.error("a reference expected")),
            },
            Some(b'(') => {
                self.at += 1;
                let inner = self.expression()?;
                self.blanks();
                self.expect(")")?;
                Ok(inner)
            }
            Some(b'"') => {
                let content = self.quoted('"')?;
                self.interpolated(&content)
            }
            Some(b'\'') => Ok(Expr::Literal(Literal::Text(self.quoted('\'')?.into()))),
            Some(b'[') => self.list(),
            Some(b'{') => self.map(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in
                    [("true", Literal::Bool(true)), ("false", Literal::Bool(false)), ("null", Literal::Null)]
                {
                    let rest = self.rest();
                    if rest.starts_with(word) && name_length(rest) == word.len() {
                        self.at += word.len();
                        return Ok(Expr::Literal(value));
                    }
                }
                Err(self.error("a value expected"))
            }
        }
    }

    /// At a quote. Two of them inside stand for one; nothing else is escaped.
    fn quoted(&mut self, quote: char) -> Result<String, TemplateError> {
        self.at += 1;
        let mut content = String::new();
        loop {
            let end = self.rest().find(quote).ok_or_else(|| self.error("closing quote expected"))?;
            content.push_str(&self.rest()[..end]);
            self.at += end + 1;
            if self.peek() != Some(quote as u8) {
                return Ok(content);
            }
            content.push(quote);
            self.at += 1;
        }
    }

    /// A text in double quotes is a template of its own.
    fn interpolated(&mut self, content: &str) -> Result<Expr, TemplateError> {
        if !content.contains(['$', '#', '\\']) {
            return Ok(Expr::Literal(Literal::Text(content.into())));
        }
        let mut inner = Parser {
            text: content,
            at: 0,
            depth: self.depth,
            names: self.names,
            macros: Vec::new(),
            paths: HashMap::new(),
        };
        let parsed = inner.nodes();
        self.paths.extend(std::mem::take(&mut inner.paths));
        let (nodes, ended) = parsed.map_err(|error| match error {
            TemplateError::Syntax { reason, .. } => self.error(reason),
            other => other,
        })?;
        if ended != Ended::Text {
            return Err(self.error("a directive without its begin"));
        }
        Ok(match nodes.as_slice() {
            [] => Expr::Literal(Literal::Text("".into())),
            [Node::Text(text)] => Expr::Literal(Literal::Text(text.clone())),
            _ => Expr::Interpolated(nodes),
        })
    }

    fn list(&mut self) -> Result<Expr, TemplateError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.eat("]") {
            return Ok(Expr::List(items));
        }
        loop {
            items.push(self.expression()?);
            self.blanks();
            if items.len() == 1 && self.eat("..") {
                let end = self.expression()?;
                self.blanks();
                self.expect("]")?;
                let start = items.swap_remove(0);
                return Ok(Expr::Range(Box::new(start), Box::new(end)));
            }
            if self.eat("]") {
                return Ok(Expr::List(items));
            }
            self.expect(",")?;
        }
    }

    fn map(&mut self) -> Result<Expr, TemplateError> {
        self.at += 1;
        let mut entries = Vec::new();
        self.blanks();
        if self.eat("}") {
            return Ok(Expr::Map(entries));
        }
        loop {
            let key = self.expression()?;
            self.blanks();
            self.expect(":")?;
            entries.push((key, self.expression()?));
            self.blanks();
            if self.eat("}") {
                return Ok(Expr::Map(entries));
            }
            self.expect(",")?;
        }
    }

    fn number(&mut self) -> Result<Expr, TemplateError> {
        let rest = self.rest();
        let digits = |from: usize| {
            let tail = rest.get(from..).unwrap_or_default();
            tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len())
        };
        let sign = usize::from(rest.starts_with('-'));
        let mut length = sign + digits(sign);
        if length == sign {
            return Err(self.error("a number expected"));
        }
        let mut is_float = false;
        // `1..3` is a range.
        if rest[length..].starts_with('.') && digits(length + 1) > 0 {
            is_float = true;
            length += 1 + digits(length + 1);
            let exponent = &rest[length..];
            if exponent.starts_with(['e', 'E']) {
                let signed = usize::from(exponent[1..].starts_with(['+', '-']));
                let n_digits = digits(length + 1 + signed);
                if n_digits > 0 {
                    length += 1 + signed + n_digits;
                }
            }
        }
        let text = &rest[..length];
        let value = match is_float {
            true => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Literal::Float),
            false => text.parse().ok().map(Literal::Int),
        };
        let value = value.ok_or_else(|| self.error("the number is too large"))?;
        self.at += length;
        Ok(Expr::Literal(value))
    }
}

enum Directive {
    Node(Node),
    /// It closes or divides what is open.
    Ended(Ended),
    /// It prints nothing here.
    Nothing,
    /// It is none.
    None,
}

fn push_text(nodes: &mut Vec<Node>, plain: &mut String) {
    if !plain.is_empty() {
        nodes.push(Node::Text(std::mem::take(plain).into()));
    }
}

/// What `#set` may set: a variable, or a property or an item of what a reference gives.
fn target(mut reference: Reference) -> Option<Target> {
    Some(match reference.steps.pop() {
        None => Target::Variable(reference.root),
        Some(Access::Property(name)) => Target::Property(reference, name),
        Some(Access::Index(index)) => Target::Index(reference, index),
        Some(Access::Method(..)) => return None,
    })
}

//! From the text of a path to its steps.

use super::filter::{Comparison, Condition, Operand};
use super::{Function, JsonPath, JsonPathError, Step};
use crate::json::Json;
use crate::pattern::Pattern;

/// Longest path, in steps.
const MAX_STEPS: usize = 64;

/// How deep filters and parentheses may stand in one another.
const MAX_NESTING: usize = 8;

pub(super) fn parse(text: &str) -> Result<JsonPath, JsonPathError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let (steps, function) = parser.steps(false)?;
    if parser.at < text.len() {
        return Err(parser.error("`.` or `[` expected"));
    }
    Ok(JsonPath::new(steps, function))
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn error(&self, reason: &'static str) -> JsonPathError {
        JsonPathError { at: self.at, reason }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn blanks(&mut self) {
        while self.eat(" ") {}
    }

    fn steps(&mut self, in_filter: bool) -> Result<(Vec<Step>, Option<Function>), JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Descend);
                if !self.rest().starts_with('[') {
                    steps.push(self.name(in_filter)?);
                }
            } else if self.eat(".") {
                if let Some(function) = self.function() {
                    return Ok((steps, Some(function)));
                }
                if self.eat("[") {
                    steps.push(self.bracket()?);
                } else {
                    steps.push(self.name(in_filter)?);
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok((steps, None));
            }
            if steps.len() > MAX_STEPS {
                return Err(self.error("at most 64 steps"));
            }
        }
    }

    /// `length()` and the like: they end a path.
    fn function(&mut self) -> Option<Function> {
        let functions = [
            ("length()", Function::Length),
            ("size()", Function::Length),
            ("min()", Function::Min),
            ("max()", Function::Max),
            ("avg()", Function::Average),
            ("sum()", Function::Sum),
            ("keys()", Function::Keys),
            ("first()", Function::First),
            ("last()", Function::Last),
        ];
        let found = functions.into_iter().find(|(token, _)| self.rest().starts_with(token));
        let (token, function) = found?;
        self.at += token.len();
        Some(function)
    }

    fn name(&mut self, in_filter: bool) -> Result<Step, JsonPathError> {
        if self.eat("*") {
            return Ok(Step::Wildcard);
        }
        let ends = |c: char| {
            matches!(c, '.' | '[' | '(')
                || (in_filter && matches!(c, ' ' | ')' | ',' | '=' | '!' | '<' | '>' | '&' | '|'))
        };
        let length = self.rest().find(ends).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.error("a name expected"));
        }
        if self.rest()[length..].starts_with('(') {
            return Err(self.error("unknown function"));
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(Step::Name(name))
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        self.blanks();
        if self.eat("?") {
            self.blanks();
            if !self.eat("(") {
                return Err(self.error("`(` expected"));
            }
            let condition = self.either()?;
            self.blanks();
            if !self.eat(")") {
                return Err(self.error("`)` expected"));
            }
            self.blanks();
            if !self.eat("]") {
                return Err(self.error("`]` expected"));
            }
            return Ok(Step::Filter(Box::new(condition)));
        }
        let mut choices = vec![self.choice()?];
        while self.eat(",") {
            choices.push(self.choice()?);
        }
        if !self.eat("]") {
            return Err(self.error("`]` expected"));
        }
        if choices.len() == 1 {
            return choices.pop().ok_or_else(|| self.error("a name or index expected"));
        }
        let is_name = |step: &Step| matches!(step, Step::Name(_));
        let is_index = |step: &Step| matches!(step, Step::Index(_));
        match choices.iter().all(is_name) || choices.iter().all(is_index) {
            true => Ok(Step::Union(choices)),
            false => Err(self.error("only names or only indexes expected")),
        }
    }

    fn choice(&mut self) -> Result<Step, JsonPathError> {
        self.blanks();
        let step = if self.eat("*") {
            Step::Wildcard
        } else if let Some(text) = self.quoted()? {
            Step::Name(text)
        } else {
            let start = self.integer()?;
            if self.eat(":") {
                let end = self.integer()?;
                let step = if self.eat(":") { self.integer()?.unwrap_or(1) } else { 1 };
                if step < 1 {
                    return Err(self.error("a positive step expected"));
                }
                Step::Slice { start, end, step }
            } else {
                Step::Index(start.ok_or_else(|| self.error("a name or index expected"))?)
            }
        };
        self.blanks();
        Ok(step)
    }

    fn quoted(&mut self) -> Result<Option<String>, JsonPathError> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut is_escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if is_escaped => {
                    text.push(c);
                    is_escaped = false;
                }
                '\\' => is_escaped = true,
                _ if c == quote => {
                    self.at += offset + 1;
                    return Ok(Some(text));
                }
                _ => text.push(c),
            }
        }
        Err(self.error("closing quote expected"))
    }

    fn integer(&mut self) -> Result<Option<i64>, JsonPathError> {
        let rest = self.rest();
        let length = rest
            .char_indices()
            .find(|(offset, c)| !(c.is_ascii_digit() || (*offset == 0 && *c == '-')))
            .map_or(rest.len(), |(offset, _)| offset);
        if length == 0 {
            return Ok(None);
        }
        let number = rest[..length].parse::<i32>().map_err(|_| self.error("an integer expected"))?;
        self.at += length;
        Ok(Some(i64::from(number)))
    }

    /// Conditions joined by `||`.
    fn either(&mut self) -> Result<Condition, JsonPathError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.error("nested too deep"));
        }
        let mut any = vec![self.both()?];
        self.blanks();
        while self.eat("||") {
            any.push(self.both()?);
            self.blanks();
        }
        self.depth -= 1;
        Ok(if any.len() == 1 { any.remove(0) } else { Condition::Any(any) })
    }

    /// Conditions joined by `&&`.
    fn both(&mut self) -> Result<Condition, JsonPathError> {
        let mut all = vec![self.single()?];
        self.blanks();
        while self.eat("&&") {
            all.push(self.single()?);
            self.blanks();
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::All(all) })
    }

    fn single(&mut self) -> Result<Condition, JsonPathError> {
        self.blanks();
        if self.eat("!") {
            self.depth += 1;
            if self.depth > MAX_NESTING {
                return Err(self.error("nested too deep"));
            }
            let condition = self.single()?;
            self.depth -= 1;
            return Ok(Condition::Not(Box::new(condition)));
        }
        if self.eat("(") {
            let condition = self.either()?;
            self.blanks();
            return match self.eat(")") {
                true => Ok(condition),
                false => Err(self.error("`)` expected")),
            };
        }
        let left = self.operand()?;
        self.blanks();
        if self.eat("=~") {
            self.blanks();
            let pattern = self.regex()?;
            return Ok(Condition::Fits(left, pattern));
        }
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
            ("in ", Comparison::In),
            ("nin ", Comparison::NotIn),
            ("contains ", Comparison::Contains),
            ("size ", Comparison::Size),
            ("empty ", Comparison::Empty),
        ];
        let found = comparisons.into_iter().find(|(token, _)| self.eat(token));
        let Some((_, comparison)) = found else {
            return match left {
                Operand::Path(_) => Ok(Condition::Exists(left)),
                Operand::Literal(_) => Err(self.error("a comparison expected")),
            };
        };
        self.blanks();
        let right = self.operand()?;
        Ok(Condition::Compare(left, comparison, right))
    }

    fn operand(&mut self) -> Result<Operand, JsonPathError> {
        let is_root = self.rest().starts_with('$');
        if is_root || self.rest().starts_with('@') {
            self.at += 1;
            self.depth += 1;
            if self.depth > MAX_NESTING {
                return Err(self.error("nested too deep"));
            }
            let (steps, function) = self.steps(true)?;
            self.depth -= 1;
            let mut path = JsonPath::new(steps, function);
            path.is_absolute = is_root;
            return Ok(Operand::Path(Box::new(path)));
        }
        self.literal().map(Operand::Literal)
    }

    fn literal(&mut self) -> Result<Json<'static>, JsonPathError> {
        if let Some(text) = self.quoted()? {
            return Ok(Json::Text(text.into()));
        }
        if self.eat("[") {
            let mut items = Vec::new();
            self.blanks();
            while !self.eat("]") {
                if !items.is_empty() && !self.eat(",") {
                    return Err(self.error("`,` or `]` expected"));
                }
                self.blanks();
                self.depth += 1;
                if self.depth > MAX_NESTING {
                    return Err(self.error("nested too deep"));
                }
                items.push(self.literal()?);
                self.depth -= 1;
                self.blanks();
            }
            return Ok(Json::Array(items));
        }
        let ends = |c: char| matches!(c, ')' | ' ' | ',' | ']' | '&' | '|' | '=' | '!' | '<' | '>');
        let length = self.rest().find(ends).unwrap_or(self.rest().len());
        let value = match Json::parse(&self.rest()[..length]) {
            Ok(value @ (Json::Number(_) | Json::Bool(_) | Json::Null)) => value.into_owned(),
            _ => return Err(self.error("a path, a text in quotes or a number expected")),
        };
        self.at += length;
        Ok(value)
    }

    /// `/pattern/` with `i` behind it where case does not matter.
    fn regex(&mut self) -> Result<Pattern, JsonPathError> {
        if !self.eat("/") {
            return Err(self.error("`/` expected"));
        }
        let mut is_escaped = false;
        let end = self.rest().find(|c: char| {
            let is_end = c == '/' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        let end = end.ok_or_else(|| self.error("closing `/` expected"))?;
        let text = self.rest()[..end].replace("\\/", "/");
        self.at += end + 1;
        let text = if self.eat("i") { format!("(?i){text}") } else { text };
        Pattern::compile(&text).map_err(|_| self.error("a regular expression expected"))
    }
}

//! What a template consists of.

use std::sync::Arc;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(Arc<str>),
    Print(Reference),
    /// Backslashes before a reference.
    Escaped {
        n_slashes: usize,
        reference: Reference,
    },
    Set {
        target: Target,
        value: Expr,
    },
    If {
        branches: Vec<(Expr, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Foreach {
        variable: Arc<str>,
        list: Expr,
        body: Vec<Node>,
    },
    Call {
        name: Arc<str>,
        arguments: Vec<Expr>,
    },
    Break,
    Stop,
}

/// `$root.property[0].method(x)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reference {
    pub(super) root: Arc<str>,
    pub(super) steps: Vec<Access>,
    /// `$!`: prints nothing when there is nothing.
    pub(super) is_quiet: bool,
    /// As it is written: what it prints when there is nothing.
    pub(super) source: Arc<str>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Access {
    Property(Arc<str>),
    Index(Expr),
    Method(Arc<str>, Vec<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    Variable(Arc<str>),
    Property(Reference, Arc<str>),
    Index(Reference, Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Literal(Literal),
    Interpolated(Vec<Node>),
    Reference(Reference),
    /// Operators of one rank, from left to right: a tree would be as deep as the chain is long.
    Chain(Box<Expr>, Vec<(Operator, Expr)>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    List(Vec<Expr>),
    Range(Box<Expr>, Box<Expr>),
    Map(Vec<(Expr, Expr)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// `#macro(name $a $b) ... #end`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Macro {
    pub(super) name: Arc<str>,
    pub(super) parameters: Vec<Arc<str>>,
    pub(super) body: Vec<Node>,
}

//! Builds the tree of an expression and refuses what 4.9.3 refuses.
//!
//! One function per rule of the grammar, in its order:
//!
//! ```text
//! or         := and ( OR and )*
//! and        := equality ( AND equality )*
//! equality   := comparison ( ("=" | "<>") comparison | IS [NOT] NULL )*
//! comparison := unary ( (">" | ">=" | "<" | "<=") unary | [NOT] BETWEEN unary AND unary
//!                     | [NOT] IN "(" text {"," text} ")" )*
//! unary      := ("+" | "-" | NOT) unary | primary
//! primary    := constant | name | "(" or ")"
//! ```

use super::error::CompileError;
use super::evaluate::{self, Order};
use super::token::{Token, Tokens};
use super::{Expression, Limits};
use std::collections::BTreeMap;

/// One operator or operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// The value of a slot.
    Property(usize),
    Constant(Constant),
    Negate(Box<Node>),
    Not(Box<Node>),
    /// A property where a condition is wanted: never true, because properties are text.
    /// Source: UnaryExpression#createBooleanCast (4.9.3).
    Cast(usize),
    All(Vec<Node>),
    Any(Vec<Node>),
    Equal(Box<[Node; 2]>),
    IsNull(Box<Node>),
    Compare(Order, Box<[Node; 2]>),
    /// Value, low, high.
    Between {
        not: bool,
        parts: Box<[Node; 3]>,
    },
    In {
        not: bool,
        slot: usize,
        /// Sorted.
        list: Vec<Box<str>>,
    },
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Box<str>),
}

impl Constant {
    fn is_number(&self) -> bool {
        matches!(self, Constant::Int(_) | Constant::Long(_) | Constant::Double(_))
    }

    fn is_condition(&self) -> bool {
        matches!(self, Constant::Null | Constant::Bool(_))
    }

    fn describe(&self) -> String {
        match self {
            Constant::Null => "NULL".to_owned(),
            Constant::Bool(value) => value.to_string().to_uppercase(),
            Constant::Int(value) => value.to_string(),
            Constant::Long(value) => value.to_string(),
            Constant::Double(value) => value.to_string(),
            Constant::Text(value) => format!("'{}'", value.replace('\'', "''")),
        }
    }
}

impl Node {
    /// Source: BooleanExpression (4.9.3).
    fn is_condition(&self) -> bool {
        match self {
            Node::Property(_) | Node::Negate(_) => false,
            Node::Constant(constant) => constant.is_condition(),
            _ => true,
        }
    }

    fn describe(&self) -> String {
        match self {
            Node::Constant(constant) => constant.describe(),
            Node::Property(_) => "a property".to_owned(),
            Node::Negate(_) => "a negated value".to_owned(),
            _ => "a condition".to_owned(),
        }
    }
}

pub fn parse(text: &str, limits: &Limits) -> Result<Expression, CompileError> {
    if text.len() > limits.size_max {
        let reason = format!("it has {} bytes, at most {} are taken", text.len(), limits.size_max);
        return Err(CompileError::new(text, 0, reason));
    }
    let tokens = Tokens::new(text);
    let mut parser =
        Parser { text, limits, tokens, next: None, names: BTreeMap::new(), nodes: 0, depth: 0 };
    let whole = parser.or()?;
    let root = parser.condition(whole)?.node;
    let names = parser.names.into_iter().map(|(name, slot)| (name.into(), slot)).collect();
    Ok(Expression { names, root })
}

/// A part of the tree, where its text begins, and how deep it is.
struct Part {
    node: Node,
    at: usize,
    depth: usize,
}

type Parsed = Result<Part, CompileError>;

struct Parser<'a> {
    text: &'a str,
    limits: &'a Limits,
    tokens: Tokens<'a>,
    /// Looked at and not taken.
    next: Option<(Token<'a>, usize)>,
    names: BTreeMap<&'a str, usize>,
    nodes: usize,
    /// Of the rules at work.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Result<Token<'a>, CompileError> {
        if self.next.is_none() {
            self.next = Some(self.tokens.next()?);
        }
        Ok(self.next.map_or(Token::End, |(token, _)| token))
    }

    fn take(&mut self) -> Result<(Token<'a>, usize), CompileError> {
        match self.next.take() {
            Some(next) => Ok(next),
            None => self.tokens.next(),
        }
    }

    /// Takes the next token when it is this one.
    fn takes(&mut self, token: Token) -> Result<bool, CompileError> {
        let is_it = self.peek()? == token;
        if is_it {
            self.next = None;
        }
        Ok(is_it)
    }

    fn expect(&mut self, token: Token) -> Result<(), CompileError> {
        let (found, at) = self.take()?;
        if found == token { Ok(()) } else { Err(self.unexpected(found, at, token)) }
    }

    fn unexpected(&self, found: Token, at: usize, wanted: impl std::fmt::Display) -> CompileError {
        self.error(at, format!("encountered {found}, expected {wanted}"))
    }

    fn error(&self, at: usize, reason: impl Into<String>) -> CompileError {
        CompileError::new(self.text, at, reason)
    }

    /// A new node over parts of which the deepest has `depth`.
    fn node(&mut self, node: Node, at: usize, depth: usize) -> Parsed {
        self.nodes += 1;
        if self.nodes > self.limits.nodes_max {
            let reason =
                format!("it has more than {} operators and operands", self.limits.nodes_max);
            return Err(self.error(at, reason));
        }
        let depth = depth + 1;
        if depth > self.limits.depth_max {
            return Err(self.too_deep(at));
        }
        Ok(Part { node, at, depth })
    }

    fn too_deep(&self, at: usize) -> CompileError {
        self.error(at, format!("it is nested more than {} levels deep", self.limits.depth_max))
    }

    /// The part as a condition. Source: SelectorParser#asBooleanExpression (4.9.3).
    fn condition(&self, part: Part) -> Parsed {
        match part.node {
            Node::Property(slot) => Ok(Part { node: Node::Cast(slot), ..part }),
            ref node if node.is_condition() => Ok(part),
            ref node => {
                let reason =
                    format!("Expression will not result in a boolean value: {}", node.describe());
                Err(self.error(part.at, reason))
            }
        }
    }

    fn or(&mut self) -> Parsed {
        self.chain(Token::Or, Node::Any, Self::and)
    }

    fn and(&mut self) -> Parsed {
        self.chain(Token::And, Node::All, Self::equality)
    }

    /// Operands with `word` between them; left to right and flat is the same as nested.
    fn chain(
        &mut self,
        word: Token,
        join: fn(Vec<Node>) -> Node,
        operand: fn(&mut Self) -> Parsed,
    ) -> Parsed {
        let first = operand(self)?;
        if self.peek()? != word {
            return Ok(first);
        }
        let Part { node, at, mut depth } = self.condition(first)?;
        let mut nodes = vec![node];
        while self.takes(word)? {
            let next = operand(self)?;
            let next = self.condition(next)?;
            depth = depth.max(next.depth);
            nodes.push(next.node);
        }
        self.node(join(nodes), at, depth)
    }

    fn equality(&mut self) -> Parsed {
        let mut left = self.comparison()?;
        loop {
            let token = self.peek()?;
            let (at, depth) = (left.at, left.depth);
            left = match token {
                Token::Equal | Token::NotEqual => {
                    self.next = None;
                    let right = self.comparison()?;
                    let equal = self.equal(left, right)?;
                    self.maybe_not(token == Token::NotEqual, equal)?
                }
                Token::Is => {
                    self.next = None;
                    let not = self.takes(Token::Not)?;
                    self.expect(Token::Null)?;
                    let is_null = self.node(Node::IsNull(Box::new(left.node)), at, depth)?;
                    self.maybe_not(not, is_null)?
                }
                _ => return Ok(left),
            };
        }
    }

    fn maybe_not(&mut self, not: bool, part: Part) -> Parsed {
        if not { self.node(Node::Not(Box::new(part.node)), part.at, part.depth) } else { Ok(part) }
    }

    /// Source: ComparisonExpression#createEqual (4.9.3).
    fn equal(&mut self, left: Part, right: Part) -> Parsed {
        for part in [&left, &right] {
            if part.node == Node::Constant(Constant::Null) {
                return Err(self.error(part.at, "'NULL' cannot be compared."));
            }
        }
        if let (Node::Constant(first), Node::Constant(second)) = (&left.node, &right.node)
            && first.is_condition()
            && !second.is_condition()
        {
            let (first, second) = (first.describe(), second.describe());
            let reason = format!("'{first}' cannot be compared with '{second}'");
            return Err(self.error(left.at, reason));
        }
        let depth = left.depth.max(right.depth);
        self.node(Node::Equal(Box::new([left.node, right.node])), left.at, depth)
    }

    fn comparison(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let order = match self.peek()? {
                Token::More => Order::More,
                Token::MoreEqual => Order::MoreEqual,
                Token::Less => Order::Less,
                Token::LessEqual => Order::LessEqual,
                Token::Between | Token::In | Token::Not => {
                    let not = self.takes(Token::Not)?;
                    let (token, at) = self.take()?;
                    left = match token {
                        Token::Between => self.between(left, not)?,
                        Token::In => self.within(left, not)?,
                        _ => return Err(self.unexpected(token, at, "BETWEEN or IN")),
                    };
                    continue;
                }
                _ => return Ok(left),
            };
            self.next = None;
            let right = self.unary()?;
            self.must_be_ordered(&left)?;
            self.must_be_ordered(&right)?;
            let depth = left.depth.max(right.depth);
            let pair = Box::new([left.node, right.node]);
            left = self.node(Node::Compare(order, pair), left.at, depth)?;
        }
    }

    /// Source: ComparisonExpression#checkLessThanOperand (4.9.3).
    fn must_be_ordered(&self, part: &Part) -> Result<(), CompileError> {
        let is_ordered = match &part.node {
            Node::Constant(constant) => constant.is_number(),
            node => !node.is_condition(),
        };
        match is_ordered {
            true => Ok(()),
            false => {
                let reason = format!("Value '{}' cannot be compared.", part.node.describe());
                Err(self.error(part.at, reason))
            }
        }
    }

    /// Source: ComparisonExpression#createBetween, #createNotBetween (4.9.3).
    fn between(&mut self, value: Part, not: bool) -> Parsed {
        let low = self.unary()?;
        self.expect(Token::And)?;
        let high = self.unary()?;
        for part in [&value, &low, &high] {
            self.must_be_ordered(part)?;
        }
        if let (Node::Constant(least), Node::Constant(most)) = (&low.node, &high.node)
            && !not
            && evaluate::constants_in_order(least, most) == Some(false)
        {
            let reason = format!(
                "Illegal values of between, left value({}) must less than or equal to right \
                 value({})",
                least.describe(),
                most.describe()
            );
            return Err(self.error(low.at, reason));
        }
        let depth = value.depth.max(low.depth).max(high.depth);
        let parts = Box::new([value.node, low.node, high.node]);
        self.node(Node::Between { not, parts }, value.at, depth)
    }

    /// Source: ComparisonExpression#createInFilter, #createNotInFilter (4.9.3).
    fn within(&mut self, left: Part, not: bool) -> Parsed {
        self.expect(Token::Open)?;
        let mut list = Vec::new();
        loop {
            match self.take()? {
                (Token::Text(raw), _) => list.push(unquoted(raw)),
                (found, at) => return Err(self.unexpected(found, at, "a text in quotes")),
            }
            if !self.takes(Token::Comma)? {
                break;
            }
        }
        self.expect(Token::Close)?;
        list.sort_unstable();
        list.dedup();
        let Node::Property(slot) = left.node else {
            let reason =
                format!("Expected a property for In expression, got: {}", left.node.describe());
            return Err(self.error(left.at, reason));
        };
        self.node(Node::In { not, slot, list }, left.at, left.depth)
    }

    fn unary(&mut self) -> Parsed {
        self.depth += 1;
        let parsed = self.unary_here();
        self.depth -= 1;
        parsed
    }

    fn unary_here(&mut self) -> Parsed {
        let (token, at) = self.take()?;
        if self.depth > self.limits.depth_max {
            return Err(self.too_deep(at));
        }
        match token {
            Token::Plus => self.unary(),
            Token::Minus => {
                let part = self.unary()?;
                self.node(Node::Negate(Box::new(part.node)), at, part.depth)
            }
            Token::Not => {
                let part = self.unary()?;
                let part = self.condition(part)?;
                self.node(Node::Not(Box::new(part.node)), at, part.depth)
            }
            Token::Open => {
                let inner = self.or()?;
                self.expect(Token::Close)?;
                Ok(inner)
            }
            Token::Name(name) => {
                let slot = self.names.len();
                let slot = *self.names.entry(name).or_insert(slot);
                self.node(Node::Property(slot), at, 0)
            }
            _ => {
                let constant = self.constant(token, at)?;
                self.node(Node::Constant(constant), at, 0)
            }
        }
    }

    /// Source: ConstantExpression#createFromDecimal, #createFloat (4.9.3).
    fn constant(&self, token: Token, at: usize) -> Result<Constant, CompileError> {
        match token {
            Token::True => Ok(Constant::Bool(true)),
            Token::False => Ok(Constant::Bool(false)),
            Token::Null => Ok(Constant::Null),
            Token::Text(raw) => Ok(Constant::Text(unquoted(raw))),
            Token::Integer(digits) => match digits.parse::<i64>() {
                Ok(value) => Ok(i32::try_from(value).map_or(Constant::Long(value), Constant::Int)),
                Err(_) => {
                    let reason = format!("{digits} is greater than {}", i64::MAX);
                    Err(self.error(at, reason))
                }
            },
            Token::Float(digits) => {
                let value = digits.parse().unwrap_or(f64::INFINITY);
                // Like 4.9.3, which has no constant 0.0.
                let fault = match value {
                    0.0 => "less than 4.9E-324",
                    f64::INFINITY => "greater than 1.7976931348623157E308",
                    value => return Ok(Constant::Double(value)),
                };
                Err(self.error(at, format!("{digits} is {fault}")))
            }
            found => Err(self.unexpected(found, at, "a property, a constant or (")),
        }
    }
}

/// A quote is written twice.
fn unquoted(raw: &str) -> Box<str> {
    raw.replace("''", "'").into()
}

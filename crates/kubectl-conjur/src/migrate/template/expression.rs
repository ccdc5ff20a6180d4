//! What stands in an action: fields, variables, constants, calls and pipelines.

use super::{Fault, fault};

/// An expression, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// Its offset in the template.
    pub at: usize,
    /// What it is.
    pub node: Node,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// `.`
    Dot,
    /// A variable; the empty name is `$`.
    Variable(String),
    /// Fields of something.
    Fields(Box<Expression>, Vec<String>),
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// true, false.
    Bool(bool),
    /// A function with its arguments; what is piped into it is the last.
    Call(String, Vec<Expression>),
}

/// A pipeline, and the variables that get its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Their names.
    pub variables: Vec<String>,
    /// The value.
    pub value: Expression,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Field(String),
    Dot,
    Variable(String),
    Text(String),
    Number(i64),
    Sign(&'static str),
}

/// Reads a pipeline.
pub fn pipeline(text: &str, at: usize) -> Result<Pipeline, Fault> {
    let tokens = tokens(text, at)?;
    let mut reader = Reader { tokens: &tokens, next: 0, end: at + text.len() };
    let variables = reader.variables()?;
    let value = reader.pipeline()?;
    match reader.peek() {
        None => Ok(Pipeline { variables, value }),
        Some((_, at, _)) => Err(fault(*at, "this is not understood", "Write the template by hand")),
    }
}

/// A token, where it begins, and whether it follows the one before without a space.
type Placed = (Token, usize, bool);

fn tokens(text: &str, base: usize) -> Result<Vec<Placed>, Fault> {
    let (mut tokens, mut at, mut glued) = (Vec::new(), 0, false);
    while let Some(c) = text[at..].chars().next() {
        if c.is_ascii_whitespace() {
            (at, glued) = (at + 1, false);
            continue;
        }
        let rest = &text[at..];
        let (token, length) = token(rest, c).ok_or_else(|| {
            let what = format!("'{}' is not understood", rest.chars().take(12).collect::<String>());
            fault(base + at, what, "Write the template by hand")
        })?;
        tokens.push((token, base + at, glued));
        (at, glued) = (at + length, true);
    }
    Ok(tokens)
}

fn token(rest: &str, c: char) -> Option<(Token, usize)> {
    let word = |from: usize| {
        let is = |c: char| c.is_alphanumeric() || c == '_';
        rest[from..].find(|c| !is(c)).map_or(rest.len(), |end| from + end)
    };
    match c {
        '.' => {
            let end = word(1);
            let token = if end == 1 { Token::Dot } else { Token::Field(rest[1..end].to_owned()) };
            Some((token, end))
        }
        '$' => {
            let end = word(1);
            Some((Token::Variable(rest[1..end].to_owned()), end))
        }
        '"' => quoted(rest),
        '`' => {
            let end = rest[1..].find('`')?;
            Some((Token::Text(rest[1..=end].to_owned()), end + 2))
        }
        '(' => Some((Token::Sign("("), 1)),
        ')' => Some((Token::Sign(")"), 1)),
        '|' => Some((Token::Sign("|"), 1)),
        ',' => Some((Token::Sign(","), 1)),
        ':' if rest.starts_with(":=") => Some((Token::Sign(":="), 2)),
        '-' | '0'..='9' => {
            let end =
                rest[1..].find(|c: char| !c.is_alphanumeric() && c != '.').map_or(rest.len(), |end| end + 1);
            Some((Token::Number(rest[..end].parse().ok()?), end))
        }
        c if c.is_alphabetic() || c == '_' => Some((Token::Word(rest[..word(0)].to_owned()), word(0))),
        _ => None,
    }
}

/// A text in double quotes, with the escapes of Go.
fn quoted(rest: &str) -> Option<(Token, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Token::Text(text), at + 1)),
            '\\' => {
                let escape = chars.next()?.1;
                text.push(match escape {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'v' => '\x0b',
                    '\\' | '"' => escape,
                    'u' => {
                        let hex: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                        char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?
                    }
                    _ => return None,
                });
            }
            c => text.push(c),
        }
    }
    None
}

struct Reader<'t> {
    tokens: &'t [Placed],
    next: usize,
    end: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<&'t Placed> {
        self.tokens.get(self.next)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some((Token::Sign(found), ..)) if *found == sign);
        self.next += usize::from(is);
        is
    }

    fn at(&self) -> usize {
        self.peek().map_or(self.end, |(_, at, _)| *at)
    }

    /// `$x :=`, `$i, $x :=`.
    fn variables(&mut self) -> Result<Vec<String>, Fault> {
        let start = self.next;
        let mut names = Vec::new();
        while let Some((Token::Variable(name), ..)) = self.peek() {
            names.push(name.clone());
            self.next += 1;
            if self.takes(":=") {
                return Ok(names);
            }
            if !self.takes(",") {
                break;
            }
        }
        if names.len() > 1 {
            return Err(fault(self.at(), "this is not understood", "Write the template by hand"));
        }
        self.next = start;
        Ok(Vec::new())
    }

    fn pipeline(&mut self) -> Result<Expression, Fault> {
        let mut value = self.command(None)?;
        while self.takes("|") {
            value = self.command(Some(value))?;
        }
        Ok(value)
    }

    /// A function with its arguments, or one operand.
    fn command(&mut self, piped: Option<Expression>) -> Result<Expression, Fault> {
        let at = self.at();
        if let Some((Token::Word(name), ..)) = self.peek()
            && !matches!(name.as_str(), "true" | "false" | "nil")
        {
            self.next += 1;
            let mut arguments = Vec::new();
            while let Some(argument) = self.operand()? {
                arguments.push(argument);
            }
            arguments.extend(piped);
            return Ok(Expression { at, node: Node::Call(name.clone(), arguments) });
        }
        let operand = self
            .operand()?
            .ok_or_else(|| fault(at, "something is missing here", "Write the template by hand"))?;
        if piped.is_some() {
            return Err(fault(
                at,
                "a value is piped into something that is no function",
                "Write the template by hand",
            ));
        }
        Ok(operand)
    }

    fn operand(&mut self) -> Result<Option<Expression>, Fault> {
        let Some((token, at, _)) = self.peek() else { return Ok(None) };
        let of = |node| Expression { at: *at, node };
        let mut operand = match token {
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.pipeline()?;
                if !self.takes(")") {
                    return Err(fault(*at, "this bracket is not closed", "Close it"));
                }
                self.next -= 1;
                inner
            }
            Token::Sign(_) => return Ok(None),
            Token::Dot => of(Node::Dot),
            Token::Field(name) => of(Node::Fields(Box::new(of(Node::Dot)), vec![name.clone()])),
            Token::Variable(name) => of(Node::Variable(name.clone())),
            Token::Text(text) => of(Node::Text(text.clone())),
            Token::Number(number) => of(Node::Number(*number)),
            Token::Word(word) if word == "true" || word == "false" => of(Node::Bool(word == "true")),
            Token::Word(name) => of(Node::Call(name.clone(), Vec::new())),
        };
        self.next += 1;
        while let Some((Token::Field(name), _, true)) = self.peek() {
            match &mut operand.node {
                Node::Fields(_, names) => names.push(name.clone()),
                _ => operand = of(Node::Fields(Box::new(operand), vec![name.clone()])),
            }
            self.next += 1;
        }
        Ok(Some(operand))
    }
}

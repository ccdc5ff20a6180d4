//! Goes through a template and puts its translation together.

use super::{
    Fault, Names,
    expression::{Expression, Node as Of, Pipeline},
    fault, functions,
    pieces::Piece,
    tree::{Block, Node},
    value::{Kind, Level, Out, Val, key, literal},
};

const BY_HAND: &str = "Write the template by hand";

/// The translation so far.
pub struct Walk<'n> {
    /// What the template speaks of.
    pub names: &'n Names,
    /// What is made.
    pub pieces: Vec<Piece>,
    /// What has no counterpart.
    pub blocks: Vec<Fault>,
    /// What is not the same for each value.
    pub differs: Vec<Fault>,
    dot: Val,
    variables: Vec<(String, Val)>,
    loops: usize,
}

impl<'n> Walk<'n> {
    /// At the top of a template.
    pub fn new(names: &'n Names) -> Self {
        let dot = match names {
            Names::Keys { .. } => Val::Root,
            Names::Aliases(_) => Val::Group,
        };
        let (pieces, blocks, differs) = (Vec::new(), Vec::new(), Vec::new());
        Self { names, pieces, blocks, differs, variables: vec![(String::new(), dot.clone())], dot, loops: 0 }
    }

    /// Translates nodes. What can't be is noted, and the others are looked at all the same.
    pub fn nodes(&mut self, nodes: &[Node]) {
        let depth = self.variables.len();
        for node in nodes {
            if let Err(fault) = self.node(node) {
                self.blocks.push(fault);
            }
        }
        self.variables.truncate(depth);
    }

    fn node(&mut self, node: &Node) -> Result<(), Fault> {
        match node {
            Node::Text(text) => self.pieces.push(Piece::Text(text.clone())),
            Node::Print(expression) => {
                let value = self.eval(expression)?;
                self.print(value, expression.at)?;
            }
            Node::Set(name, expression) => {
                let value = self.eval(expression)?;
                self.variables.push((name.clone(), value));
            }
            Node::Fault(at, what, todo) => return Err(fault(*at, what.clone(), todo.clone())),
            Node::Block(Block::Range, head, body, otherwise) => self.range(head, body, otherwise)?,
            Node::Block(block, head, body, otherwise) => self.branch(*block, head, body, otherwise)?,
        }
        Ok(())
    }

    fn print(&mut self, value: Val, at: usize) -> Result<(), Fault> {
        match value {
            Val::Text(text) => self.pieces.push(Piece::Text(text)),
            Val::Number(number) => self.pieces.push(Piece::Text(number.to_string())),
            Val::Bool(is) => self.pieces.push(Piece::Text(is.to_string())),
            value => {
                let out = Self::out(value, at)?;
                match out.kind {
                    Kind::Text | Kind::Bool | Kind::Number => {}
                    Kind::Json => self.of_json(at),
                    Kind::List | Kind::Made => {
                        return Err(fault(at, "a list or map is written as Go shows it", BY_HAND));
                    }
                    Kind::Condition => {
                        return Err(fault(
                            at,
                            "which operand of 'and' or 'or' is written is not the same here",
                            BY_HAND,
                        ));
                    }
                }
                self.pieces.push(Piece::print(&out.text));
            }
        }
        Ok(())
    }

    /// Says that a value of JSON is written otherwise where it is no text.
    pub fn of_json(&mut self, at: usize) {
        let what = "a field of JSON is the same where it is text, true or false, or a whole number below 1,000,000; \
                    other numbers come as they stand in the JSON, null and what is missing are errors";
        let found = fault(at, what, "Keep numbers as texts where they are others");
        if !self.differs.iter().any(|other| other.what == found.what) {
            self.differs.push(found);
        }
    }

    /// `if` and `with`.
    fn branch(
        &mut self,
        block: Block,
        head: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
    ) -> Result<(), Fault> {
        let value = self.eval(&head.value)?;
        let depth = self.variables.len();
        if let [name] = head.variables.as_slice() {
            self.variables.push((name.clone(), value.clone()));
        }
        let dot = if block == Block::With { value.clone() } else { self.dot.clone() };
        match known(&value) {
            Some(true) => self.within(dot, body),
            Some(false) => self.nodes(otherwise),
            None => {
                let condition = Self::out(value, head.value.at)?;
                self.pieces.push(Piece::block(&format!("if {}", condition.text)));
                self.within(dot, body);
                if !otherwise.is_empty() {
                    self.pieces.push(Piece::block("else"));
                    self.nodes(otherwise);
                }
                self.pieces.push(Piece::block("endif"));
            }
        }
        self.variables.truncate(depth);
        Ok(())
    }

    fn within(&mut self, dot: Val, nodes: &[Node]) {
        let outer = std::mem::replace(&mut self.dot, dot);
        self.nodes(nodes);
        self.dot = outer;
    }

    fn range(&mut self, head: &Pipeline, body: &[Node], otherwise: &[Node]) -> Result<(), Fault> {
        let depth = self.variables.len();
        match self.eval(&head.value)? {
            Val::Array => self.unrolled(head, body, otherwise),
            Val::Root => self.over_keys(head, body, otherwise),
            Val::Out(out) if out.kind == Kind::List => self.over_list(&out, head, body, otherwise),
            _ => {
                let what =
                    "what is ranged over may be a list or a map, which are gone through in different ways";
                return Err(fault(head.value.at, what, BY_HAND));
            }
        }
        self.variables.truncate(depth);
        Ok(())
    }

    /// The secrets of a group are known: each gets its own text.
    fn unrolled(&mut self, head: &Pipeline, body: &[Node], otherwise: &[Node]) {
        let Names::Aliases(aliases) = self.names else { return };
        if aliases.is_empty() {
            return self.nodes(otherwise);
        }
        for (n, (alias, key)) in aliases.iter().enumerate() {
            let secret = Val::Secret(alias.clone(), key.clone());
            let number = Val::Number(i64::try_from(n).unwrap_or(i64::MAX));
            self.looped(head, number, secret.clone());
            self.within(secret, body);
        }
    }

    /// Gives the variables of a loop their values: the index or key, and the element.
    fn looped(&mut self, head: &Pipeline, first: Val, element: Val) {
        match head.variables.as_slice() {
            [one] => self.variables.push((one.clone(), element)),
            [index, one] => self.variables.extend([(index.clone(), first), (one.clone(), element)]),
            _ => {}
        }
    }

    fn over_keys(&mut self, head: &Pipeline, body: &[Node], otherwise: &[Node]) {
        self.loops += 1;
        let (name, value) = (format!("it_{}_key", self.loops), format!("it_{}", self.loops));
        self.pieces.push(Piece::block(&format!("for {name}, {value} in data | items")));
        let element = Val::Out(word(&value, Kind::Text));
        self.looped(head, Val::Out(word(&name, Kind::Text)), element.clone());
        self.end_loop(element, body, otherwise);
    }

    fn over_list(&mut self, list: &Out, head: &Pipeline, body: &[Node], otherwise: &[Node]) {
        self.loops += 1;
        let name = format!("it_{}", self.loops);
        self.pieces.push(Piece::block(&format!("for {name} in {}", list.operand())));
        let index = format!("it_{}_index", self.loops);
        if head.variables.len() == 2 {
            self.pieces.push(Piece::block(&format!("set {index} = loop.index0")));
        }
        let element = Val::Out(word(&name, Kind::Text));
        self.looped(head, Val::Out(word(&index, Kind::Number)), element.clone());
        self.end_loop(element, body, otherwise);
    }

    fn end_loop(&mut self, element: Val, body: &[Node], otherwise: &[Node]) {
        self.within(element, body);
        if !otherwise.is_empty() {
            self.pieces.push(Piece::block("else"));
            self.nodes(otherwise);
        }
        self.pieces.push(Piece::block("endfor"));
    }

    /// What an expression stands for.
    pub fn eval(&mut self, expression: &Expression) -> Result<Val, Fault> {
        let at = expression.at;
        match &expression.node {
            Of::Dot => Ok(self.dot.clone()),
            Of::Variable(name) => {
                let found = self.variables.iter().rev().find(|(other, _)| other == name);
                found
                    .map(|(_, value)| value.clone())
                    .ok_or_else(|| fault(at, format!("there is no variable ${name}"), BY_HAND))
            }
            Of::Text(text) => Ok(Val::Text(text.clone())),
            Of::Number(number) => Ok(Val::Number(*number)),
            Of::Bool(is) => Ok(Val::Bool(*is)),
            Of::Fields(of, names) => {
                let mut value = self.eval(of)?;
                for name in names {
                    value = self.field(value, name, at)?;
                }
                Ok(value)
            }
            Of::Call(name, arguments) => {
                let values =
                    arguments.iter().map(|argument| self.eval(argument)).collect::<Result<_, _>>()?;
                functions::call(self, at, name, values)
            }
        }
    }

    fn field(&mut self, of: Val, name: &str, at: usize) -> Result<Val, Fault> {
        let none = || Err(fault(at, format!("'.{name}' is a field of something that has none"), BY_HAND));
        match of {
            Val::Root => Ok(Val::Out(word(&key(name), Kind::Text))),
            Val::Group if name == "SecretsArray" => Ok(Val::Array),
            Val::Group if name == "SecretsMap" => Ok(Val::Map),
            Val::Map => self.secret(name, at),
            Val::Secret(alias, _) if name == "Alias" => Ok(Val::Text(alias)),
            Val::Secret(_, of) if name == "Value" => Ok(Val::Out(word(&key(&of), Kind::Text))),
            Val::Split(out) => match name.strip_prefix('_').and_then(|n| n.parse::<usize>().ok()) {
                Some(n) => Ok(Val::Out(word(&format!("{}[{n}]", out.subscripted()), Kind::Text))),
                None => none(),
            },
            Val::Out(out) if out.kind == Kind::Json => {
                Ok(Val::Out(word(&format!("{}[{}]", out.subscripted(), literal(name)), Kind::Json)))
            }
            _ => none(),
        }
    }

    /// A secret of the group, by its alias.
    pub fn secret(&self, alias: &str, at: usize) -> Result<Val, Fault> {
        let Names::Aliases(aliases) = self.names else {
            return Err(fault(at, "the function 'secret' is one of the Secrets Provider", BY_HAND));
        };
        let found = aliases.iter().find(|(other, _)| other == alias);
        let (alias, key) = found.ok_or_else(|| {
            fault(
                at,
                format!("the group has no secret '{alias}'"),
                "Correct the alias, or add the secret to the group",
            )
        })?;
        Ok(Val::Secret(alias.clone(), key.clone()))
    }

    /// A value as it is rendered.
    pub fn out(value: Val, at: usize) -> Result<Out, Fault> {
        match value {
            Val::Out(out) => Ok(out),
            Val::Text(text) => Ok(word(&literal(&text), Kind::Text)),
            Val::Number(number) => Ok(word(&number.to_string(), Kind::Number)),
            Val::Bool(is) => Ok(word(&is.to_string(), Kind::Bool)),
            Val::Root | Val::Group | Val::Array | Val::Map | Val::Secret(..) | Val::Split(_) => {
                Err(fault(at, "a whole map or list is used where a value is expected", BY_HAND))
            }
        }
    }
}

/// An expression that needs no brackets.
pub fn word(text: &str, kind: Kind) -> Out {
    Out { text: text.to_owned(), level: Level::Tight, kind }
}

/// Whether a value is true, where that is known.
pub fn known(value: &Val) -> Option<bool> {
    match value {
        Val::Text(text) => Some(!text.is_empty()),
        Val::Number(number) => Some(*number != 0),
        Val::Bool(is) => Some(*is),
        Val::Secret(..) => Some(true),
        _ => None,
    }
}

//! Goes through a template and puts its translation together.

use super::{
    Fault, Names,
    context::Context,
    expression::{Expression, Node as Of, Pipeline},
    fault, functions,
    pieces::Piece,
    tree::{Block, TreeNode},
    value::{Out, Val, ValueKind, key, known, literal, rendered, word},
};

const BY_HAND: &str = "Write the template by hand";

/// The translation so far.
pub struct Walk<'n> {
    /// What it speaks of, and what is not the same for each value.
    pub context: Context<'n>,
    /// What is made.
    pub pieces: Vec<Piece>,
    /// What has no counterpart.
    pub blocks: Vec<Fault>,
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
        let context = Context { names, differs: Vec::new() };
        let (pieces, blocks) = (Vec::new(), Vec::new());
        Self { context, pieces, blocks, variables: vec![(String::new(), dot.clone())], dot, loops: 0 }
    }

    /// Translates nodes. What can't be is noted, and the others are looked at all the same.
    pub fn nodes(&mut self, nodes: &[TreeNode]) {
        let depth = self.variables.len();
        for node in nodes {
            if let Err(fault) = self.node(node) {
                self.blocks.push(fault);
            }
        }
        self.variables.truncate(depth);
    }

    fn node(&mut self, node: &TreeNode) -> Result<(), Fault> {
        match node {
            TreeNode::Text(text) => self.pieces.push(Piece::Text(text.clone())),
            TreeNode::Print(expression) => {
                let value = self.eval(expression)?;
                self.print(value, expression.at)?;
            }
            TreeNode::Set(name, expression) => {
                let value = self.eval(expression)?;
                self.variables.push((name.clone(), value));
            }
            TreeNode::Fault(at, what, todo) => return Err(fault(*at, what.clone(), todo.clone())),
            TreeNode::Block(Block::Range, head, body, otherwise) => self.range(head, body, otherwise)?,
            TreeNode::Block(block, head, body, otherwise) => self.branch(*block, head, body, otherwise)?,
        }
        Ok(())
    }

    fn print(&mut self, value: Val, at: usize) -> Result<(), Fault> {
        match value {
            Val::Text(text) => self.pieces.push(Piece::Text(text)),
            Val::Number(number) => self.pieces.push(Piece::Text(number.to_string())),
            Val::Bool(is) => self.pieces.push(Piece::Text(is.to_string())),
            value => {
                let out = rendered(value, at)?;
                match out.kind {
                    ValueKind::Text | ValueKind::Bool | ValueKind::Number => {}
                    ValueKind::Json => self.context.of_json(at),
                    ValueKind::List | ValueKind::Made => {
                        return Err(fault(at, "a list or map is written as Go shows it", BY_HAND));
                    }
                    ValueKind::Condition => {
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

    /// `if` and `with`.
    fn branch(
        &mut self,
        block: Block,
        head: &Pipeline,
        body: &[TreeNode],
        otherwise: &[TreeNode],
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
                let condition = rendered(value, head.value.at)?;
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

    fn within(&mut self, dot: Val, nodes: &[TreeNode]) {
        let outer = std::mem::replace(&mut self.dot, dot);
        self.nodes(nodes);
        self.dot = outer;
    }

    fn range(&mut self, head: &Pipeline, body: &[TreeNode], otherwise: &[TreeNode]) -> Result<(), Fault> {
        let depth = self.variables.len();
        match self.eval(&head.value)? {
            Val::Array => self.unrolled(head, body, otherwise),
            Val::Root => self.over_keys(head, body, otherwise),
            Val::Out(out) if out.kind == ValueKind::List => self.over_list(&out, head, body, otherwise),
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
    fn unrolled(&mut self, head: &Pipeline, body: &[TreeNode], otherwise: &[TreeNode]) {
        let Names::Aliases(aliases) = self.context.names else { return };
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

    fn over_keys(&mut self, head: &Pipeline, body: &[TreeNode], otherwise: &[TreeNode]) {
        self.loops += 1;
        let (name, value) = (format!("it_{}_key", self.loops), format!("it_{}", self.loops));
        self.pieces.push(Piece::block(&format!("for {name}, {value} in data | items")));
        let element = Val::Out(word(&value, ValueKind::Text));
        self.looped(head, Val::Out(word(&name, ValueKind::Text)), element.clone());
        self.end_loop(element, body, otherwise);
    }

    fn over_list(&mut self, list: &Out, head: &Pipeline, body: &[TreeNode], otherwise: &[TreeNode]) {
        self.loops += 1;
        let name = format!("it_{}", self.loops);
        self.pieces.push(Piece::block(&format!("for {name} in {}", list.operand())));
        let index = format!("it_{}_index", self.loops);
        if head.variables.len() == 2 {
            self.pieces.push(Piece::block(&format!("set {index} = loop.index0")));
        }
        let element = Val::Out(word(&name, ValueKind::Text));
        self.looped(head, Val::Out(word(&index, ValueKind::Number)), element.clone());
        self.end_loop(element, body, otherwise);
    }

    fn end_loop(&mut self, element: Val, body: &[TreeNode], otherwise: &[TreeNode]) {
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
                functions::call(&mut self.context, at, name, values)
            }
        }
    }

    fn field(&mut self, of: Val, name: &str, at: usize) -> Result<Val, Fault> {
        let none = || Err(fault(at, format!("'.{name}' is a field of something that has none"), BY_HAND));
        match of {
            Val::Root => Ok(Val::Out(word(&key(name), ValueKind::Text))),
            Val::Group if name == "SecretsArray" => Ok(Val::Array),
            Val::Group if name == "SecretsMap" => Ok(Val::Map),
            Val::Map => self.context.secret(name, at),
            Val::Secret(alias, _) if name == "Alias" => Ok(Val::Text(alias)),
            Val::Secret(_, of) if name == "Value" => Ok(Val::Out(word(&key(&of), ValueKind::Text))),
            Val::Split(out) => match name.strip_prefix('_').and_then(|n| n.parse::<usize>().ok()) {
                Some(n) => Ok(Val::Out(word(&format!("{}[{n}]", out.subscripted()), ValueKind::Text))),
                None => none(),
            },
            Val::Out(out) if out.kind == ValueKind::Json => {
                Ok(Val::Out(word(&format!("{}[{}]", out.subscripted(), literal(name)), ValueKind::Json)))
            }
            _ => none(),
        }
    }
}

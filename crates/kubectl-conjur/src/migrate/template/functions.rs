//! The functions of Go's templates and of sprig that have an exact counterpart.

use super::{
    Fault, Names,
    call::{Answer, Call},
    context::Context,
    fault, text_functions,
    value::{Level, Out, Val, ValueKind, key, known, literal, word},
};

/// The functions that the Secrets Provider knows.
const PROVIDER: [&str; 20] = [
    "secret", "b64enc", "b64dec", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "index", "len",
    "print", "printf", "println", "html", "js", "urlquery",
];

/// What of JSON Go writes in another way than this language, in the order in which it is replaced.
const RAW_JSON: &str = "tojson | replace(\"\\u2028\", \"\\\\u2028\") | replace(\"\\u2029\", \"\\\\u2029\")";
const HTML_JSON: &str =
    " | replace(\"&\", \"\\\\u0026\") | replace(\"<\", \"\\\\u003c\") | replace(\">\", \"\\\\u003e\")";

/// Calls a function.
pub fn call(context: &mut Context, at: usize, name: &str, arguments: Vec<Val>) -> Result<Val, Fault> {
    if matches!(context.names, Names::Aliases(_)) && !PROVIDER.contains(&name) {
        return Err(fault(
            at,
            format!("the Secrets Provider has no function '{name}'"),
            "Correct the template",
        ));
    }
    let mut call = Call { context, at, name, arguments };
    call.logic()
        .or_else(|| call.json())
        .or_else(|| call.lists())
        .or_else(|| text_functions::call(&mut call))
        .unwrap_or_else(|| {
            let what = format!("the function '{name}' has no exact counterpart");
            Err(fault(
                at,
                what,
                "Write the template by hand, with the functions that docs/conjursecret.md names",
            ))
        })
}

impl Call<'_, '_, '_> {
    fn conditions(&self) -> Result<Vec<Out>, Fault> {
        (0..self.arguments.len()).map(|n| self.out(n)).collect()
    }

    fn logic(&mut self) -> Answer {
        Some(match self.name {
            "and" | "or" => self.and_or(),
            "not" | "empty" => self.not(),
            "eq" | "ne" => self.equal(),
            "default" => self.default(),
            "coalesce" => self.coalesce(),
            "ternary" => self.ternary(),
            _ => return None,
        })
    }

    fn and_or(&mut self) -> Result<Val, Fault> {
        if self.arguments.is_empty() {
            return self.unfit("has too few arguments here");
        }
        if self.arguments.iter().all(|value| matches!(value, Val::Bool(_))) {
            let mut all = self.arguments.iter().filter_map(known);
            return Ok(Val::Bool(if self.name == "and" { all.all(|is| is) } else { all.any(|is| is) }));
        }
        let operands = self.conditions()?;
        let kind = if operands.iter().all(|out| out.kind == ValueKind::Bool) {
            ValueKind::Bool
        } else {
            ValueKind::Condition
        };
        let text = operands.iter().map(Out::operand).collect::<Vec<_>>().join(&format!(" {} ", self.name));
        Ok(Val::Out(Out { text, level: Level::Loose, kind }))
    }

    fn not(&mut self) -> Result<Val, Fault> {
        self.takes(1)?;
        if let Some(is) = known(&self.arguments[0]) {
            return Ok(Val::Bool(!is));
        }
        let text = format!("not {}", self.out(0)?.operand());
        Ok(Val::Out(Out { text, level: Level::Loose, kind: ValueKind::Bool }))
    }

    /// The first of `eq` with any of the others.
    fn equal(&mut self) -> Result<Val, Fault> {
        if self.arguments.len() < 2 || self.name == "ne" && self.arguments.len() > 2 {
            return self.unfit("is understood with two operands");
        }
        let sign = if self.name == "eq" { "==" } else { "!=" };
        let first = self.out(0)?;
        let mut parts = Vec::new();
        for n in 1..self.arguments.len() {
            let other = self.out(n)?;
            let text = |out: &Out| matches!(out.kind, ValueKind::Text | ValueKind::Json);
            let simple = |out: &Out| {
                matches!(out.kind, ValueKind::Number | ValueKind::Bool) && first.kind == other.kind
            };
            if !(text(&first) && text(&other) || simple(&first)) {
                return self.unfit("compares things of different kinds");
            }
            parts.push(format!("{} {sign} {}", first.operand(), other.operand()));
        }
        Ok(Val::Out(Out { text: parts.join(" or "), level: Level::Loose, kind: ValueKind::Bool }))
    }

    fn default(&mut self) -> Result<Val, Fault> {
        self.takes(2)?;
        match known(&self.arguments[1]) {
            Some(true) => return Ok(self.arguments[1].clone()),
            Some(false) => return Ok(self.arguments[0].clone()),
            None => {}
        }
        let (other, value) = (self.out(0)?, self.out(1)?);
        let kind = if other.kind == value.kind { value.kind } else { ValueKind::Json };
        Ok(Val::Out(value.filtered(&format!("default({}, true)", other.text), kind)))
    }

    /// Where all are empty, Go writes `<no value>`: the last has to be something.
    fn coalesce(&mut self) -> Result<Val, Fault> {
        let Some(Some(true)) = self.arguments.last().map(known) else {
            return self
                .unfit("is only exact with a last argument that stands in the template and is not empty");
        };
        let mut made = self.last()?;
        for n in (0..self.arguments.len() - 1).rev() {
            made = self.text(n)?.filtered(&format!("default({}, true)", made.text), ValueKind::Text);
        }
        Ok(Val::Out(made))
    }

    fn ternary(&mut self) -> Result<Val, Fault> {
        self.takes(3)?;
        let (yes, no, condition) = (self.out(0)?, self.out(1)?, self.out(2)?);
        if condition.kind != ValueKind::Bool || yes.kind != no.kind {
            return self.unfit("takes a condition that is true or false, and two values of one kind");
        }
        let text = format!("{} if {} else {}", yes.operand(), condition.operand(), no.operand());
        Ok(Val::Out(Out { text, level: Level::Loose, kind: yes.kind }))
    }

    fn json(&mut self) -> Answer {
        Some(match self.name {
            "fromJson" | "mustFromJson" => self.takes(1).and_then(|()| {
                let value = self.text(0)?;
                Ok(Val::Out(value.filtered("fromjson", ValueKind::Json)))
            }),
            "toJson" | "mustToJson" => self.json_of(&format!("{RAW_JSON}{HTML_JSON}")),
            "toRawJson" | "mustToRawJson" => self.json_of(RAW_JSON),
            "dict" => self.dict(),
            "get" => self.get(),
            "hasKey" => self.has_key(),
            "index" => self.index(),
            _ => return None,
        })
    }

    fn json_of(&mut self, filters: &str) -> Result<Val, Fault> {
        self.takes(1)?;
        if self.arguments[0] == Val::Root {
            return Ok(Val::Out(word("data", ValueKind::Made).filtered(filters, ValueKind::Text)));
        }
        let value = self.out(0)?;
        if matches!(value.kind, ValueKind::Json | ValueKind::Condition) {
            return self.unfit("of what was JSON writes numbers and the order of fields in another way");
        }
        Ok(Val::Out(value.filtered(filters, ValueKind::Text)))
    }

    fn dict(&mut self) -> Result<Val, Fault> {
        if self.arguments.len() % 2 == 1 {
            return self.unfit("takes keys and values");
        }
        let mut pairs = Vec::new();
        for n in (0..self.arguments.len()).step_by(2) {
            let (key, value) = (self.text(n)?, self.out(n + 1)?);
            if matches!(value.kind, ValueKind::Json | ValueKind::Condition) {
                return self.unfit("is only exact with values that are not fields of JSON");
            }
            pairs.push(format!("{}: {}", key.operand(), value.operand()));
        }
        Ok(Val::Out(word(&format!("{{{}}}", pairs.join(", ")), ValueKind::Made)))
    }

    fn get(&mut self) -> Result<Val, Fault> {
        self.takes(2)?;
        let of = self.out(0)?;
        if of.kind != ValueKind::Json {
            return self.unfit("takes a map of JSON");
        }
        let field = word(&format!("{}[{}]", of.subscripted(), self.text(1)?.text), ValueKind::Json);
        Ok(Val::Out(field.filtered("default(\"\")", ValueKind::Json)))
    }

    fn has_key(&mut self) -> Result<Val, Fault> {
        self.takes(2)?;
        let of = self.out(0)?;
        if of.kind != ValueKind::Json {
            return self.unfit("takes a map of JSON");
        }
        let text = format!("{} in {}", self.text(1)?.operand(), of.operand());
        Ok(Val::Out(Out { text, level: Level::Loose, kind: ValueKind::Bool }))
    }

    fn index(&mut self) -> Result<Val, Fault> {
        match self.arguments.first().cloned() {
            Some(Val::Root) => {
                self.takes(2)?;
                let name = self.constant(1)?.to_owned();
                Ok(self.key_or_nothing(&name))
            }
            Some(Val::Map) => {
                self.takes(2)?;
                let alias = self.constant(1)?.to_owned();
                self.context.secret(&alias, self.at)
            }
            Some(Val::Out(of)) if of.kind == ValueKind::List => match self.arguments.get(1) {
                Some(Val::Number(n)) if *n >= 0 && self.arguments.len() == 2 => {
                    Ok(Val::Out(word(&format!("{}[{n}]", of.subscripted()), ValueKind::Text)))
                }
                _ => self.unfit("of a list is understood with a number that stands in the template"),
            },
            Some(Val::Out(of)) if of.kind == ValueKind::Json => {
                let mut text = of.subscripted();
                for step in &self.arguments[1..] {
                    match step {
                        Val::Text(name) => text.extend(["[", &literal(name), "]"]),
                        Val::Number(n) if *n >= 0 => text.extend(["[", &n.to_string(), "]"]),
                        _ => {
                            return self.unfit("of JSON is understood with steps that stand in the template");
                        }
                    }
                }
                Ok(Val::Out(word(&text, ValueKind::Json)))
            }
            _ => self.unfit("is understood of the keys, of a list and of JSON"),
        }
    }

    /// `index` of a key that is not there gives an empty text, where a field is an error.
    fn key_or_nothing(&self, name: &str) -> Val {
        let Names::Keys { known, open } = self.context.names else { return Val::Text(String::new()) };
        if known.contains(name) {
            Val::Out(word(&key(name), ValueKind::Text))
        } else if *open {
            Val::Out(word(&key(name), ValueKind::Text).filtered("default(\"\")", ValueKind::Text))
        } else {
            Val::Text(String::new())
        }
    }

    fn lists(&mut self) -> Answer {
        Some(match self.name {
            "list" => self.list(),
            "splitList" => self.split().map(Val::Out),
            "split" => self.split().map(Val::Split),
            "join" => self.join(),
            "first" | "last" => self.list_argument(0).map(|list| {
                let filtered = list.filtered(self.name, ValueKind::Text);
                Val::Out(filtered)
            }),
            "has" => self.list_argument(1).and_then(|list| {
                let text = format!("{} in {}", self.text(0)?.operand(), list.operand());
                Ok(Val::Out(Out { text, level: Level::Loose, kind: ValueKind::Bool }))
            }),
            "len" => self.list_argument(0).map(|list| Val::Out(list.filtered("length", ValueKind::Number))),
            _ => return None,
        })
    }

    fn list_argument(&self, n: usize) -> Result<Out, Fault> {
        match self.out(n)? {
            out if out.kind == ValueKind::List => Ok(out),
            _ => self.unfit("is only exact of a list of texts"),
        }
    }

    fn list(&mut self) -> Result<Val, Fault> {
        let items = self.conditions()?;
        if items.iter().any(|item| matches!(item.kind, ValueKind::Json | ValueKind::Condition)) {
            return self.unfit("is only exact with values that are not fields of JSON");
        }
        let is_text = items.iter().all(|item| item.kind == ValueKind::Text);
        let text = items.iter().map(Out::operand).collect::<Vec<_>>().join(", ");
        Ok(Val::Out(word(&format!("[{text}]"), if is_text { ValueKind::List } else { ValueKind::Made })))
    }

    fn split(&mut self) -> Result<Out, Fault> {
        self.takes(2)?;
        let separator = self.constant(0)?;
        if separator.is_empty() {
            return self.unfit("needs a separator");
        }
        Ok(self.text(1)?.filtered(&format!("split({})", literal(separator)), ValueKind::List))
    }

    fn join(&mut self) -> Result<Val, Fault> {
        self.takes(2)?;
        let separator = self.text(0)?.text;
        Ok(Val::Out(self.list_argument(1)?.filtered(&format!("join({separator})"), ValueKind::Text)))
    }
}

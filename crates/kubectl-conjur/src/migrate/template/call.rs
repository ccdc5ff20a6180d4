//! A call of a function, and how its arguments are taken.

use super::{
    Fault,
    context::Context,
    fault,
    value::{Out, Val, ValueKind, rendered},
};

/// A call of a function.
pub struct Call<'w, 'n, 'c> {
    /// Where it stands.
    pub context: &'w mut Context<'n>,
    /// Its offset.
    pub at: usize,
    /// The function.
    pub name: &'c str,
    /// Its arguments.
    pub arguments: Vec<Val>,
}

/// What a family of functions says of a call: nothing, where it is none of them.
pub type Answer = Option<Result<Val, Fault>>;

impl Call<'_, '_, '_> {
    /// Something is not as it has to be for this function.
    pub fn unfit<T>(&self, what: &str) -> Result<T, Fault> {
        Err(fault(self.at, format!("'{}' {what}", self.name), "Write the template by hand"))
    }

    /// An argument as it is rendered.
    pub fn out(&self, n: usize) -> Result<Out, Fault> {
        match self.arguments.get(n) {
            Some(value) => rendered(value.clone(), self.at),
            None => self.unfit("has too few arguments here"),
        }
    }

    /// The last argument, which is what is piped in.
    pub fn last(&self) -> Result<Out, Fault> {
        self.out(self.arguments.len().wrapping_sub(1))
    }

    /// A text.
    pub fn text(&self, n: usize) -> Result<Out, Fault> {
        match self.out(n)? {
            out if matches!(out.kind, ValueKind::Text | ValueKind::Json) => Ok(out),
            _ => self.unfit("takes a text"),
        }
    }

    /// A text that is known.
    pub fn constant(&self, n: usize) -> Result<&str, Fault> {
        match self.arguments.get(n) {
            Some(Val::Text(text)) => Ok(text),
            _ => self.unfit("is only exact here with a text that stands in the template"),
        }
    }

    /// That there are so many arguments.
    pub fn takes(&self, count: usize) -> Result<(), Fault> {
        if self.arguments.len() == count { Ok(()) } else { self.unfit(&format!("takes {count} arguments")) }
    }
}

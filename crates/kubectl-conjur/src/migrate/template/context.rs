//! What a template speaks of, and what of it is not the same for each value.

use super::{Fault, Names, fault, value::Val};

const BY_HAND: &str = "Write the template by hand";

/// It.
pub struct Context<'n> {
    /// What the template speaks of.
    pub names: &'n Names,
    /// What is not the same for each value.
    pub differs: Vec<Fault>,
}

impl Context<'_> {
    /// Notes what is not the same, once.
    pub fn differs(&mut self, found: Fault) {
        if !self.differs.iter().any(|other| other.what == found.what) {
            self.differs.push(found);
        }
    }

    /// Says that a value of JSON is written otherwise where it is no text.
    pub fn of_json(&mut self, at: usize) {
        let what = "a field of JSON is the same where it is text, true or false, or a whole number below 1,000,000; \
                    other numbers come as they stand in the JSON, null and what is missing are errors";
        let found = fault(at, what, "Keep numbers as texts where they are others");
        self.differs(found);
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
}

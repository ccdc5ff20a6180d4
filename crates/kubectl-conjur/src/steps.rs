//! What was looked at, one after the other, and what to do where it is not well.

use serde::Serialize;
use serde_json::json;

use crate::{
    Ended,
    show::{Shown, Tone, toned, wrapped},
};

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Good,
    Bad,
    /// It could not be looked at.
    Unknown,
    /// It was left out, since a step before failed or nobody asked for it.
    Skipped,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// In a word: `TLS`.
    pub name: String,
    pub state: State,
    /// What is so.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// All looks of a command.
#[derive(Debug, Default)]
pub struct Steps {
    pub all: Vec<Step>,
}

impl Steps {
    pub fn good(&mut self, name: &str, message: impl Into<String>) {
        self.add(name, State::Good, message, None);
    }

    pub fn bad(&mut self, name: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(name, State::Bad, message, Some(fix.into()));
    }

    pub fn unknown(&mut self, name: &str, message: impl Into<String>) {
        self.add(name, State::Unknown, message, None);
    }

    pub fn skipped(&mut self, name: &str, message: impl Into<String>) {
        self.add(name, State::Skipped, message, None);
    }

    fn add(&mut self, name: &str, state: State, message: impl Into<String>, fix: Option<String>) {
        self.all.push(Step { name: name.to_owned(), state, message: message.into(), fix });
    }

    pub fn ended(&self) -> Ended {
        if self.all.iter().any(|step| step.state == State::Bad) { Ended::Differs } else { Ended::Well }
    }

    /// With what they are about, and its name as kubectl takes it.
    pub fn shown(&self, about: &str, name: &str) -> Shown {
        let width = self.all.iter().map(|step| step.name.chars().count()).max().unwrap_or_default();
        let mut text = format!("{about}\n");
        for step in &self.all {
            let (mark, tone) = match step.state {
                State::Good => ("ok", Tone::Good),
                State::Bad => ("no", Tone::Bad),
                State::Unknown => ("??", Tone::Waiting),
                State::Skipped => ("--", Tone::Faint),
            };
            let head = format!("  {mark}  {:width$}  ", step.name);
            let indent = " ".repeat(head.chars().count());
            let body = wrapped(&step.message, &indent);
            text += &format!("  {}  {:width$}  {}", toned(tone, mark), step.name, body.trim_start());
            if let Some(fix) = &step.fix {
                // Lines to be copied stay whole.
                for line in fix.lines() {
                    text += &if line.starts_with(' ') || line.starts_with('-') {
                        format!("{indent}{line}\n")
                    } else {
                        wrapped(line, &indent)
                    };
                }
            }
        }
        let well = self.ended() == Ended::Well;
        Shown {
            text,
            data: json!({ "object": about, "well": well, "steps": self.all }),
            names: vec![name.to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_lined_up_and_what_is_to_be_copied_stays_whole() {
        let mut steps = Steps::default();
        steps.good("reach", "fine");
        steps.bad("login", "refused", "Do this:\n- !permit\n  role: !host a");
        let text = anstream::adapter::strip_str(&steps.shown("cjc/conjur", "").text).to_string();
        assert_eq!(
            text,
            "cjc/conjur\n  ok  reach  fine\n  no  login  refused\n             Do this:\n             - !permit\n               role: !host a\n"
        );
        assert_eq!(steps.ended(), Ended::Differs);
    }
}

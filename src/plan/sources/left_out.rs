//! Ids that a list brings and that can't be asked for cost only themselves: whoever may make a variable below a prefix that
//! others search would stop all of them.

use std::fmt::Write as _;

use crate::api::condition::clip;

/// How many a message names.
const NAMED: usize = 3;
/// How much of one a message shows.
const SHOWN: usize = 100;

/// What was found and is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    count: usize,
    first: Vec<String>,
}

impl LeftOut {
    /// One more.
    pub fn add(&mut self, id: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(clip(id, SHOWN).to_owned());
        }
    }

    /// What there is to say of it; none where nothing is left out.
    pub fn note(&self) -> Option<String> {
        let (count, s, their) = match self.count {
            0 => return None,
            1 => (1, "", "its id"),
            count => (count, "s", "their ids"),
        };
        let mut note = format!(
            "{count} variable{s} that spec.dataFrom finds can't be asked for by {their} (an empty, '.' or '..' segment, a \
             control character, or too long) and {} left out: ",
            if count == 1 { "is" } else { "are" }
        );
        for (at, id) in self.first.iter().enumerate() {
            let _ = write!(note, "{}{id:?}", if at == 0 { "" } else { ", " });
        }
        if self.count > self.first.len() {
            note.push_str(", …");
        }
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_and_the_first_are_named_in_bounds() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.note(), None);
        left_out.add("apps/a//b");
        assert!(left_out.note().unwrap().starts_with("1 variable that spec.dataFrom finds can't"));
        assert!(left_out.note().unwrap().ends_with("is left out: \"apps/a//b\""));
        left_out.add("apps/tail\n/");
        (0..100_000).for_each(|_| left_out.add(&"x/".repeat(5_000)));
        let note = left_out.note().unwrap();
        assert!(note.starts_with("100002 variables") && note.contains(r#""apps/tail\n/""#), "{note}");
        assert!(note.ends_with(", …") && note.len() < 500, "{note}");
    }
}

//! What a list brings and a Secret can't hold costs only itself: whoever may make a variable below a prefix that others
//! search would stop all of them.

use std::fmt::Write as _;

use crate::api::condition::clip;

/// How many a message names.
const NAMED: usize = 3;
/// How much of one a message shows.
const SHOWN: usize = 100;

/// What was found and is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// These can't be asked for.
    ids: Odd,
    /// The keys of these can't be, or are others'.
    keys: Odd,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Odd {
    count: usize,
    first: Vec<String>,
}

impl LeftOut {
    /// One more that can't be asked for by its id.
    pub fn add(&mut self, id: &str) {
        self.ids.add(id);
    }

    /// One more whose key can't be one, or is that of something else.
    pub fn add_for_its_key(&mut self, id: &str) {
        self.keys.add(id);
    }

    /// With the keys that were left out `before`: keys are made only where values are fetched.
    #[must_use]
    pub fn with_keys_of(&self, before: &Self) -> Self {
        Self { ids: self.ids.clone(), keys: before.keys.clone() }
    }

    /// What there is to say of it; none where nothing is left out.
    pub fn note(&self) -> Option<String> {
        let ids = self.ids.note(
            "can't be asked for by its id (an empty, '.' or '..' segment, a control character, or too long)",
            "can't be asked for by their ids (an empty, '.' or '..' segment, a control character, or too long)",
        );
        let keys = self.keys.note(
            "has a key that a Secret can't have or that something else has (rename it with rewrite)",
            "have keys that a Secret can't have or that something else has (rename them with rewrite)",
        );
        let notes: Vec<_> = ids.into_iter().chain(keys).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

impl Odd {
    fn add(&mut self, id: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(clip(id, SHOWN).to_owned());
        }
    }

    fn note(&self, of_one: &str, of_many: &str) -> Option<String> {
        let mut note = match self.count {
            0 => return None,
            1 => format!("1 variable that spec.dataFrom finds {of_one} and is left out: "),
            count => format!("{count} variables that spec.dataFrom finds {of_many} and are left out: "),
        };
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

    #[test]
    fn what_is_left_out_for_its_key_is_told_apart_and_remembered_until_the_next_fetch() {
        let mut before = LeftOut::default();
        before.add_for_its_key("apps/my key");
        let of_keys = before.note().unwrap();
        assert!(of_keys.starts_with("1 variable that spec.dataFrom finds has a key"), "{of_keys}");
        let mut now = LeftOut::default();
        assert_eq!(now.with_keys_of(&before), before);
        now.add("a//b");
        let both = now.with_keys_of(&before).note().unwrap();
        assert_eq!(both, format!("{}; {of_keys}", now.note().unwrap()));
    }
}

//! Regular expressions that a tenant writes. Each is bounded by itself, all of an object together, and what matching them
//! takes by a time; compiled where it is used, and dropped there.

use std::time::{Duration, Instant};

use regex_automata::{
    Input,
    meta::{BuildError, Config, Regex},
    util::{interpolate, syntax},
};

use crate::limits::{
    self, Limit, REGEX_BYTES, REGEX_GROUP_BYTES, REGEX_NESTING, REGEX_OBJECT_BYTES, REGEX_SMALL_BYTES,
    REGEX_TEXT_BYTES,
};

/// What is left of an object's bytes for compiled expressions.
#[derive(Clone, Copy, Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(REGEX_OBJECT_BYTES)
    }
}

/// A compiled expression. It takes time linear in what it is matched with.
#[derive(Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles an expression, and takes what it needs of the object's budget.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn compile(text: &str, budget: &mut Budget) -> Result<Self, String> {
        // Its tree is built before the nesting in it is looked at, and takes far more than the text.
        if text.len() > REGEX_TEXT_BYTES {
            return Err("it has more than 1,024 characters".to_owned());
        }
        // What is small is also kept backwards, as the fastest way to match needs it. Of what is large that is several times
        // as much; it is matched in the way that does without.
        let built = match build(text, REGEX_SMALL_BYTES, true) {
            // What is built is up to twice as large before it is brought into its form.
            Err(error) if error.size_limit().is_some() => build(text, 2 * REGEX_BYTES, false),
            built => built,
        };
        let regex = built.map_err(|error| in_words(&error))?;
        let bytes = regex.memory_usage();
        if bytes > REGEX_BYTES {
            limits::hit(Limit::RegexBytes);
            return Err(TOO_LARGE.to_owned());
        }
        // To tell where groups begin and end, each state keeps two places a group; a state has some 32 bytes.
        if (bytes / 32).saturating_mul(16 * regex.captures_len()) > REGEX_GROUP_BYTES {
            return Err(
                "it has too many groups for its size; write (?:…) for those that are not referred to"
                    .to_owned(),
            );
        }
        budget.0 = budget.0.checked_sub(bytes).ok_or_else(|| {
            limits::hit(Limit::RegexObjectBytes);
            format!(
                "the regular expressions of this object need more than {REGEX_OBJECT_BYTES} bytes together; use smaller \
                 repetitions and fewer classes such as \\w and \\pL, or split the object"
            )
        })?;
        Ok(Self(regex))
    }

    /// Whether it matches somewhere.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// How many groups there are, the whole match among them.
    pub fn groups(&self) -> usize {
        self.0.captures_len()
    }

    /// Whether a group has this name.
    pub fn has_group(&self, name: &str) -> bool {
        self.0.group_info().to_index(regex_automata::PatternID::ZERO, name).is_some()
    }

    /// The text with each match replaced; `$1` and `${name}` stand for groups. None where it grows over `most` bytes.
    pub fn replace_all(&self, text: &str, replacement: &str, most: usize) -> Option<String> {
        let (mut made, mut last) = (String::with_capacity(text.len()), 0);
        for found in self.0.captures_iter(Input::new(text)) {
            let Some(whole) = found.get_match() else { continue };
            made.push_str(text.get(last..whole.start())?);
            last = whole.end();
            let group = |index, made: &mut String| {
                let part = found.get_group(index).and_then(|span| text.get(span.range()));
                made.push_str(part.unwrap_or_default());
            };
            let index = |name: &str| found.group_info().to_index(whole.pattern(), name);
            interpolate::string(replacement, group, index, &mut made);
            if made.len() > most {
                return None;
            }
        }
        made.push_str(text.get(last..)?);
        Some(made)
    }
}

fn build(text: &str, bytes: usize, is_fast: bool) -> Result<Regex, Box<BuildError>> {
    let config = Config::new()
        .nfa_size_limit(Some(bytes))
        .hybrid(is_fast)
        .hybrid_cache_capacity(REGEX_BYTES)
        // Both are built at once, whether they are worth it or not.
        .onepass(false)
        .dfa(false);
    let syntax = syntax::Config::new().nest_limit(REGEX_NESTING);
    Regex::builder().configure(config).syntax(syntax).build(text).map_err(Box::new)
}

const TOO_LARGE: &str =
    "it needs too much memory; use smaller repetitions, or fewer classes such as \\w and \\pL";

fn in_words(error: &BuildError) -> String {
    if error.size_limit().is_some() {
        return TOO_LARGE.to_owned();
    }
    // The last line says what it is; those before draw where.
    let whole = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
    let last = whole.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// What compiling an expression may take, told from its text: little where nothing in it repeats or stands for many letters.
pub fn may_take(text: &str) -> usize {
    let grows = text.contains(['{', '\\', '?']) || text.contains("[^") || text.contains("[[");
    if grows { REGEX_BYTES } else { text.len().saturating_mul(1024) }
}

/// The time that matching may take. Looked at between two texts, each of which is short.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    most: Duration,
}

impl Clock {
    /// From now.
    pub fn start(most: Duration) -> Self {
        Self { began: Instant::now(), most }
    }

    /// Whether the time is over.
    pub fn is_over(self) -> bool {
        self.began.elapsed() > self.most
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compiled(text: &str) -> Result<Pattern, String> {
        Pattern::compile(text, &mut Budget::default())
    }

    #[test]
    fn what_people_write_fits_and_what_repeats_large_classes_does_not() {
        for text in [
            "^.*/password$",
            "(username|password)$",
            r"^[\w-]{1,63}$",
            r"(?i)^db_(?P<x>.+)_(\d+)$",
            "a{1000}",
            "",
        ] {
            assert!(compiled(text).is_ok(), "{text}: {:?}", compiled(text));
        }
        for text in
            [r"\pL{80}", r"(\w{50}){50}", "((a{1000}){1000}){1000}", r"[^\x00]{5000}", r"\p{Greek}{0,3000}"]
        {
            let why = compiled(text).unwrap_err();
            assert!(why.contains("too much memory"), "{text}: {why}");
        }
        let groups = "(".repeat(200) + r"\w{20}" + &")".repeat(200);
        assert!(compiled(&groups).is_err());
        assert!(compiled(&("(".repeat(2_000) + &")".repeat(2_000))).unwrap_err().contains("nest"));
        // No schema of an older CRD need have bounded it.
        for text in ["(".repeat(200_000), "é".repeat(1_025 * 2), "a".repeat(REGEX_TEXT_BYTES + 1)] {
            assert_eq!(compiled(&text).unwrap_err(), "it has more than 1,024 characters");
        }
    }

    #[test]
    fn all_of_one_object_share_a_budget() {
        let mut budget = Budget::default();
        // The finding's own: 544 of these were taken.
        let taken = (0..544).take_while(|_| Pattern::compile(r"\pL{15}", &mut budget).is_ok()).count();
        assert!((1..12).contains(&taken), "{taken}");
        let mut budget = Budget::default();
        let taken = (0..544).take_while(|_| Pattern::compile("^db_(.*)$", &mut budget).is_ok()).count();
        assert!(taken >= 100, "{taken}");
    }

    #[test]
    fn what_is_replaced_grows_no_further_than_it_may() {
        let pattern = compiled("(?P<c>.)").unwrap();
        assert_eq!(pattern.replace_all("ab", "${c}-$1", 100).as_deref(), Some("a-ab-b"));
        assert_eq!(pattern.replace_all("ab", "$$", 100).as_deref(), Some("$$"));
        assert_eq!(compiled("").unwrap().replace_all("ab", "x", 100).as_deref(), Some("xaxbx"));
        assert_eq!(compiled("é?").unwrap().replace_all("éa", "", 100).as_deref(), Some("a"));
        assert_eq!(pattern.replace_all(&"a".repeat(100), &"$1".repeat(100), 1_000), None);
    }

    proptest! {
        /// Whatever is written and matched: no panic, and what it replaces is what the `regex` crate says it does.
        #[test]
        fn any_expression_is_read_or_refused(text in ".{0,40}", with in ".{0,20}", on in ".{0,60}") {
            if let Ok(pattern) = compiled(&text) {
                pattern.is_match(&on);
                pattern.replace_all(&on, &with, 10_000);
            }
        }

        #[test]
        fn any_expression_costs_little(text in r"(\\pL|\\w|\.|[a-c]|\(|\)|\||\*|\{[0-9]{1,3}\}|\[\^a\]|\(\?i\)){0,12}") {
            let start = Instant::now();
            if let Ok(pattern) = compiled(&text) {
                pattern.is_match(&"abcabcabcé".repeat(25));
            }
            prop_assert!(start.elapsed() < Duration::from_secs(2), "{text}");
        }
    }
}

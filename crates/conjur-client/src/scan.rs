//! JSON before it is read: how much it will weigh, and without the texts that no one reads.
//!
//! A few bytes of JSON may become a hundred of a list, so that a bound of bytes alone bounds nothing. This goes through
//! the bytes as they come in, whichever chunks they come in, and builds nothing.

/// What one mark of JSON (`[`, `{`, `,`, `:`) stands for in memory, at most, once it is read: a field, an entry.
const MARK: usize = 48;
/// The member whose value is left out: of a policy's versions everything is read but their texts.
const LEFT_OUT: &[u8] = b"policy_text";

/// A pass through JSON that is to be read afterwards.
#[derive(Default)]
pub(crate) struct Scan {
    at: At,
    marks: usize,
    /// What is kept of it; nothing, where it is only weighed.
    kept: Vec<u8>,
    keeps: bool,
    /// Where in `kept` the last text began and ended.
    text: (usize, usize),
    /// Whether the last thing was the name of a member that is left out, and its colon.
    leaves_out: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Between,
    Space,
    Text,
    Escape,
    LeftOut,
    LeftOutEscape,
}

impl Scan {
    /// One that keeps what is to be read.
    pub(crate) fn keeping() -> Self {
        Self { keeps: true, ..Self::default() }
    }

    /// Goes on.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        for &byte in chunk {
            let (next, keep) = match (self.at, byte) {
                (At::Text, b'\\') => (At::Escape, true),
                (At::Text, b'"') => {
                    self.text.1 = self.kept.len();
                    (At::Between, true)
                }
                (At::Text | At::Escape, _) => (At::Text, true),
                (At::LeftOut, b'\\') => (At::LeftOutEscape, false),
                (At::LeftOut, b'"') => (At::Between, true),
                (At::LeftOut | At::LeftOutEscape, _) => (At::LeftOut, false),
                (At::Between | At::Space, b'"') => {
                    self.text = (self.kept.len() + 1, self.kept.len() + 1);
                    (if std::mem::take(&mut self.leaves_out) { At::LeftOut } else { At::Text }, true)
                }
                (at, b' ' | b'\t' | b'\r' | b'\n') => (At::Space, at == At::Between),
                (_, mark) => {
                    self.mark(mark);
                    (At::Between, true)
                }
            };
            self.at = next;
            if keep && self.keeps {
                self.kept.push(byte);
            }
        }
    }

    fn mark(&mut self, mark: u8) {
        if matches!(mark, b'[' | b'{' | b',' | b':') {
            self.marks += 1;
        }
        self.leaves_out = mark == b':' && self.kept.get(self.text.0..self.text.1) == Some(LEFT_OUT);
    }

    /// Whether it begins like nothing that is read here: neither a list nor a record.
    pub(crate) fn is_hopeless(&self) -> bool {
        let first = self.kept.iter().find(|byte| !byte.is_ascii_whitespace());
        first.is_some_and(|first| !matches!(first, b'[' | b'{'))
    }

    /// How much of memory it takes to read it, about.
    pub(crate) fn weight(&self) -> usize {
        self.kept.len().saturating_add(self.marks.saturating_mul(MARK))
    }

    /// What there is to read.
    pub(crate) fn into_kept(self) -> Vec<u8> {
        self.kept
    }
}

/// How much of memory it takes to read this JSON, about.
pub(crate) fn weight(json: &[u8]) -> usize {
    let mut scan = Scan::default();
    scan.push(json);
    json.len().saturating_add(scan.weight())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn kept(chunks: &[&[u8]]) -> String {
        let mut scan = Scan::keeping();
        for chunk in chunks {
            scan.push(chunk);
        }
        String::from_utf8(scan.into_kept()).unwrap()
    }

    #[test]
    fn texts_of_policies_are_left_out_and_nothing_else_is() {
        for (json, expected) in [
            (r#"{"policy_text":"- !host \"a\"\n\\","version":1}"#, r#"{"policy_text":"","version":1}"#),
            (
                r#"{"policy_text" :  "x" , "id":"policy_text"}"#,
                r#"{"policy_text" : "" , "id":"policy_text"}"#,
            ),
            (r#"{"policy_text":null,"id":"a"}"#, r#"{"policy_text":null,"id":"a"}"#),
            (r#"{"policy_text":["a","b"],"a":"c"}"#, r#"{"policy_text":["a","b"],"a":"c"}"#),
            (r#"["policy_text","a"]"#, r#"["policy_text","a"]"#),
            (r#"{"my_policy_text":"a"}"#, r#"{"my_policy_text":"a"}"#),
            ("[1\n\t 2]", "[1\n2]"),
        ] {
            assert_eq!(kept(&[json.as_bytes()]), expected, "{json}");
        }
    }

    #[test]
    fn what_expands_when_it_is_read_weighs_more_than_its_bytes() {
        let small = format!("[{}]", vec!["[]"; 100_000].join(","));
        assert!(weight(small.as_bytes()) > 30 * small.len());
        let text = format!("[\"{}\"]", "[,:{".repeat(100_000));
        assert!(weight(text.as_bytes()) < text.len() + 1_000, "what is in a text is no mark");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC*|[\"\\\\\n ]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map("[a-z\"\\\\ ]{0,12}", inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_reads_the_same_however_it_is_cut(value in values(), pretty in any::<bool>(), cut in 1_usize..9) {
            let value = json!({ "policy_text": "left \"out\"\\", "rest": value });
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            let mut expected = value;
            expected["policy_text"] = json!("");
            prop_assert_eq!(serde_json::from_str::<Value>(&kept(&chunks)).unwrap(), expected);
        }

        #[test]
        fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut scan = Scan::keeping();
            scan.push(&bytes);
            prop_assert!(scan.into_kept().len() <= bytes.len());
        }
    }
}

//! Other names for what the recordings speak of.

/// The words that ids are made of. What means something to the server itself (`admin`, `root`) or to
/// English (`own`) keeps its name.
const WORDS: [&str; 39] = [
    "demo",
    "alice",
    "bob",
    "carol",
    "dave",
    "eve",
    "joe",
    "gone",
    "app",
    "web",
    "outsider",
    "nokey",
    "consumers",
    "updaters",
    "ops",
    "nested",
    "deeper",
    "db",
    "bin",
    "annotated",
    "hf",
    "ws",
    "keep",
    "private",
    "dup",
    "loader",
    "upd",
    "admins",
    "mine",
    "nogroup",
    "push",
    "mere",
    "filler",
    "stranger",
    "declared",
    "anothers",
    "outside",
    "many",
    "readers",
];

/// The server's own names that have a word in them, and what stands for them meanwhile.
const SERVERS: [(&str, &str); 2] = [("token-app-property", "\u{e000}"), ("token_app_property", "\u{e001}")];

/// The hours when host factory tokens were to expire, and ones that are not over.
const HOURS: [(&str, &str); 2] = [("2026-11-22T02", "2096-11-22T02"), ("2026-11-29T02", "2096-11-29T02")];

/// How things are called in a replay.
#[derive(Clone, Copy)]
pub struct Names {
    changed: bool,
}

impl Names {
    pub fn as_recorded() -> Self {
        Self { changed: false }
    }

    /// The last letter is the next one: the length and nearly always the order stay.
    pub fn changed() -> Self {
        Self { changed: true }
    }

    pub fn account(self) -> String {
        self.of("demo")
    }

    /// The text with its names and the expiration of tokens replaced; `%2F` and the like end a word.
    pub fn of(self, text: &str) -> String {
        let text = HOURS.iter().fold(text.to_owned(), |text, (over, lasting)| text.replace(over, lasting));
        if !self.changed {
            return text;
        }
        let text = SERVERS.iter().fold(text, |text, (kept, hidden)| text.replace(kept, hidden));
        let (mut renamed, mut word) = (String::with_capacity(text.len()), String::new());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character.is_ascii_alphanumeric() {
                word.push(character);
                continue;
            }
            renamed.push_str(&rename(&word));
            word.clear();
            renamed.push(character);
            // Encoded characters, also those encoded twice, are no part of a word.
            let mut after_percent = character == '%';
            while after_percent && starts_with_digits(characters.as_str()) {
                after_percent = characters.as_str().starts_with("25");
                renamed.extend(characters.by_ref().take(2));
            }
        }
        renamed.push_str(&rename(&word));
        SERVERS.iter().fold(renamed, |text, (kept, hidden)| text.replace(hidden, kept))
    }

    pub fn of_bytes(self, bytes: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.of(text).into_bytes(),
            Err(_) => bytes.to_vec(),
        }
    }
}

fn rename(word: &str) -> String {
    let stem = word.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let mut renamed = stem.to_owned();
    if WORDS.contains(&stem) {
        let last = renamed.pop().map(|last| char::from(u8::try_from(last).unwrap() + 1));
        renamed.extend(last);
    }
    renamed + &word[stem.len()..]
}

fn starts_with_digits(text: &str) -> bool {
    text.len() >= 2 && text.bytes().take(2).all(|digit| digit.is_ascii_hexdigit())
}

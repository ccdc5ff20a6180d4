//! What is fuzzed: each reads an input in every way in which the operator would.

mod answers;
mod kubernetes;
mod policies;
mod values;

/// Reads an input, and says in a word what came of it: another word is another way through the code.
pub type Read = Box<dyn FnMut(&[u8]) -> String>;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Longest input, in bytes: as long as what reads it lets through, or a little more.
    pub longest: usize,
    /// What reads an input.
    pub prepare: fn() -> Read,
}

const KIB: usize = 1024;

/// All of them.
pub const ALL: [Target; 12] = [
    Target { name: "specs", longest: 1500 * KIB, prepare: kubernetes::specs },
    Target { name: "durations", longest: 4 * KIB, prepare: kubernetes::durations },
    Target { name: "leases", longest: 64 * KIB, prepare: kubernetes::leases },
    Target { name: "templates", longest: 300 * KIB, prepare: values::templates },
    Target { name: "patterns", longest: 32 * KIB, prepare: values::patterns },
    Target { name: "json", longest: 1024 * KIB, prepare: values::json },
    Target { name: "documents", longest: 2048 * KIB, prepare: policies::documents },
    Target { name: "pending", longest: 1024 * KIB, prepare: policies::pending },
    Target { name: "inventories", longest: 1024 * KIB, prepare: policies::inventories },
    Target { name: "ids", longest: 8 * KIB, prepare: policies::ids },
    Target { name: "pem", longest: 512 * KIB, prepare: answers::pem },
    Target { name: "answers", longest: 1024 * KIB, prepare: answers::answers },
];

/// A failure in a word: its text up to what it quotes.
fn word(text: &str) -> String {
    text.chars().filter(|sign| !sign.is_ascii_digit()).take(40).collect()
}

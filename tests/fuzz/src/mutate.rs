//! New inputs from old ones.

use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::child::chance;

/// What means something to some reader.
const WORDS: [&str; 74] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "1e999",
    "-0",
    "0.1e-5",
    "9007199254740993",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "|",
    "(",
    ")",
    "range(",
    "namespace(x=1)",
    "{% for i in range(9999) %}",
    "{% endfor %}",
    "{% set x = [x] %}",
    "{% macro m() %}",
    "loop(",
    "b64decode",
    "fromjson",
    "tojson",
    "~",
    " * ",
    "- !host ",
    "- !policy\n  id: ",
    "- !variable ",
    "- !grant ",
    "- !delete ",
    "!user",
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "- ",
    "|\n",
    ">\n",
    "%YAML 1.2\n---\n",
    "\t",
    "\r\n",
    "\u{feff}",
    "\u{2028}",
    "\u{202e}",
    "é",
    "\\pL",
    "{1000}",
    "{1,50}",
    "(?i)",
    "(?P<a>",
    "$",
    "..",
    "/",
    "//",
    "%2F",
    "%00",
    "host/",
    "myorg:variable:",
    "-----BEGIN CERTIFICATE-----\n",
    "-----END CERTIFICATE-----\n",
    "9223372036854775807",
    "-1",
    "1h",
];

/// One of the inputs so far, changed a few times.
pub fn one(random: &mut SmallRng, from: &[Vec<u8>], longest: usize) -> Vec<u8> {
    let mut input = from[random.random_range(0..from.len())].clone();
    for _ in 0..random.random_range(1..6) {
        change(random, &mut input, from);
        input.truncate(longest);
    }
    input
}

fn place(random: &mut SmallRng, input: &[u8]) -> usize {
    random.random_range(0..=input.len())
}

/// A part of it, short more often than long.
fn part(random: &mut SmallRng, input: &[u8]) -> std::ops::Range<usize> {
    let from = place(random, input);
    let most = if chance(random, 4) { input.len() - from } else { 24.min(input.len() - from) };
    from..from + random.random_range(0..=most)
}

fn change(random: &mut SmallRng, input: &mut Vec<u8>, from: &[Vec<u8>]) {
    match random.random_range(0..9) {
        0 if !input.is_empty() => {
            let at = random.random_range(0..input.len());
            input[at] ^= 1 << random.random_range(0..8);
        }
        1 => {
            let part = part(random, input);
            input.drain(part);
        }
        2 => {
            let (at, byte) = (place(random, input), random.random());
            input.insert(at, byte);
        }
        3 => {
            // What nests or grows does so by a part that is repeated.
            let part = part(random, input);
            let times = 1 << random.random_range(0..17_u32);
            let times = times.min(2_000_000 / part.len().max(1));
            let repeated = input[part.clone()].repeat(times);
            input.splice(part.end..part.end, repeated);
        }
        4 => {
            let other = &from[random.random_range(0..from.len())];
            let (taken, into) = (part(random, other), part(random, input));
            input.splice(into, other[taken].iter().copied());
        }
        5 => {
            let (at, word) = (place(random, input), WORDS[random.random_range(0..WORDS.len())]);
            let times = if chance(random, 6) { 1 << random.random_range(0..15_u32) } else { 1 };
            input.splice(at..at, word.as_bytes().repeat(times));
        }
        6 => {
            let (part, word) = (part(random, input), WORDS[random.random_range(0..WORDS.len())]);
            input.splice(part, word.bytes());
        }
        7 => {
            let (part, at) = (part(random, input), place(random, input));
            let moved = input[part].to_vec();
            input.splice(at..at, moved);
        }
        _ => {
            let at = place(random, input);
            input.truncate(at);
        }
    }
}

//! On which line of a YAML document a field stands.

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Where everything in one document stands; lines are counted from 1.
#[derive(Default)]
pub struct Lines {
    /// The first is the document's own.
    places: Vec<Place>,
}

struct Place {
    line: u32,
    holds: Holds,
}

enum Holds {
    /// With the line of its first line, where each of its lines has one of its own.
    Text(Option<u32>),
    Items(Vec<usize>),
    /// Each with its key and the key's line.
    Fields(Vec<(String, u32, usize)>),
}

/// A list or mapping that is being read.
struct Unclosed {
    at: usize,
    /// The key that waits for its value.
    key: Option<(String, u32)>,
}

impl Lines {
    /// What stands before a fault, where the text has one.
    pub fn of(text: &str) -> Self {
        let (mut lines, mut open) = (Self::default(), Vec::new());
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let is_collection = matches!(event, Event::SequenceStart(..) | Event::MappingStart(..));
            let (holds, key) = match event {
                Event::Scalar(text, style, ..) => {
                    // The parser has it begin behind its blank lines.
                    let blank = text.len() - text.trim_start_matches('\n').len();
                    let first = (style == ScalarStyle::Literal)
                        .then(|| number(&span).saturating_sub(u32::try_from(blank).unwrap_or_default()));
                    (Holds::Text(first), text.into_owned())
                }
                Event::SequenceStart(..) => (Holds::Items(Vec::new()), String::new()),
                Event::MappingStart(..) => (Holds::Fields(Vec::new()), String::new()),
                // What it names stands elsewhere.
                Event::Alias(_) => (Holds::Text(None), String::new()),
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    continue;
                }
                Event::DocumentEnd => break,
                _ => continue,
            };
            let at = lines.add(holds, key, &span, open.last_mut());
            if is_collection {
                open.push(Unclosed { at, key: None });
            }
        }
        lines
    }

    fn add(&mut self, holds: Holds, key: String, span: &Span, within: Option<&mut Unclosed>) -> usize {
        let (at, line) = (self.places.len(), number(span));
        self.places.push(Place { line, holds });
        let Some(within) = within else { return at };
        match self.places.get_mut(within.at).map(|place| &mut place.holds) {
            Some(Holds::Items(items)) => items.push(at),
            Some(Holds::Fields(fields)) => match within.key.take() {
                Some((key, line)) => fields.push((key, line, at)),
                None => within.key = Some((key, line)),
            },
            _ => {}
        }
        at
    }

    /// The line of a field such as `spec.data[3].key`, or of the nearest that there is above it.
    pub fn line(&self, path: &str) -> u32 {
        self.find(path).0
    }

    /// The line of a line of the text that a field holds, where each has one of its own; the field's else.
    pub fn within(&self, path: &str, line: u32) -> u32 {
        let (key, place) = self.find(path);
        match place {
            Some(Place { holds: Holds::Text(Some(first)), .. }) => first + line.saturating_sub(1),
            _ => key,
        }
    }

    fn find(&self, path: &str) -> (u32, Option<&Place>) {
        let Some(mut place) = self.places.first() else { return (1, None) };
        let (mut line, mut rest) = (place.line, path);
        while !rest.is_empty() {
            let next = match &place.holds {
                Holds::Text(_) => None,
                Holds::Items(items) => indexed(rest).and_then(|(index, behind)| {
                    Some((*items.get(index.parse::<usize>().ok()?)?, None, behind))
                }),
                Holds::Fields(fields) => {
                    let met = fields.iter().filter_map(|(key, line, at)| {
                        let behind = behind(rest, key)?;
                        Some((*at, Some(*line), behind))
                    });
                    // Of `a` and `a.b`, the longer one.
                    met.min_by_key(|(_, _, behind)| behind.len())
                }
            };
            let below = next.and_then(|(at, line, behind)| Some((self.places.get(at)?, line, behind)));
            let Some((below, of_key, behind)) = below else { return (line, None) };
            (place, line, rest) = (below, of_key.unwrap_or(below.line), behind);
        }
        (line, Some(place))
    }
}

fn number(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(1).max(1)
}

/// `[3].key` as `3` and `.key`.
fn indexed(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('[')?.split_once(']')
}

/// What stands behind a key at the beginning of a path. A key that is a number is written like an index.
fn behind<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    if let Some((index, behind)) = indexed(path) {
        return (index == key).then_some(behind);
    }
    let behind = path.strip_prefix('.').unwrap_or(path).strip_prefix(key)?;
    (behind.is_empty() || behind.starts_with(['.', '['])).then_some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_path_or_else_the_nearest_above_it() {
        let text = "# a comment\nkind: List\nitems:\n- metadata: {name: a}\n  spec:\n    data:\n    - {key: a}\n    - key: b\n\n      variable: c\n\
                    -\n  metadata:\n    annotations:\n      a: 1\n      a.b/c: 2\n      a.b/c.d: 3\n      3: 4\n  spec: *none\n";
        let lines = Lines::of(text);
        for (path, line) in [
            ("", 2),
            ("items", 3),
            ("items[0]", 4),
            ("items[0].metadata.name", 4),
            ("items[0].spec.data[0].key", 7),
            ("items[0].spec.data[1]", 8),
            ("items[0].spec.data[1].variable", 10),
            ("items[0].spec.data[1].none", 8),
            ("items[0].spec.data[7].key", 6),
            ("items[0].spec.dat", 5),
            ("items[1].metadata.annotations.a", 14),
            ("items[1].metadata.annotations.a.b/c", 15),
            ("items[1].metadata.annotations.a.b/c.d", 16),
            ("items[1].metadata.annotations[3]", 17),
            ("items[1].spec", 12),
            ("none.at.all", 2),
        ] {
            assert_eq!(lines.line(path), line, "{path}");
        }
    }

    #[test]
    fn a_line_of_a_text_is_found_where_it_has_one() {
        let text = "a: |\n  one\n  two\nb: 'one\n  two'\nc:\n  # a comment\n  |2\n\n  two\nd: >\n  one\n";
        let lines = Lines::of(text);
        for (path, line) in [("a", 3), ("b", 4), ("c", 10), ("d", 11), ("none", 1)] {
            assert_eq!(lines.within(path, 2), line, "{path}");
        }
        assert_eq!(Lines::of("{\"a\":\n {\"b\": 1}}").line("a.b"), 2);
        assert_eq!(Lines::of("").line("a"), 1);
    }
}

//! Lines of a bounded length, each of which is one line.

use std::borrow::Cow;
use std::io::{Result, Write};

use serde_json::{Map, Value};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::Format;
use crate::api::condition::clip;
use crate::limits::{self, Limit};

/// What stands where something was left out.
const CUT: &str = "…";

/// Makes writers that shorten lines.
pub(super) struct LineWriters<W> {
    pub(super) format: Format,
    pub(super) writer: W,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for LineWriters<W> {
    type Writer = LineWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { format: self.format, writer: self.writer.make_writer() }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        LineWriter { format: self.format, writer: self.writer.make_writer_for(meta) }
    }
}

/// Writes one line, which comes as a whole.
pub(super) struct LineWriter<W> {
    format: Format,
    writer: W,
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, line: &[u8]) -> Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.writer.write_all(bounded(self.format, &text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }
}

fn bounded(format: Format, line: &str) -> Cow<'_, str> {
    let mut line = Cow::Borrowed(line);
    // In JSON they are escaped.
    if format == Format::Text && line.trim_end_matches('\n').contains('\n') {
        line = format!("{}\n", line.trim_end_matches('\n').replace('\n', "\\n")).into();
    }
    if line.len() <= limits::LOG_LINE_BYTES {
        return line;
    }
    limits::hit(Limit::LogLineBytes);
    match format {
        Format::Text => format!("{}\n", cut(&line, limits::LOG_LINE_BYTES - 8)).into(),
        Format::Json => shorter(&line).into(),
    }
}

/// The same object, with as much of its longest texts as there is room for.
fn shorter(line: &str) -> String {
    let Ok(whole) = serde_json::from_str::<Map<String, Value>>(line) else { return "{}\n".to_owned() };
    let short = |limit: usize| {
        let fields = whole.iter().filter_map(|(name, value)| match value {
            Value::String(text) => Some((name.clone(), cut(text, limit).into())),
            Value::Array(_) | Value::Object(_) => None,
            plain => Some((name.clone(), plain.clone())),
        });
        let object: Map<String, Value> = fields.collect();
        format!("{}\n", Value::Object(object))
    };
    let limits = std::iter::successors(Some(limits::LOG_LINE_BYTES / 2), |limit| Some(limit / 2));
    let lines = limits.take_while(|limit| *limit >= 16).map(short);
    lines.into_iter().find(|line| line.len() <= limits::LOG_LINE_BYTES).unwrap_or_else(|| "{}\n".to_owned())
}

fn cut(text: &str, limit: usize) -> String {
    let kept = clip(text, limit);
    let cut = if kept.len() < text.len() { CUT } else { "" };
    format!("{kept}{cut}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_line_is_left_as_it_is() {
        for (format, line) in [(Format::Text, "WARN a\n"), (Format::Json, "{\"message\":\"a\\nb\"}\n")] {
            assert!(matches!(bounded(format, line), Cow::Borrowed(same) if same == line));
        }
    }

    #[test]
    fn a_text_with_a_line_break_forges_no_second_line() {
        assert_eq!(bounded(Format::Text, "WARN a\nINFO all is well\n\n"), "WARN a\\nINFO all is well\n");
    }

    #[test]
    fn a_long_line_is_cut_and_json_stays_json() {
        let text = "ä".repeat(100_000);
        let line = bounded(Format::Text, &text).into_owned();
        assert!(line.len() <= limits::LOG_LINE_BYTES && line.ends_with("ä…\n"), "{}", line.len());
        let fields: Map<String, Value> =
            (0..10).map(|n| (format!("f{n}"), Value::from("\"\\".repeat(5000)))).collect();
        for (message, fields) in [(text.as_str(), Map::new()), (&text, fields)] {
            let mut object = fields;
            object.insert("level".into(), "WARN".into());
            object.insert("suppressed".into(), 7.into());
            object.insert("message".into(), message.into());
            let line = bounded(Format::Json, &format!("{}\n", Value::Object(object))).into_owned();
            assert!(line.len() <= limits::LOG_LINE_BYTES && line.ends_with("}\n"), "{}", line.len());
            let read: Map<String, Value> = serde_json::from_str(&line).unwrap();
            assert_eq!((&read["level"], &read["suppressed"]), (&"WARN".into(), &7.into()));
            assert!(
                read["message"].as_str().is_some_and(|text| text.starts_with("ää") && text.ends_with(CUT))
            );
        }
    }
}

//! Tables, colours, and the forms that `-o` names.

use std::fmt::Write as _;

use anstream::print;
use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::{Error, cli::Form};

/// What a text means, as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Bad,
    Waiting,
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Waiting => AnsiColor::Yellow.on_default(),
            Tone::Faint => Style::new().dimmed(),
        }
    }
}

/// A text in its tone. Where there are no colours they are taken off when it is printed.
pub fn toned(tone: Tone, text: &str) -> String {
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// A table of texts, of which the last column takes what is left of a line.
#[derive(Debug, Default)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<(Tone, String)>>,
}

/// How wide the output for people is.
pub const WIDTH: usize = 100;

impl Table {
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<(Tone, String)>) {
        self.rows.push(cells);
    }

    /// As the form asks: whole, or within [`WIDTH`].
    pub fn in_form(&self, form: Option<Form>) -> String {
        if form == Some(Form::Wide) { self.wide() } else { self.text() }
    }

    /// With columns as wide as they must be; the last one is cut at [`WIDTH`].
    pub fn text(&self) -> String {
        self.within(WIDTH)
    }

    /// The same, with nothing cut.
    pub fn wide(&self) -> String {
        self.within(usize::MAX)
    }

    fn within(&self, width: usize) -> String {
        let columns = self.header.len();
        let long = |text: &str| text.chars().count();
        let cell_width = |column: usize| {
            let cells = self.rows.iter().map(|row| long(&row[column].1));
            cells.chain([long(self.header[column])]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(cell_width).collect();
        let mut text = String::new();
        let plain = self.header.iter().map(|title| (Tone::Faint, (*title).to_owned())).collect::<Vec<_>>();
        for row in [&plain].into_iter().chain(&self.rows) {
            let mut at = 0;
            for (column, (tone, cell)) in row.iter().enumerate() {
                let last = column + 1 == columns;
                let room = width.saturating_sub(at).max(20);
                let cell = if last { clipped(cell, room) } else { cell.clone() };
                text += &toned(*tone, &cell);
                if !last {
                    let pad = widths[column] + 2;
                    text += &" ".repeat(pad.saturating_sub(long(&cell)));
                    at += pad;
                }
            }
            text.push('\n');
        }
        text
    }
}

/// At most so many characters, the last of which says that some are left out.
fn clipped(text: &str, room: usize) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= room {
        return line;
    }
    line.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// Breaks a text at spaces into lines of [`WIDTH`] behind an indent.
pub fn wrapped(text: &str, indent: &str) -> String {
    let mut out = String::new();
    for paragraph in text.lines() {
        let mut line = indent.to_owned();
        for word in paragraph.split(' ') {
            let empty = line.len() == indent.len();
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                let _ = writeln!(out, "{line}");
                line = format!("{indent}{word}");
            } else {
                line += if empty { "" } else { " " };
                line += word;
            }
        }
        let _ = writeln!(out, "{line}");
    }
    out
}

/// What a command has to show.
pub struct Shown {
    /// For people; ends with a newline where it is not empty.
    pub text: String,
    /// For machines.
    pub data: Value,
    /// For `-o name`.
    pub names: Vec<String>,
}

impl Shown {
    /// Several, one after the other; for machines one by itself is not in a list.
    pub fn joined(mut all: Vec<Self>, none: &str) -> Self {
        if all.len() == 1
            && let Some(one) = all.pop()
        {
            return one;
        }
        let text = all.iter().map(|one| one.text.as_str()).collect::<Vec<_>>().join("\n");
        Self {
            text: if all.is_empty() { none.to_owned() } else { text },
            names: all.iter().flat_map(|one| one.names.clone()).collect(),
            data: all.into_iter().map(|one| one.data).collect::<Vec<_>>().into(),
        }
    }

    /// Prints it in the form that is asked for.
    ///
    /// # Errors
    /// That it can't be written in that form.
    pub fn print(&self, form: Option<Form>) -> Result<(), Error> {
        print!("{}", self.in_form(form)?);
        Ok(())
    }

    /// In the form that is asked for, with a newline at its end.
    ///
    /// # Errors
    /// That it can't be written in that form.
    pub fn in_form(&self, form: Option<Form>) -> Result<String, Error> {
        match form {
            None | Some(Form::Wide) => Ok(self.text.clone()),
            Some(Form::Name) => Ok(self.names.iter().map(|name| format!("{name}\n")).collect()),
            Some(Form::Json) => {
                let text = serde_json::to_string_pretty(&self.data).map_err(|e| Error::new(e.to_string()))?;
                Ok(text + "\n")
            }
            Some(Form::Yaml) => serde_saphyr::to_string(&self.data).map_err(|e| Error::new(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_width() {
        let mut table = Table::new(&["NAME", "MESSAGE"]);
        table.row(vec![(Tone::Plain, "a".into()), (Tone::Plain, "x".repeat(300))]);
        table.row(vec![(Tone::Plain, "longer".into()), (Tone::Plain, "two\nlines".into())]);
        let text = anstream::adapter::strip_str(&table.text()).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "NAME    MESSAGE");
        assert!(lines[1].chars().count() == WIDTH && lines[1].ends_with('…'), "{text}");
        assert_eq!(lines[2], "longer  two lines");
    }

    #[test]
    fn long_texts_are_broken_at_spaces() {
        let text = wrapped(&"word ".repeat(50), "  ");
        assert!(
            text.lines().count() == 3 && text.lines().all(|l| l.starts_with("  word") && l.len() <= WIDTH)
        );
        assert_eq!(wrapped("", "  "), "");
    }
}

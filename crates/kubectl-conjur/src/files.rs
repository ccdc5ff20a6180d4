//! YAML files of people: each document with the line that it begins at.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::Error;

/// What a file holds between two lines of dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// As it was given; `-` for the standard input.
    pub path: String,
    /// Its first line in the file, from 1.
    pub line: u32,
    pub text: String,
}

impl Document {
    /// As JSON.
    ///
    /// # Errors
    /// What the parser says, and the line in the file where it knows it.
    pub fn value(&self) -> Result<Value, (u32, String)> {
        serde_saphyr::from_str(&self.text).map_err(|error| {
            let at = error.location().map_or(1, |location| u32::try_from(location.line()).unwrap_or(1));
            (
                self.line + at.saturating_sub(1),
                error.to_string().lines().next().unwrap_or_default().to_owned(),
            )
        })
    }

    /// The line in the file of a key of the top levels, as in `["spec", "document"]`, by its indentation.
    pub fn line_of(&self, path: &[&str]) -> u32 {
        let mut wanted = path.iter();
        let Some(mut next) = wanted.next() else { return self.line };
        let mut at = self.line;
        for (number, line) in (self.line..).zip(self.text.lines()) {
            let key = line.trim_start().trim_start_matches("- ");
            let is_key = key.strip_prefix(next).is_some_and(|rest| rest.starts_with(':'));
            if !is_key {
                continue;
            }
            at = number;
            match wanted.next() {
                Some(below) => next = below,
                None => return at,
            }
        }
        at
    }
}

/// The documents of files and folders, by name.
///
/// # Errors
/// That one can't be read.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Error> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, true, &mut files)?;
    }
    files.sort();
    files.dedup();
    let mut all = Vec::new();
    for file in files {
        let failed = |error: std::io::Error| Error::new(format!("{} can't be read: {error}", file.display()));
        let text = if file == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(failed)?;
            text
        } else {
            fs::read_to_string(&file).map_err(failed)?
        };
        all.extend(split(&file.display().to_string(), &text));
    }
    Ok(all)
}

fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::new(format!("{} can't be read: {error}", path.display()));
    if path != Path::new("-") && fs::metadata(path).map_err(failed)?.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            let below = entry.map_err(failed)?.path();
            let hidden = below.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !hidden {
                collect(&below, false, files)?;
            }
        }
        return Ok(());
    }
    let is_manifest = path.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json");
    if named || is_manifest {
        files.push(path.to_owned());
    }
    Ok(())
}

/// Cuts a file at its lines of dashes. What holds nothing but comments is left out.
pub fn split(path: &str, text: &str) -> Vec<Document> {
    let (mut all, mut from, mut part) = (Vec::new(), 1, String::new());
    let mut add = |line: u32, text: &str| {
        let says = text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
        if says {
            all.push(Document { path: path.to_owned(), line, text: text.to_owned() });
        }
    };
    for (number, line) in (1..).zip(text.lines()) {
        if line == "---" || line.starts_with("--- ") {
            add(from, &part);
            (from, part) = (number + 1, String::new());
            continue;
        }
        part += line;
        part.push('\n');
    }
    add(from, &part);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_their_lines() {
        let text =
            "# a comment\n---\na: 1\n---\n\n---\nspec:\n  branch: b\n  document: |\n    - !variable x\n";
        let all = split("f.yaml", text);
        assert_eq!(all.iter().map(|one| one.line).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(all[1].line_of(&["spec", "document"]), 9);
        assert_eq!(all[1].value().unwrap()["spec"]["branch"], "b");
        let (line, _) = split("f", "---\na: [1\n")[0].value().unwrap_err();
        assert!(line >= 2, "{line}");
    }
}

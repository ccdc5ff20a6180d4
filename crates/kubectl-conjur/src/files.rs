//! YAML files of people: each document with the line that it begins at.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Display,
    fs,
    io::{self, Read as _},
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
}

/// A file below the paths that were named.
#[derive(Debug)]
pub struct Gathered {
    /// As it was given or found; `-` for the standard input.
    pub path: String,
    /// It was named itself, and not found in a folder.
    pub named: bool,
    pub text: Result<String, Unread>,
}

/// Why a file has no text.
#[derive(Debug)]
pub struct Unread {
    pub why: String,
    /// What can be told of its bytes.
    pub rest: Option<String>,
}

/// The documents of files and folders, by name.
///
/// # Errors
/// That one can't be read.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Error> {
    let mut all = Vec::new();
    for file in gather(paths)? {
        let text = file.text.map_err(|unread| failed(Path::new(&file.path), unread.why))?;
        all.extend(split(&file.path, &text));
    }
    Ok(all)
}

/// The files named, and the YAML and JSON files of the folders named, by name.
///
/// # Errors
/// That one that was named can't be opened.
pub fn gather(paths: &[PathBuf]) -> Result<Vec<Gathered>, Error> {
    let mut walk = Gathering::default();
    for path in paths {
        walk.collect(path, true)?;
    }
    walk.files.into_iter().map(|(path, met)| met.read(&path)).collect()
}

/// Folders of other people's files.
const FOREIGN: [&str; 3] = ["node_modules", "target", "vendor"];

#[derive(Default)]
struct Gathering {
    files: BTreeMap<PathBuf, Met>,
    /// By their real paths: a link may lead to a folder above itself.
    folders: HashSet<PathBuf>,
}

/// How a file was met.
struct Met {
    named: bool,
    /// Why it can't be opened.
    failure: Option<io::Error>,
}

impl Gathering {
    fn collect(&mut self, path: &Path, named: bool) -> Result<(), Error> {
        if path == Path::new("-") {
            self.add(path, named, None);
            return Ok(());
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => match self.folder(path) {
                Err(error) if named => Err(failed(path, error)),
                Err(error) => {
                    self.add(path, named, Some(error));
                    Ok(())
                }
                Ok(below) => below.iter().try_for_each(|path| self.collect(path, false)),
            },
            // In a folder, a pipe or a socket would never end.
            Ok(found) => {
                if named || (is_manifest(path) && found.is_file()) {
                    self.add(path, named, None);
                }
                Ok(())
            }
            Err(error) if named => Err(failed(path, error)),
            Err(error) => {
                if is_manifest(path) {
                    self.add(path, named, Some(error));
                }
                Ok(())
            }
        }
    }

    /// What a folder holds that is to be looked at; nothing where that was done.
    fn folder(&mut self, path: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.folders.insert(fs::canonicalize(path)?) {
            return Ok(Vec::new());
        }
        let mut below = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            let text = name.to_string_lossy();
            if !text.starts_with('.') && !FOREIGN.contains(&text.as_ref()) {
                below.push(path.join(&name));
            }
        }
        below.sort();
        Ok(below)
    }

    fn add(&mut self, path: &Path, named: bool, failure: Option<io::Error>) {
        let met = self.files.entry(path.to_owned()).or_insert(Met { named, failure });
        met.named |= named;
    }
}

impl Met {
    fn read(self, path: &Path) -> Result<Gathered, Error> {
        let bytes = match self.failure {
            Some(error) => Err(error),
            None if path == Path::new("-") => {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes).map(|_| bytes)
            }
            None => fs::read(path),
        };
        let text = match bytes {
            Ok(bytes) => String::from_utf8(bytes).map_err(|error| {
                // UTF-16 has a zero beside each letter.
                let rest = String::from_utf8_lossy(error.as_bytes()).replace('\0', "");
                Unread { why: "it is not UTF-8".to_owned(), rest: Some(rest) }
            }),
            Err(error) if self.named => return Err(failed(path, error)),
            Err(error) => Err(Unread { why: error.to_string(), rest: None }),
        };
        Ok(Gathered { path: path.display().to_string(), named: self.named, text })
    }
}

fn failed(path: &Path, why: impl Display) -> Error {
    Error::new(format!("{} can't be read: {why}", path.display()))
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json")
}

/// Cuts a file at its lines of dashes. What holds nothing but comments and directives is left out.
pub fn split(path: &str, text: &str) -> Vec<Document> {
    let (mut all, mut from, mut part) = (Vec::new(), 1, String::new());
    let mut add = |line: u32, text: &str| {
        if text.lines().any(says) {
            all.push(Document { path: path.to_owned(), line, text: text.to_owned() });
        }
    };
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        if let Some(rest) =
            line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        {
            add(from, &part);
            (from, part) = (number + 1, String::new());
            if !says(rest) {
                continue;
            }
            from = number;
        }
        part += line;
        part.push('\n');
    }
    add(from, &part);
    all
}

/// Whether a line is more than a comment or a directive.
fn says(line: &str) -> bool {
    let text = line.trim();
    !text.is_empty() && !text.starts_with('#') && !line.starts_with('%')
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn documents_know_their_lines() {
        let text =
            "# a comment\n---\na: 1\n---\n\n---\nspec:\n  branch: b\n  document: |\n    - !variable x\n";
        let all = split("f.yaml", text);
        assert_eq!(all.iter().map(|one| one.line).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(all[1].value().unwrap()["spec"]["branch"], "b");
        let (line, _) = split("f", "---\na: [1\n")[0].value().unwrap_err();
        assert!(line >= 2, "{line}");
    }

    #[test]
    fn what_stands_beside_the_dashes_belongs_to_the_document() {
        let all = split("f", "\u{feff}%YAML 1.2\n--- # a comment\na: 1\n--- {b: 2}\n---\t\nc: 3\n---d: 4\n");
        let read = |one: &Document| (one.line, one.value().unwrap());
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(read(&all[0]), (3, serde_json::json!({ "a": 1 })));
        assert_eq!(read(&all[1]), (4, serde_json::json!({ "b": 2 })));
        assert_eq!(all[2].text, "c: 3\n---d: 4\n");
    }

    #[test]
    fn a_bad_file_of_a_folder_is_told_and_a_bad_name_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("latin.yaml"), b"# \xe4\nkind: X\n").unwrap();
        fs::write(at("good.yml"), "a: 1\n").unwrap();
        fs::write(at("notes.txt"), b"\xe4").unwrap();
        symlink("nowhere", at("dangling.yaml")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop.yaml", at("loop.yaml")).unwrap();
        symlink(".", at("again")).unwrap();
        for foreign in ["node_modules", "target", "vendor", ".git", "below"] {
            fs::create_dir(at(foreign)).unwrap();
            fs::write(at(foreign).join("a.yaml"), "a: 1\n").unwrap();
        }
        let root = folder.path().to_owned();
        let all = gather(&[root.clone(), at("good.yml")]).unwrap();
        let name = |one: &Gathered| Path::new(&one.path).strip_prefix(&root).unwrap().display().to_string();
        let met: Vec<_> = all.iter().map(|one| (name(one), one.named, one.text.is_ok())).collect();
        let is = |name: &str, named, read| (name.to_owned(), named, read);
        assert_eq!(met[..2], [is("below/a.yaml", false, true), is("dangling.yaml", false, false)]);
        assert_eq!(met[2..4], [is("good.yml", true, true), is("latin.yaml", false, false)]);
        assert_eq!(met[4..], [is("loop.yaml", false, false)]);
        let rest = all[3].text.as_ref().unwrap_err().rest.as_deref().unwrap_or_default();
        assert!(rest.contains("kind: X"), "{rest}");
        assert_eq!(gather(&[at("target")]).unwrap().len(), 1);
        for missing in ["nothing", "dangling.yaml"] {
            let error = gather(&[at(missing)]).unwrap_err().to_string();
            assert!(error.contains("can't be read"), "{error}");
        }
        assert!(read(&[root]).is_err());
    }
}

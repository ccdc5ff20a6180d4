//! `lint`: manifests and policy documents, checked without a cluster and without Conjur, as the API server and the operator would.

mod finding;
mod kustomize;
mod lines;
mod objects;
mod policies;
mod rules;
mod sarif;
mod schema;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use self::{
    finding::{LintFinding, Rule},
    lines::Lines,
    policies::is_policy,
    schema::Schemas,
};
use crate::{
    Ended, Error,
    cli::{Form, LintArgs},
    files::{self, Document, Gathered, Unread},
    show::{Shown, Tone, toned, wrapped},
};

pub fn run(args: &LintArgs, form: Option<Form>) -> Result<Ended, Error> {
    let lint = lint(&args.files)?;
    let data = serde_json::to_value(&lint.findings).map_err(|error| Error::new(error.to_string()))?;
    let shown = Shown {
        text: lint.text(),
        data: if args.sarif { sarif::report(&lint.findings) } else { data },
        names: lint.names(),
    };
    shown.print(if args.sarif { Some(Form::Json) } else { form })?;
    Ok(if lint.findings.is_empty() { Ended::Well } else { Ended::Differs })
}

/// What came of looking.
#[derive(Default)]
struct Lint {
    findings: Vec<LintFinding>,
    /// The operator's objects, and policies.
    looked: usize,
    /// What is no YAML and seems to be another's, and patches.
    skipped: usize,
}

fn lint(paths: &[PathBuf]) -> Result<Lint, Error> {
    let schemas = Schemas::new()?;
    let files = files::gather(paths)?;
    let patches = kustomize::patches(files.iter().map(|file| Path::new(&file.path)));
    let mut lint = Lint::default();
    for file in &files {
        lint.file(file, &patches, &schemas);
    }
    Ok(lint)
}

impl Lint {
    fn file(&mut self, file: &Gathered, patches: &BTreeSet<PathBuf>, schemas: &Schemas) {
        let text = match &file.text {
            Ok(text) => text,
            Err(unread) => return self.unread(file, unread),
        };
        let documents = files::split(&file.path, text);
        if fs::canonicalize(&file.path).is_ok_and(|path| patches.contains(&path)) {
            self.skipped += documents.len();
            return;
        }
        for document in &documents {
            self.document(document, file.named, schemas);
        }
    }

    fn unread(&mut self, file: &Gathered, unread: &Unread) {
        let is_others = |rest: &String| !file.named && !is_about_ours(rest) && !is_policy(rest);
        if unread.rest.as_ref().is_some_and(is_others) {
            self.skipped += 1;
            return;
        }
        let message = format!("it can't be read: {}", unread.why);
        self.found(&file.path, 1, Rule::Yaml, message);
    }

    /// Of what is no object.
    fn found(&mut self, path: &str, line: u32, rule: Rule, message: String) {
        let (path, object) = (path.to_owned(), String::new());
        self.findings.push(LintFinding { path, line, rule, object, message });
    }

    fn document(&mut self, document: &Document, named: bool, schemas: &Schemas) {
        let Document { path, line: first, text } = document;
        if is_policy(text) {
            self.looked += 1;
            if let Some((line, message)) = objects::policy_text(text, "root") {
                self.found(path, first + line - 1, Rule::PolicyDocument, hinted(message, text));
            }
            return;
        }
        match document.value() {
            Ok(value) => self.objects(document, value, schemas),
            Err((line, message)) if named || is_about_ours(text) => {
                self.found(path, line, Rule::Yaml, hinted(message, text));
            }
            Err(_) => self.skipped += 1,
        }
    }

    fn objects(&mut self, document: &Document, value: Value, schemas: &Schemas) {
        let items = match value["kind"].as_str() {
            Some("List") => {
                let items = value["items"].as_array().cloned().unwrap_or_default();
                items.into_iter().enumerate().map(|(at, item)| (format!("items[{at}]"), item)).collect()
            }
            _ => vec![(String::new(), value)],
        };
        let ours: Vec<_> = items.iter().filter(|(_, object)| is_ours(object)).collect();
        if ours.is_empty() {
            return;
        }
        self.looked += 1;
        let lines = Lines::of(&document.text);
        for (place, object) in ours {
            let mut found = schemas.check(object);
            if !found.iter().any(|(rule, ..)| *rule == Rule::Schema) {
                found.extend(objects::check(object));
            }
            self.findings.extend(found.into_iter().map(|(rule, path, within, message)| {
                let path = if place.is_empty() { path } else { format!("{place}.{path}") };
                let path = path.trim_end_matches('.');
                let line = within.map_or_else(|| lines.line(path), |line| lines.within(path, line));
                let line = document.line + line - 1;
                LintFinding { path: document.path.clone(), line, rule, object: named(object), message }
            }));
        }
    }

    /// Each file once.
    fn names(&self) -> Vec<String> {
        let paths: BTreeSet<_> = self.findings.iter().map(|one| &one.path).collect();
        paths.into_iter().cloned().collect()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for one in &self.findings {
            let (place, rule) = (format!("{}:{}", one.path, one.line), toned(Tone::Bad, one.rule.id()));
            text += format!("{place}: {rule} {}", one.object).trim_end();
            text.push('\n');
            text += &wrapped(&one.message, "    ");
        }
        text += &format!("{} objects and documents looked at, {} findings", self.looked, self.findings.len());
        if self.skipped > 0 {
            text += &format!("; skipped {}, not YAML or patches of Kustomize", self.skipped);
        }
        text.push('\n');
        text
    }
}

/// Says where templates of Helm go.
fn hinted(message: String, text: &str) -> String {
    if !text.contains("{{") {
        return message;
    }
    format!("{message}; render the template first: helm template … | kubectl conjur lint -f -")
}

fn is_about_ours(text: &str) -> bool {
    text.contains("conjur-operator.io/")
}

fn is_ours(object: &Value) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.starts_with("conjur-operator.io/"))
}

fn named(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests;

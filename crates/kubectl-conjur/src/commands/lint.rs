//! `lint`: manifests and policy documents, checked without a cluster and without Conjur, as the API server and the operator would.

mod finding;
mod objects;
mod rules;
mod sarif;
mod schema;

use serde_json::Value;

use self::{
    finding::{LintFinding, Rule},
    schema::Schemas,
};
use crate::{
    Ended, Error,
    cli::{Form, LintArgs},
    files::{self, Document},
    show::{Shown, Tone, toned, wrapped},
};

pub fn run(args: &LintArgs, form: Option<Form>) -> Result<Ended, Error> {
    let schemas = Schemas::new()?;
    let documents = files::read(&args.files)?;
    let mut findings = Vec::new();
    let mut looked = 0;
    for document in &documents {
        looked += usize::from(look(document, &schemas, &mut findings));
    }
    let data = serde_json::to_value(&findings).map_err(|error| Error::new(error.to_string()))?;
    let shown = Shown {
        text: text(&findings, looked),
        data: if args.sarif { sarif::report(&findings) } else { data },
        names: findings.iter().map(|one| format!("{}:{}", one.path, one.line)).collect(),
    };
    shown.print(if args.sarif { Some(Form::Json) } else { form })?;
    Ok(if findings.is_empty() { Ended::Well } else { Ended::Differs })
}

/// Looks at one document; says whether it is one of the operator's or a policy.
fn look(document: &Document, schemas: &Schemas, findings: &mut Vec<LintFinding>) -> bool {
    let finding = |line, rule, message: String| LintFinding {
        path: document.path.clone(),
        line,
        rule,
        object: String::new(),
        message,
    };
    if is_policy(&document.text) {
        if let Some((line, message)) = objects::policy_text(&document.text, "root") {
            findings.push(finding(document.line + line - 1, Rule::PolicyDocument, message));
        }
        return true;
    }
    let value = match document.value() {
        Ok(value) => value,
        Err((line, message)) => {
            findings.push(finding(line, Rule::Yaml, message));
            return false;
        }
    };
    let items = match value["kind"].as_str() {
        Some("List") => value["items"].as_array().cloned().unwrap_or_default(),
        _ => vec![value],
    };
    let ours: Vec<_> = items.iter().filter(|object| is_ours(object)).collect();
    for object in &ours {
        let mut found = schemas.check(object);
        if !found.iter().any(|(rule, ..)| *rule == Rule::Schema) {
            found.extend(objects::check(object, document));
        }
        findings.extend(found.into_iter().map(|(rule, path, line, message)| LintFinding {
            line: line.unwrap_or_else(|| line_of(document, &path)),
            object: named(object),
            ..finding(0, rule, message)
        }));
    }
    !ours.is_empty()
}

/// The line of a field: of the parts of its path that are names.
fn line_of(document: &Document, path: &str) -> u32 {
    let parts: Vec<_> = path
        .split(['.', '[', ']'])
        .filter(|part| !part.is_empty() && part.parse::<usize>().is_err())
        .collect();
    document.line_of(&parts)
}

fn is_ours(object: &Value) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.starts_with("conjur-operator.io/"))
}

/// Statements of a policy have tags, and are a list.
fn is_policy(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    first.is_some_and(|line| line.starts_with("- !") || line.starts_with("- &"))
}

fn named(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn text(findings: &[LintFinding], looked: usize) -> String {
    let mut text = String::new();
    for one in findings {
        let (place, rule) = (format!("{}:{}", one.path, one.line), toned(Tone::Bad, one.rule.id()));
        text += format!("{place}: {rule} {}", one.object).trim_end();
        text.push('\n');
        text += &wrapped(&one.message, "    ");
    }
    text += &format!("{looked} objects and documents looked at, {} findings\n", findings.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(text: &str) -> (usize, Vec<LintFinding>) {
        let schemas = Schemas::new().unwrap();
        let mut findings = Vec::new();
        let looked =
            files::split("f.yaml", text).iter().filter(|one| look(one, &schemas, &mut findings)).count();
        (looked, findings)
    }

    fn one(text: &str) -> (u32, Rule, String) {
        let (_, mut findings) = lint(text);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        let found = findings.remove(0);
        (found.line, found.rule, found.message)
    }

    const HEAD: &str = "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurSecret\nmetadata: {name: db}\nspec:\n  connectionRef: {name: conjur}\n";

    #[test]
    fn what_is_right_is_left_alone_and_what_is_no_ones_is_not_looked_at() {
        let good = format!(
            "{HEAD}  data:\n  - {{key: a, variable: apps/a}}\n---\nkind: Service\napiVersion: v1\n---\n- !variable a\n"
        );
        assert_eq!(lint(&good), (2, vec![]));
    }

    #[test]
    fn each_kind_of_fault_is_told_with_its_line() {
        let (line, rule, message) =
            one(&format!("{HEAD}  refreshInterval: 1s\n  data:\n  - {{key: a, variable: apps/a}}\n"));
        assert!(line == 6 && rule == Rule::Schema && message.contains("10s"), "{line} {message}");
        let (line, rule, message) =
            one(&format!("{HEAD}  data:\n  - {{key: a, variable: apps/a, versions: 1}}\n"));
        assert!(rule == Rule::UnknownField && message.contains("spec.data[0].versions"), "{line} {message}");
        let (_, rule, message) = one(&format!(
            "{HEAD}  target: {{creationPolicy: Ours}}\n  data:\n  - {{key: a, variable: apps/a}}\n"
        ));
        assert!(rule == Rule::Schema && message.contains("creationPolicy"), "{message}");
        let (_, rule, message) = one(&format!(
            "{HEAD}  data:\n  - {{key: a, variable: apps/a}}\n  - {{key: a, variable: apps/b}}\n"
        ));
        assert!(matches!(rule, Rule::Spec | Rule::Schema) && message.contains('a'), "{message}");
        let (_, rule, message) = one(&format!(
            "{HEAD}  target: {{template: {{data: {{u: \"{{{{ a \"}}}}}}\n  data:\n  - {{key: a, variable: apps/a}}\n"
        ));
        assert!(rule == Rule::Template, "{message}");
        let (line, rule, _) = one("a: 1\nb: [\n");
        assert!(rule == Rule::Yaml && line >= 2, "{line}");
        let (line, rule, message) = one("- !variable a\n- {]\n");
        assert!(rule == Rule::PolicyDocument && line == 2, "{line} {message}");
    }

    #[test]
    fn a_fault_in_a_policys_document_has_the_line_of_the_file() {
        let text = "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurPolicy\nmetadata: {name: p}\nspec:\n  connectionRef: {name: conjur}\n  \
                    branch: apps\n  document: |\n    - !variable a\n    - {]\n";
        let (line, rule, message) = one(text);
        assert!(rule == Rule::PolicyDocument && line == 9, "{line} {message}");
    }

    #[test]
    fn the_report_for_machines_is_sarif() {
        let (_, findings) = lint(&format!("{HEAD}  data: []\n"));
        let report = sarif::report(&findings);
        assert_eq!(report["version"], "2.1.0");
        let result = &report["runs"][0]["results"][0];
        assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "f.yaml");
        assert!(result["ruleId"].is_string() && result["message"]["text"].is_string(), "{report:#}");
    }
}

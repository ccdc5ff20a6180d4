use super::*;

fn lint_text(text: &str) -> (usize, Vec<LintFinding>) {
    let schemas = Schemas::new().unwrap();
    let mut lint = Lint::default();
    for one in &files::split("f.yaml", text) {
        lint.document(one, true, &schemas);
    }
    (lint.looked, lint.findings)
}

fn one(text: &str) -> (u32, Rule, String) {
    let (_, mut findings) = lint_text(text);
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
    assert_eq!(lint_text(&good), (2, vec![]));
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
    let (_, rule, message) =
        one(&format!("{HEAD}  data:\n  - {{key: a, variable: apps/a}}\n  - {{key: a, variable: apps/b}}\n"));
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
fn a_policys_document_that_has_no_lines_of_its_own_is_told_at_its_key() {
    let text = "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurPolicy\nmetadata: {name: p}\nspec:\n  connectionRef: {name: conjur}\n  \
                branch: apps\n  document: \"- !variable a\\n- {]\\n\"\n";
    let (line, rule, message) = one(text);
    assert!(rule == Rule::PolicyDocument && line == 7, "{line} {message}");
}

#[test]
fn the_report_for_machines_is_sarif() {
    let (_, findings) = lint_text(&format!("{HEAD}  data: []\n"));
    let report = sarif::report(&findings);
    assert_eq!(report["version"], "2.1.0");
    let result = &report["runs"][0]["results"][0];
    assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "f.yaml");
    assert!(result["ruleId"].is_string() && result["message"]["text"].is_string(), "{report:#}");
}

/// Lints a folder of these files; its findings by the names of files.
fn folder(files: &[(&str, &[u8])]) -> (Lint, Vec<(String, u32, Rule)>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let lint = lint(&[folder.path().to_owned()]).unwrap();
    let name = |path: &str| Path::new(path).strip_prefix(folder.path()).unwrap().display().to_string();
    let findings = lint.findings.iter().map(|one| (name(&one.path), one.line, one.rule)).collect();
    (lint, findings)
}

#[test]
fn what_does_not_parse_and_is_anothers_is_skipped() {
    let helm = format!("{{{{- if .Values.conjur }}}}\n{HEAD}{{{{- end }}}}\n");
    let latin = [HEAD.as_bytes(), b"# \xe4\n"].concat();
    let (lint, findings) = folder(&[
        ("helm/service.yaml", b"{{- if .Values.x }}\nkind: Service\n{{- end }}\n"),
        ("helm/secret.yaml", helm.as_bytes()),
        ("tsconfig.json", b"{\n  // it's \"a\"\n  \"a\": {,},\n}\n"),
        ("latin.json", b"{\"a\": \"\xe4\"}"),
        ("latin.yaml", &latin),
        ("latin-policy.yml", b"- !variable a # \xe4\n"),
    ]);
    let is = |name: &str, line| (name.to_owned(), line, Rule::Yaml);
    assert_eq!(findings, [is("helm/secret.yaml", 1), is("latin-policy.yml", 1), is("latin.yaml", 1)]);
    assert!(lint.findings[0].message.contains("render the template first"), "{:?}", lint.findings[0]);
    assert!(lint.text().ends_with(
        "0 objects and documents looked at, 3 findings; skipped 3, not YAML or patches of Kustomize\n"
    ));
    let named = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    fs::write(named.path(), "{\n // no\n").unwrap();
    assert_eq!(super::lint(&[named.path().to_owned()]).unwrap().findings.len(), 1);
}

#[test]
fn patches_of_kustomize_are_no_objects() {
    let patch = "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurSecret\nmetadata: {name: db}\nspec: {refreshInterval: 1h}\n";
    let kustomization = b"patches:\n- path: patch.yaml\n";
    let (lint, findings) = folder(&[
        ("patch.yaml", patch.as_bytes()),
        ("kustomization.yaml", kustomization),
        ("other/patch.yaml", patch.as_bytes()),
    ]);
    assert!(
        !findings.is_empty() && findings.iter().all(|(name, ..)| name == "other/patch.yaml"),
        "{findings:?}"
    );
    assert_eq!((lint.looked, lint.skipped), (1, 1));
}

#[test]
fn a_file_that_can_not_be_opened_does_not_end_it() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("a.yaml")).unwrap();
    fs::write(folder.path().join("b.yaml"), "- !variable a\n").unwrap();
    let lint = lint(&[folder.path().to_owned()]).unwrap();
    assert_eq!((lint.looked, lint.findings.len()), (1, 1), "{:?}", lint.findings);
    assert!(lint.findings[0].message.contains("can't be read"), "{:?}", lint.findings);
}

#[test]
fn lines_are_those_of_the_fields() {
    let many: String = (0..5)
        .map(|at| {
            format!("  - key: k{at}\n    variable: a{at}{}\n", if at == 3 { "\n    versions: 1" } else { "" })
        })
        .collect();
    let (line, rule, message) = one(&format!("---\n{HEAD}  data:\n{many}"));
    assert!(
        line == 16 && rule == Rule::UnknownField && message.contains("spec.data[3].versions"),
        "{line} {message}"
    );
    let object = |field: &str| {
        let lines = HEAD.lines().enumerate();
        let item: String =
            lines.map(|(at, line)| format!("{}{line}\n", if at == 0 { "- " } else { "  " })).collect();
        format!("{item}    data:\n    - {{key: a, variable: apps/a}}\n    {field}: 1h\n")
    };
    let list = format!(
        "kind: List\napiVersion: v1\nitems:\n{}{}",
        object("refreshInterval"),
        object("refreshIntervall")
    );
    let (line, rule, message) = one(&list);
    assert!(line == 19 && rule == Rule::UnknownField, "{line} {message}");
}

#[test]
fn templates_are_found_at_their_keys() {
    let (line, rule, _) = one(&format!(
        "{HEAD}  data:\n  - {{key: a, variable: apps/a}}\n  target:\n    template:\n      data:\n        u: ok\n        u.x: \"{{{{ a \"\n"
    ));
    assert!(rule == Rule::Template && line == 12, "{line}");
    let (line, rule, message) = one(
        "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurPush\nmetadata: {name: p}\nspec:\n  connectionRef: {name: conjur}\n  \
         source: {secretRef: {name: s}}\n  prefix: apps/\n  data:\n  - variable: a\n    key: a\n  - variable: b\n    template: \"{{ a \"\n",
    );
    assert!(
        rule == Rule::Template && line == 12 && message.contains("spec.data[1].template"),
        "{line} {message}"
    );
}

#[test]
fn names_are_those_that_kubernetes_takes() {
    let (line, rule, message) = one(&format!(
        "{}  data:\n  - {{key: a, variable: apps/a}}\n",
        HEAD.replace("name: db", "name: My_DB")
    ));
    assert!(line == 3 && rule == Rule::Schema && message.contains("metadata.name"), "{line} {message}");
    let template = HEAD.replace("name: db", "name: '{{ .Values.name }}'");
    let (_, _, message) = one(&format!("{template}  data:\n  - {{key: a, variable: apps/a}}\n"));
    assert!(message.contains("render it first"), "{message}");
    let good = HEAD.replace("name: db", "generateName: db-, namespace: a");
    assert_eq!(lint_text(&format!("{good}  data:\n  - {{key: a, variable: apps/a}}\n")), (1, vec![]));
    let (_, findings) = lint_text(&good.replace("db-", "Db-").replace("namespace: a", "namespace: a.b"));
    let told = |field: &str| findings.iter().any(|one| one.message.contains(field));
    assert!(told("metadata.generateName") && told("metadata.namespace"), "{findings:?}");
}

#[test]
fn files_are_named_once() {
    let mut lint = Lint::default();
    for (path, line) in [("a", 1), ("a", 2), ("b", 1)] {
        lint.found(path, line, Rule::Yaml, String::new());
    }
    assert_eq!(lint.names(), ["a", "b"]);
    let data = serde_json::to_value(&lint.findings).unwrap();
    let fields: Vec<_> = data[0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["line", "message", "object", "path", "rule"]);
}

#[test]
fn the_examples_are_left_alone() {
    let lint = lint(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")]).unwrap();
    assert!(lint.looked > 5 && lint.findings.is_empty(), "{:#?}", lint.findings);
}

#[test]
fn a_rule_that_can_not_be_judged_is_told() {
    let (line, rule, message) =
        one(&format!("{HEAD}  data:\n  - {{key: a, variable: apps/a}}\n  refreshInterval: 99999999999h\n"));
    assert!(line == 8 && rule == Rule::Schema && message.contains("can't be judged"), "{line} {message}");
}

//! The files for Argo CD, run as its own tests run them (`util/lua/health_test.go`, `custom_actions_test.go`), and the page.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use conjur_operator::api::crds;
use serde_json::{Value, json};

use super::{
    judge::{folder, health_scripts, judge},
    kstatus::Verdict,
    lua,
    phase::{Phase, TABLE},
    record,
};

fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn script(kind: &str, path: &str) -> String {
    let path = folder().join(kind).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn kinds() -> BTreeSet<String> {
    crds().into_iter().map(|crd| crd.spec.names.kind).collect()
}

/// Whether the spec of a kind has a field.
fn has(kind: &str, field: &str) -> bool {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    schema["openAPIV3Schema"]["properties"]["spec"]["properties"][field].is_object()
}

#[test]
fn argo_cd_has_one_script_for_the_health_of_every_kind() {
    let scripts = health_scripts();
    assert_eq!(scripts.keys().cloned().collect::<BTreeSet<_>>(), kinds());
    let different: BTreeSet<_> = scripts.values().collect();
    assert_eq!(different.len(), 1, "the scripts of the kinds differ");
}

#[test]
fn argo_cd_judges_each_recorded_object_as_its_phase_asks() {
    let scripts = health_scripts();
    for kind in kinds() {
        if env::var_os("CONJUR_OPERATOR_RECORD").is_some() {
            let text = serde_saphyr::to_string(&record::health_tests(&kind)).unwrap();
            fs::write(folder().join(&kind).join("health_test.yaml"), text).unwrap();
        }
        let mut seen = BTreeSet::new();
        let tests = yaml(&folder().join(&kind).join("health_test.yaml"));
        for test in tests["tests"].as_array().unwrap() {
            let path = test["inputPath"].as_str().unwrap();
            let object = yaml(&folder().join(&kind).join(path));
            assert_eq!(object["kind"], kind.as_str(), "{kind}/{path}");
            assert_eq!(lua::run(&scripts[&kind], &object).unwrap(), test["healthStatus"], "{kind}/{path}");
            let phase = judge(&object, &scripts).unwrap_or_else(|wrong| panic!("{kind}/{path}: {wrong}"));
            assert_eq!(path, record::file(phase), "{kind}");
            seen.insert(phase);
        }
        let files = fs::read_dir(folder().join(&kind).join("testdata")).unwrap().count();
        assert_eq!(files, seen.len(), "{kind}: a file of testdata is in no test");
        let mut lacking: BTreeSet<_> = TABLE.iter().map(|row| row.phase).collect();
        lacking.retain(|phase| !seen.contains(phase));
        if !has(&kind, "suspend") {
            lacking
                .retain(|phase| !matches!(phase, Phase::Suspended | Phase::SuspendedEarly | Phase::Behind));
        }
        // These are looked at again by themselves after minutes only.
        if ["ConjurHost", "ConjurConnection", "ClusterConjurConnection"].contains(&kind.as_str()) {
            lacking.remove(&Phase::StillGood);
        }
        assert!(lacking.is_empty(), "{kind}: nothing is recorded of {lacking:?}");
    }
}

#[test]
fn argo_cd_says_what_keeps_a_new_spec_from_being_looked_at_and_nothing_of_the_former_one() {
    let script = &health_scripts()["ConjurSecret"];
    let object = |of: i64, type_: &str| {
        let condition = |type_: &str, status: &str| {
            json!({
                "type": type_, "status": status, "reason": "ConjurUnavailable", "message": "it answers 503", "observedGeneration": of,
            })
        };
        json!({
            "metadata": { "generation": 2 }, "spec": {},
            "status": { "observedGeneration": 1, "conditions": [condition("Ready", "False"), condition(type_, "True")] },
        })
    };
    for (of, type_, message) in [
        (2, "Reconciling", "ConjurUnavailable: it answers 503"),
        (1, "Reconciling", "waiting for the operator"),
        (1, "Stalled", "waiting for the operator"),
    ] {
        let health = lua::run(script, &object(of, type_)).unwrap();
        assert_eq!(health, json!({ "status": "Progressing", "message": message }), "{of} {type_}");
    }
}

/// An object with an instant in the place of what an action wrote.
fn at_an_instant(mut object: Value) -> Value {
    let annotations = object["metadata"]["annotations"].as_object_mut();
    for (name, value) in annotations.into_iter().flatten() {
        if name.ends_with("-now") {
            let text = value.as_str().unwrap();
            assert!(text.parse::<jiff::Timestamp>().is_ok(), "{text}");
            *value = "0001-01-01T00:00:00Z".into();
        }
    }
    object
}

/// What Argo CD makes of an answer of Lua, which does not tell an empty list from an empty map.
fn cleaned(new: &mut Value, old: &Value) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            for (name, value) in new {
                cleaned(value, old.get(name).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(new), Value::Array(old)) => {
            new.iter_mut().zip(old).for_each(|(new, old)| cleaned(new, old));
        }
        (new, old) if is_empty(new) && is_empty(old) => *new = old.clone(),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// The actions that Argo CD finds in an object, as it lists them.
fn discovered(kind: &str, object: &Value) -> Vec<Value> {
    let found = lua::run(&script(kind, "actions/discovery.lua"), object).unwrap();
    let actions = found.as_object().unwrap().iter();
    let mut actions: Vec<_> = actions
        .map(|(name, action)| {
            let disabled = action["disabled"].as_bool().unwrap_or(false);
            let (icon, title) = (&action["iconClass"], &action["displayName"]);
            json!({ "name": name, "disabled": disabled, "iconClass": icon, "displayName": title })
        })
        .collect();
    actions.sort_by_key(|action| action["name"].to_string());
    actions
}

#[test]
fn argo_cd_has_an_action_for_all_kinds_that_asks_for_a_look_at_once() {
    for kind in kinds() {
        let tests = yaml(&folder().join(&kind).join("actions/action_test.yaml"));
        let mut tried = BTreeSet::new();
        for test in tests["actionTests"].as_array().unwrap() {
            let (action, input) = (test["action"].as_str().unwrap(), test["inputPath"].as_str().unwrap());
            let at = folder().join(&kind).join("actions");
            let object = yaml(&at.join(input));
            let mut made =
                lua::run(&script(&kind, &format!("actions/{action}/action.lua")), &object).unwrap();
            cleaned(&mut made, &object);
            let expected = yaml(&at.join(test["expectedOutputPath"].as_str().unwrap()));
            assert_eq!(at_an_instant(made.clone()), at_an_instant(expected), "{kind} {action}");
            // The annotation that the operator reads, and nothing else.
            let annotation = format!("conjur-operator.io/{action}");
            assert!(made["metadata"]["annotations"][&annotation].is_string(), "{kind} {action}");
            made["metadata"]["annotations"].as_object_mut().unwrap().remove(&annotation);
            let mut before = object;
            if before["metadata"]["annotations"].is_null() {
                before["metadata"]["annotations"] = json!({});
            }
            before["metadata"]["annotations"].as_object_mut().unwrap().remove(&annotation);
            assert_eq!(made, before, "{kind} {action}");
            tried.insert(action.to_owned());
        }
        let expected: BTreeSet<_> = if kind == "ConjurHost" {
            ["sync-now", "rotate-now"].map(str::to_owned).into()
        } else {
            ["sync-now"].map(str::to_owned).into()
        };
        assert_eq!(tried, expected, "{kind}");
        for test in tests["discoveryTests"].as_array().unwrap() {
            let object =
                yaml(&folder().join(&kind).join("actions").join(test["inputPath"].as_str().unwrap()));
            let mut result = test["result"].as_array().unwrap().clone();
            result.sort_by_key(|action| action["name"].to_string());
            assert_eq!(discovered(&kind, &object), result, "{kind}");
        }
    }
}

#[test]
fn an_action_that_would_do_nothing_is_disabled() {
    for kind in kinds() {
        let disabled = |spec: Value| {
            let actions = discovered(&kind, &json!({ "metadata": {}, "spec": spec }));
            actions.into_iter().filter(|action| action["disabled"] == true).count()
        };
        assert_eq!(disabled(json!({})), 0, "{kind}");
        let all = if kind == "ConjurHost" { 2 } else { 1 };
        assert_eq!(
            disabled(json!({ "suspend": true })),
            if has(&kind, "suspend") { all } else { 0 },
            "{kind}"
        );
        // There is no key to rotate.
        assert_eq!(disabled(json!({ "apiKey": false })), usize::from(kind == "ConjurHost"), "{kind}");
    }
}

#[test]
fn the_config_map_for_argo_cd_has_what_the_files_have() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("gitops/argocd");
    let told = Command::new(top.join("argocd-cm.sh")).output().unwrap();
    let committed = fs::read_to_string(top.join("argocd-cm.yaml")).unwrap();
    assert!(told.status.success(), "{told:?}");
    assert_eq!(committed, String::from_utf8(told.stdout).unwrap(), "write it anew by `make gitops`");
    let map = yaml(&top.join("argocd-cm.yaml"));
    let data = map["data"].as_object().unwrap();
    assert_eq!(data.len(), 2 * kinds().len());
    for kind in kinds() {
        let health = &data[&format!("resource.customizations.health.conjur-operator.io_{kind}")];
        assert_eq!(health.as_str(), Some(script(&kind, "health.lua").as_str()), "{kind}");
        let actions =
            data[&format!("resource.customizations.actions.conjur-operator.io_{kind}")].as_str().unwrap();
        let actions: Value = serde_saphyr::from_str(actions).unwrap();
        assert_eq!(actions["discovery.lua"].as_str().unwrap(), script(&kind, "actions/discovery.lua"));
        let definitions = actions["definitions"].as_array().unwrap();
        assert_eq!(definitions.len(), if kind == "ConjurHost" { 2 } else { 1 }, "{kind}");
        for definition in definitions {
            let path = format!("actions/{}/action.lua", definition["name"].as_str().unwrap());
            assert_eq!(definition["action.lua"].as_str().unwrap(), script(&kind, &path), "{kind}");
        }
    }
}

#[test]
fn the_page_has_the_verdicts_of_every_phase() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gitops.md")).unwrap();
    for row in &TABLE {
        let kstatus = match row.kstatus {
            Verdict::Terminating => "Terminating",
            Verdict::InProgress => "InProgress",
            Verdict::Failed => "Failed",
            Verdict::Current => "Current",
        };
        let line = format!("| {} | {kstatus} | {} |", row.name, row.argo_cd);
        assert!(page.contains(&line), "docs/gitops.md lacks the line {line}");
    }
    for block in page.split("```yaml\n").skip(1) {
        let block: Value = serde_saphyr::from_str(block.split("```").next().unwrap()).unwrap();
        for of in ["healthChecks", "healthCheckExprs"] {
            for check in block["spec"][of].as_array().unwrap() {
                assert_eq!(check["apiVersion"], "conjur-operator.io/v1alpha1");
                assert!(kinds().contains(check["kind"].as_str().unwrap()), "{check}");
            }
        }
    }
}

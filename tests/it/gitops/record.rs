//! Objects as they were seen in a cluster, as the files that Argo CD's tests read.

use std::{env, fs, path::Path};

use serde_json::{Value, json};

use super::{
    judge::{folder, health_scripts},
    lua,
    phase::{Phase, TABLE},
};

/// The file of a phase, below the folder of its kind.
pub fn file(phase: Phase) -> String {
    let name = format!("{phase:?}");
    let kebab = name.char_indices().fold(String::new(), |all, (at, c)| {
        let dash = if at > 0 && c.is_uppercase() { "-" } else { "" };
        all + dash + &c.to_lowercase().to_string()
    });
    format!("testdata/{kebab}.yaml")
}

/// What an object is judged by. The reasons may differ: an outage is first seen by the object or by its connection.
fn shape(object: &Value, phase: Phase) -> Value {
    let (meta, status) = (&object["metadata"], &object["status"]);
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = conditions.iter().map(|c| json!([c["type"], c["status"]])).collect::<Vec<_>>();
    let observed = status["observedGeneration"] == meta["generation"];
    // What stands there is of the former spec, or is not written any more, or just was: by how far the operator is.
    let tells = !matches!(phase, Phase::Behind | Phase::Deleting);
    json!({
        "conditions": tells.then_some(told),
        "observed": (phase != Phase::Deleting).then_some(observed),
        "deleted": meta["deletionTimestamp"].is_string(),
        "suspended": object["spec"]["suspend"] == true,
    })
}

/// Sees that an object is as the file of its kind and phase has it. Where `CONJUR_OPERATOR_RECORD` is set the file is written,
/// with these texts replaced by those of anybody's cluster.
pub fn is_as_recorded(object: &Value, phase: Phase, replaced: &[(&str, &str)]) {
    let kind = object["kind"].as_str().unwrap();
    let path = folder().join(kind).join(file(phase));
    if env::var_os("CONJUR_OPERATOR_RECORD").is_some() {
        write(object, &path, replaced);
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let recorded: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(shape(object, phase), shape(&recorded, phase), "{}: {object}", path.display());
}

fn write(object: &Value, path: &Path, replaced: &[(&str, &str)]) {
    let text = replaced.iter().fold(object.to_string(), |text, (from, to)| text.replace(from, to));
    let mut object: Value = serde_json::from_str(&text).unwrap();
    object["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    object["metadata"]["resourceVersion"] = "1".into();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, serde_saphyr::to_string(&object).unwrap()).unwrap();
}

/// The text of the file that says which health each recorded object of a kind has.
pub fn health_tests(kind: &str) -> Value {
    let script = &health_scripts()[kind];
    let recorded = TABLE.iter().filter_map(|row| {
        let text = fs::read_to_string(folder().join(kind).join(file(row.phase))).ok()?;
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        Some(json!({ "healthStatus": lua::run(script, &object).unwrap(), "inputPath": file(row.phase) }))
    });
    json!({ "tests": recorded.collect::<Vec<_>>() })
}

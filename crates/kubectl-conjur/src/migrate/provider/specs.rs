//! What the Secrets Provider is told to fetch: `conjur-map` of a Secret, and the lists of annotations.

use serde_json::Value;

/// A value to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name for the application.
    pub alias: String,
    /// The id of the variable.
    pub variable: String,
    /// The value is base64.
    pub base64: bool,
}

impl Spec {
    /// Whether it stands for all that the identity may read.
    pub fn is_everything(&self) -> bool {
        self.variable == "*"
    }
}

/// Reads a `conjur-map`.
///
/// # Errors
/// What is wrong with it. Never holds a value: there is none in it.
pub fn map(text: &str) -> Result<Vec<Spec>, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|_| "it is not YAML".to_owned())?;
    let map = value.as_object().ok_or("it is no map")?;
    map.iter().map(|(key, value)| entry(key, value)).collect()
}

fn entry(alias: &str, value: &Value) -> Result<Spec, String> {
    let (variable, base64) = match value {
        Value::String(id) => (id.as_str(), false),
        Value::Object(of) => {
            if let Some(other) = of.keys().find(|key| !matches!(key.as_str(), "id" | "content-type")) {
                return Err(format!("'{other}' of {alias} is not known"));
            }
            (
                of.get("id").and_then(Value::as_str).unwrap_or_default(),
                of.get("content-type").is_some_and(|of| of == "base64"),
            )
        }
        _ => return Err(format!("{alias} names no variable")),
    };
    if variable.is_empty() {
        return Err(format!("{alias} names no variable"));
    }
    Ok(Spec { alias: alias.to_owned(), variable: variable.to_owned(), base64 })
}

/// Reads the list of an annotation `conjur.org/conjur-secrets.<group>`, whose ids lie below `prefix`.
///
/// # Errors
/// What is wrong with it.
pub fn list(text: &str, prefix: &str) -> Result<Vec<Spec>, String> {
    if text.trim() == "*" {
        return Ok(vec![Spec { alias: "*".to_owned(), variable: "*".to_owned(), base64: false }]);
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|_| "it is not YAML".to_owned())?;
    let items = value.as_array().ok_or("it is no list")?;
    let mut specs = items.iter().map(item).collect::<Result<Vec<_>, _>>()?;
    let prefix = prefix.trim_end_matches('/');
    for spec in &mut specs {
        if !prefix.is_empty() && !spec.is_everything() {
            spec.variable = format!("{prefix}/{}", spec.variable.trim_start_matches('/'));
        }
    }
    Ok(specs)
}

fn item(value: &Value) -> Result<Spec, String> {
    match value {
        Value::String(id) => {
            let alias = id.rsplit('/').next().unwrap_or(id);
            Ok(Spec { alias: alias.to_owned(), variable: id.clone(), base64: false })
        }
        Value::Object(of) => {
            let base64 = of.get("content-type").is_some_and(|of| of == "base64");
            let mut named = of.iter().filter(|(key, _)| *key != "content-type");
            match (named.next(), named.next()) {
                (Some((alias, Value::String(id))), None) => {
                    Ok(Spec { alias: alias.clone(), variable: id.clone(), base64 })
                }
                _ => Err("an entry is not one alias with its variable".to_owned()),
            }
        }
        _ => Err("an entry is neither a variable nor an alias with its variable".to_owned()),
    }
}

/// Names of Secrets in a list of YAML, or separated by commas.
pub fn names(text: &str) -> Vec<String> {
    if let Ok(names) = serde_saphyr::from_str::<Vec<String>>(text) {
        return names;
    }
    text.split([',', '\n'])
        .map(|name| name.trim().trim_start_matches("- ").to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(alias: &str, variable: &str, base64: bool) -> Spec {
        Spec { alias: alias.into(), variable: variable.into(), base64 }
    }

    #[test]
    fn maps_and_lists_are_read() {
        assert_eq!(
            map("USER: apps/db/user\nKEY:\n  id: apps/key\n  content-type: base64\n").unwrap(),
            [spec("KEY", "apps/key", true), spec("USER", "apps/db/user", false)]
        );
        assert_eq!(
            list("- user: username\n- password\n- key: key\n  content-type: base64\n", "apps/db/").unwrap(),
            [
                spec("user", "apps/db/username", false),
                spec("password", "apps/db/password", false),
                spec("key", "apps/db/key", true)
            ]
        );
        assert!(list("*", "").unwrap()[0].is_everything());
        for wrong in ["- [a]", "a: b", "- {a: b, c: d}", "\"unclosed"] {
            assert!(list(wrong, "").is_err(), "{wrong}");
        }
        assert_eq!(names("- a\n- b\n"), ["a", "b"]);
        assert_eq!(names("a, b"), ["a", "b"]);
    }
}

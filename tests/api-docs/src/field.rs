//! The fields of a schema as rows.

use serde_json::Value;

/// One row of a table.
pub struct Field {
    /// From the spec or status on: `target.template.data[].key`.
    pub path: String,
    /// With "required", the values that there are, and the bounds.
    pub type_: String,
    pub text: String,
}

/// All fields below an object.
pub fn all(schema: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    below(schema, "", &mut fields);
    fields
}

fn below(schema: &Value, under: &str, fields: &mut Vec<Field>) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{under}{name}");
        let mark = if required.contains(&name.as_str()) { "**required**, " } else { "" };
        let text = [described(schema), checks(schema).join(" ")].join(" ").trim().to_owned();
        fields.push(Field { path: path.clone(), type_: format!("{mark}{}", type_of(schema)), text });
        // A condition is Kubernetes' own.
        if name == "conditions" {
            continue;
        }
        below(schema, &format!("{path}."), fields);
        below(&schema["items"], &format!("{path}[]."), fields);
        below(&schema["additionalProperties"], &format!("{path}.*."), fields);
    }
}

/// A description as it may stand in a table, without the word that the mark says.
pub fn described(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    let text = text.strip_prefix("Required. ").unwrap_or(text);
    in_a_cell(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What the API server checks besides.
pub fn checks(schema: &Value) -> Vec<String> {
    let rules = [schema, &schema["items"]].map(|schema| schema["x-kubernetes-validations"].as_array());
    let messages = rules.into_iter().flatten().flatten().filter_map(|rule| rule["message"].as_str());
    messages.map(|message| format!("*Checked:* {}.", in_a_cell(message.trim_end_matches('.')))).collect()
}

/// Outside of code, what stands in angles would be HTML; a stroke would end the cell everywhere.
fn in_a_cell(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| {
        if at % 2 == 0 {
            part.replace('<', "&lt;").replace('>', "&gt;").replace('\\', "\\\\").replace('*', "\\*")
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("`").replace('|', "\\|")
}

fn thousands(number: &Value) -> Option<String> {
    let number =
        number.as_u64().or_else(|| number.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0).map(whole))?;
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| str::from_utf8(part).ok()).collect();
    Some(parts.join(","))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number that is not negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Of a bound on both sides, or on one; `of` is what is counted.
fn bounds(least: &Value, most: &Value, of: &str) -> Option<String> {
    match (thousands(least).filter(|least| least != "0"), thousands(most)) {
        (Some(least), Some(most)) if least == most => Some(format!("{most}{of}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}{of}")),
        (Some(least), None) => Some(format!("at least {least}{of}")),
        (None, Some(most)) => Some(format!("at most {most}{of}")),
        (None, None) => None,
    }
}

/// A type with its values and bounds.
fn type_of(schema: &Value) -> String {
    let values: Vec<String> = schema["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|value| format!("`{value}`"))
        .collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    let name = match schema["type"].as_str().unwrap_or("integer or string") {
        "array" => format!("list of {}", many(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", many(&schema["additionalProperties"]))
        }
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        other => other.to_owned(),
    };
    let all = [
        bounds(&schema["minLength"], &schema["maxLength"], " characters"),
        bounds(&schema["minimum"], &schema["maximum"], ""),
        bounds(&schema["minItems"], &schema["maxItems"], " entries"),
        bounds(&schema["minProperties"], &schema["maxProperties"], " entries"),
    ];
    let all: Vec<String> = [Some(name)].into_iter().chain(all).flatten().collect();
    all.join(", ")
}

/// What a list or a map has.
fn many(schema: &Value) -> String {
    match schema["type"].as_str().unwrap_or("any") {
        "string" if schema["enum"].is_array() => type_of(schema),
        "string" => match bounds(&schema["minLength"], &schema["maxLength"], " characters") {
            Some(bounds) => format!("strings ({bounds} each)"),
            None => "strings".to_owned(),
        },
        "any" => "any type".to_owned(),
        other => format!("{other}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_row_with_its_type_bounds_and_rules() {
        let schema = serde_json::json!({
            "required": ["a"],
            "properties": {
                "a": { "type": "array", "minItems": 1, "maxItems": 1000, "description": "Required. A <b> of\n`<c>|d`.",
                    "items": { "type": "object", "properties": { "e": { "type": "string", "maxLength": 5 } } } },
                "f": { "type": "string", "enum": ["G", "H"], "x-kubernetes-validations": [{ "message": "only once" }] },
                "i": { "type": "integer", "minimum": 1.0, "maximum": 64.0 },
                "j": { "type": "object", "additionalProperties": { "type": "string" } },
            },
        });
        let rows: Vec<String> =
            all(&schema).into_iter().map(|f| format!("{}: {}: {}", f.path, f.type_, f.text)).collect();
        let expected = [
            "a: **required**, list of objects, 1 to 1,000 entries: A &lt;b&gt; of `<c>\\|d`.",
            "a[].e: string, at most 5 characters: ",
            "f: `G`, `H`: *Checked:* only once.",
            "i: integer, 1 to 64: ",
            "j: map of strings: ",
        ];
        assert_eq!(rows, expected);
    }
}

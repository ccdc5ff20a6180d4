use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::*;

/// Templates, and what both engines make of them: `output` was rendered by Go's `text/template` with sprig, and is rendered
/// again by the operator's engine in its own tests.
#[derive(Deserialize)]
struct Table {
    data: BTreeMap<String, String>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    go: String,
    #[serde(default)]
    aliases: Option<Vec<(String, String)>>,
    /// In place of the data of all.
    data: Option<BTreeMap<String, String>>,
    #[serde(default)]
    open: bool,
    here: String,
    #[serde(default)]
    differs: Vec<String>,
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/migrate")
}

#[test]
fn templates_are_translated() {
    let table: Table =
        serde_json::from_str(&fs::read_to_string(root().join("templates.json")).unwrap()).unwrap();
    for pair in table.pairs {
        let data = pair.data.as_ref().unwrap_or(&table.data);
        let names = match pair.aliases {
            Some(aliases) => Names::Aliases(aliases),
            None => Names::Keys { known: data.keys().cloned().collect(), open: pair.open },
        };
        let translated = translate(&pair.go, &names);
        assert_eq!(translated.text.as_deref(), Some(&*pair.here), "{}: {:?}", pair.go, translated.blocks);
        let differs: Vec<_> = translated.differs.iter().map(|finding| &finding.what).collect();
        assert_eq!(differs.len(), pair.differs.len(), "{}: {differs:?}", pair.go);
        for (found, expected) in differs.iter().zip(&pair.differs) {
            assert!(found.contains(expected), "{}: {found}", pair.go);
        }
    }
}

#[test]
fn what_has_no_counterpart_is_named_with_its_place() {
    let keys = Names::Keys { known: ["a".to_owned(), "b".to_owned()].into(), open: false };
    let aliases = Names::Aliases(vec![("a".into(), "a".into())]);
    for (text, names, place, what) in [
        ("x\n  {{ .a | sha256sum }}", &keys, (2, 11), "'sha256sum'"),
        ("{{ .a | trunc 5 }}", &keys, (1, 9), "'trunc'"),
        ("{{ now | date \"2006\" }}", &keys, (1, 4), "'now'"),
        ("{{ .a | pkcs12cert }}", &keys, (1, 9), "'pkcs12cert'"),
        ("{{ .a | filterCertChain \"leaf\" }}", &keys, (1, 9), "'filterCertChain'"),
        ("{{ (fromJson .a) | toJson }}", &keys, (1, 20), "'toJson'"),
        ("{{ range $k, $v := fromJson .a }}{{ end }}", &keys, (1, 20), "a list or a map"),
        ("{{ len .a }}", &keys, (1, 4), "'len'"),
        ("{{ and .a .b }}", &keys, (1, 4), "which operand"),
        ("{{ . }}", &keys, (1, 4), "a whole map"),
        ("{{ .a.b }}", &keys, (1, 4), "'.b' is a field"),
        ("{{ splitList \",\" .a }}", &keys, (1, 4), "a list or map is written"),
        ("{{ template \"x\" . }}", &keys, (1, 4), "'template'"),
        ("{{ if .a }}x", &keys, (1, 6), "not closed"),
        ("{{ end }}", &keys, (1, 4), "nothing open"),
        ("a {{ .a", &keys, (1, 3), "not closed"),
        ("{{ .a | replace .b \"x\" }}", &keys, (1, 9), "'replace'"),
        ("{{ printf \"%x\" .a }}", &keys, (1, 4), "'printf'"),
        ("{{ coalesce .a .b }}", &keys, (1, 4), "'coalesce'"),
        ("{{ $x = .a }}", &keys, (1, 7), "not understood"),
        ("{{ eq .a 1 }}", &keys, (1, 4), "different kinds"),
        ("{{ secret \"b\" }}", &aliases, (1, 4), "no secret 'b'"),
        ("{{ secret \"a\" | upper }}", &aliases, (1, 17), "has no function 'upper'"),
    ] {
        let translated = translate(text, names);
        assert_eq!(translated.text, None, "{text}");
        let found = &translated.blocks[0];
        assert!(found.what.contains(what) && found.place == place, "{text}: {found:?}");
    }
}

#[test]
fn all_that_blocks_is_named() {
    let keys = Names::Keys { known: ["a".to_owned()].into(), open: false };
    let translated = translate("{{ .a | md5 }}\n{{ .a }}\n{{ uuidv4 }}", &keys);
    assert_eq!(translated.blocks.iter().map(|found| found.place.0).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_key_is_named_as_it_can_be() {
    for (name, expected) in [
        ("user", "user"),
        ("tls.crt", "data[\"tls.crt\"]"),
        ("a-b", "data[\"a-b\"]"),
        ("data", "data[\"data\"]"),
        ("not", "data[\"not\"]"),
        ("it_1", "data[\"it_1\"]"),
        ("1a", "data[\"1a\"]"),
        ("q\"\\", "data[\"q\\\"\\\\\"]"),
    ] {
        assert_eq!(key(name), expected);
    }
}

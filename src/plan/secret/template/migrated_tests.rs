//! Templates of Go, as `kubectl conjur migrate` translates them: both give the same bytes.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::*;

/// `output` was rendered by Go's `text/template` with sprig; that `here` is the translation of `go` is tested where it is made.
#[derive(Deserialize)]
struct Table {
    data: BTreeMap<String, String>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    here: String,
    output: String,
    data: Option<BTreeMap<String, String>>,
}

#[test]
fn a_translated_template_gives_what_it_gave() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate/templates.json");
    let table: Table = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(table.pairs.len() > 50);
    for pair in table.pairs {
        let data = pair.data.as_ref().unwrap_or(&table.data);
        let data = data
            .iter()
            .map(|(key, value)| (key.clone(), Sensitive::new(value.clone().into_bytes())))
            .collect();
        let text = Text::inline("out", &pair.here);
        check([&text]).unwrap_or_else(|error| panic!("{}: {error}", pair.here));
        let made = render(&[text], &data).unwrap_or_else(|error| panic!("{}: {error}", pair.here));
        assert_eq!(String::from_utf8_lossy(made["out"].expose()), pair.output, "{}", pair.here);
    }
}

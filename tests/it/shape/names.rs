//! One type name stands in one file of a package, so that who jumps to a definition lands in the right one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use regex::Regex;

use super::{PACKAGES, source_folder, sources};

static TYPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^(pub(?:\([^)]*\))? )?(?:struct|enum|trait|type|union) ([A-Z]\w*)").unwrap()
});

/// What goes wrong in a module, as in most libraries; it is read with its module: `cluster::Error`.
const OF_A_MODULE: &str = "Error";
/// What clones of a handle share, and what stands behind a lock. Each is named in its own file only; a longer name would
/// repeat the file's.
const PRIVATE: [&str; 2] = ["Inner", "State"];

/// Names of the types that a file defines, without those of its tests.
fn types(text: &str) -> BTreeSet<&str> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let found =
        TYPE.captures_iter(code).map(|found| (found.get(1).is_some(), found.get(2).unwrap().as_str()));
    let found = found.filter(|(public, name)| *name != OF_A_MODULE && (*public || !PRIVATE.contains(name)));
    found.map(|(_, name)| name).collect()
}

fn is_test(path: &Path, package: &str) -> bool {
    let path = path.strip_prefix(source_folder(package)).unwrap().with_extension("");
    path.iter().any(|part| part == "tests" || part == "model")
}

#[test]
fn one_type_name_stands_in_one_file() {
    for package in PACKAGES {
        let files = sources(package, "");
        let mut by_name: BTreeMap<&str, Vec<&PathBuf>> = BTreeMap::new();
        for (path, text) in files.iter().filter(|(path, _)| !is_test(path, package)) {
            for name in types(text) {
                by_name.entry(name).or_default().push(path);
            }
        }
        assert!(by_name.len() > 30, "hardly any found in {package}/src: {by_name:?}");
        by_name.retain(|_, paths| paths.len() > 1);
        assert!(by_name.is_empty(), "rename all but one of each: {by_name:#?}");
    }
}

#[test]
fn types_are_found_where_they_are_defined() {
    let text = "pub(super) enum A {\n    Variant,\n}\nstruct B<T>(T);\nimpl I for B {\n    type C = u8;\n}\n\
                pub enum Error {}\nstruct State;\npub struct Inner;\n#[cfg(test)]\nmod tests {\n}\nstruct D;\n";
    assert_eq!(types(text), BTreeSet::from(["A", "B", "Inner"]));
}

//! No file of a package imports, over others, from itself: each can be read with what it imports, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;

use super::{PACKAGES, source_folder, sources};

static USE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\s*(pub(?:\([^)]*\))? )?use ([^;]+);").unwrap());
static INLINE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(?:crate|super|self)(?:::\w+)+").unwrap());
static NOISE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"//[^\n]*|"(?:\\.|[^"\\])*"|pub\(in [^)]*\)"#).unwrap());

type Name = Vec<String>;

/// `a::{b, c::{self, d}}` as `a::b`, `a::c::self`, `a::c::d`.
fn flat(tree: &str) -> Vec<Name> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let head: Name =
        head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in rest[..rest.rfind('}').unwrap()].chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    let inner = parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| flat(part));
    inner.map(|path| head.iter().cloned().chain(path).collect()).collect()
}

/// The file that a path leads to from another, and what it names there.
fn lead(from: &[String], path: &[String], files: &BTreeSet<Name>) -> Option<(Name, Name)> {
    let mut base = from.to_vec();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
        }
        child if files.contains(&[from, &[child.to_owned()]].concat()) => rest = path,
        _ => return None,
    }
    if matches!(rest[0].as_str(), "crate" | "self" | "super") {
        rest = &rest[1..];
    }
    while rest.first().is_some_and(|part| part == "super") {
        base.pop();
        rest = &rest[1..];
    }
    let whole: Name = base.into_iter().chain(rest.iter().filter(|part| *part != "self").cloned()).collect();
    let length = (0..=whole.len()).rev().find(|length| files.contains(&whole[..*length]))?;
    Some((whole[..length].to_vec(), whole[length..].to_vec()))
}

/// Which file of a package imports from which, over what is only handed on. The root has the empty name.
fn imports(package: &str) -> BTreeMap<Name, BTreeSet<Name>> {
    let root = source_folder(package);
    let mut texts = BTreeMap::new();
    for (path, text) in sources(package, "") {
        let name = path.strip_prefix(&root).unwrap().with_extension("");
        let mut name: Name = name.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        let is_test = name.iter().any(|part| part == "tests");
        if name == ["lib"] {
            name.clear();
        }
        if !is_test && name != ["main"] {
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            texts.insert(name, NOISE.replace_all(code, "").into_owned());
        }
    }
    let files: BTreeSet<Name> = texts.keys().cloned().collect();
    let (mut handed_on, mut found) = (BTreeMap::new(), Vec::new());
    for (name, text) in &texts {
        for used in USE.captures_iter(text) {
            for path in flat(&used[2]) {
                let Some((to, what)) = lead(name, &path, &files) else { continue };
                if used.get(1).is_some() {
                    if let Some(what) = what.first() {
                        handed_on.insert((name.clone(), what.clone()), to);
                    }
                } else {
                    found.push((name.clone(), to, what));
                }
            }
        }
        for inline in INLINE.find_iter(&USE.replace_all(text, "")) {
            let path: Name = inline.as_str().split("::").map(str::to_owned).collect();
            found.extend(lead(name, &path, &files).map(|(to, what)| (name.clone(), to, what)));
        }
    }
    let mut imports: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for (from, mut to, what) in found {
        while let Some(further) = what.first().and_then(|what| handed_on.get(&(to.clone(), what.clone()))) {
            to.clone_from(further);
        }
        if to != from {
            imports.entry(from).or_default().insert(to);
        }
    }
    imports
}

/// The shortest way from a file back to itself.
fn way_back(start: &Name, imports: &BTreeMap<Name, BTreeSet<Name>>) -> Option<Vec<Name>> {
    let (mut ways, mut known) = (vec![vec![start.clone()]], BTreeSet::new());
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in imports.get(way.last()?).into_iter().flatten() {
                if next == start {
                    return Some(way);
                }
                if known.insert(next.clone()) {
                    longer.push([&way[..], std::slice::from_ref(next)].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn imports_run_in_no_circle() {
    let mut all = (0, 0);
    for package in PACKAGES {
        let imports = imports(package);
        all = (all.0 + imports.len(), all.1 + imports.values().map(BTreeSet::len).sum::<usize>());
        let circles = imports.keys().filter_map(|name| way_back(name, &imports));
        let of = |name: &Name| if name.is_empty() { "the root".to_owned() } else { name.join("::") };
        let told: BTreeSet<String> =
            circles.map(|way| way.iter().map(of).collect::<Vec<_>>().join(" imports ")).collect();
        assert!(
            told.is_empty(),
            "each of these of {package}/src leads back to its first:\n{}",
            told.into_iter().collect::<Vec<_>>().join("\n")
        );
    }
    assert!(all.0 > 150 && all.1 > 600, "hardly any found: {all:?}");
}

#[test]
fn a_circle_is_found_where_there_is_one() {
    let one = |name: &str| vec![name.to_owned()];
    let imports = BTreeMap::from([
        (one("a"), BTreeSet::from([one("b")])),
        (one("b"), BTreeSet::from([one("c")])),
        (one("c"), BTreeSet::from([one("b")])),
    ]);
    assert_eq!(way_back(&one("a"), &imports), None);
    assert_eq!(way_back(&one("b"), &imports), Some(vec![one("b"), one("c")]));
    let paths = flat("crate::{a, b::{self, c}}");
    assert_eq!(
        paths.iter().map(|path| path.join("::")).collect::<Vec<_>>(),
        ["crate::a", "crate::b::self", "crate::b::c"]
    );
}

#[test]
fn effects_belong_to_no_kind() {
    for (path, text) in sources("", "effect").into_iter().chain(sources("", "plan/effect")) {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        // What messages and comments say of fields is another matter.
        let code = NOISE.replace_all(code, "");
        let kinds = ["Secret", "Policy", "Host", "Push"].map(|kind| format!("Conjur{kind}"));
        let controllers = ["secret", "policy", "host", "push"].map(|kind| format!("controllers::{kind}"));
        for kind in kinds.iter().chain(&controllers) {
            assert!(!code.contains(kind), "{} must not know {kind}", path.display());
        }
    }
}

#[test]
fn what_tells_something_once_is_called_in_one_place() {
    for (path, text) in sources("", "") {
        if path.ends_with("effect/perform.rs") {
            continue;
        }
        for call in [
            ".load_policy(",
            ".rotate_api_key(",
            ".create_host(",
            ".set_secret(",
            ".create_host_factory_tokens(",
        ] {
            assert!(!text.contains(call), "only effect/perform.rs may call {call}: {}", path.display());
        }
        // A load that is announced, keys that a person permits to rotate, and statements that delete.
        let may = [
            "effect/load.rs",
            "effect/host.rs",
            "effect/variables/batch.rs",
            "push/fill.rs",
            "host/remove.rs",
            "policy/lost_keys.rs",
            "policy/remove/branch.rs",
        ];
        if may.iter().all(|may| !path.ends_with(may)) {
            assert!(!text.contains("perform::"), "nothing is performed but by an effect: {}", path.display());
        }
    }
}

#[test]
fn the_runtime_knows_no_kind() {
    for (path, text) in sources("", "runtime") {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        if path.ends_with("tests.rs") {
            continue;
        }
        for kind in [
            "ConjurSecret",
            "ConjurPolicy",
            "ConjurHost",
            "ConjurPush",
            "ConjurConnection",
            "Kind::",
            "crate::controllers",
        ] {
            let line = code.lines().find(|line| !line.trim_start().starts_with("//") && line.contains(kind));
            assert!(line.is_none(), "{} must not know {kind}: {}", path.display(), line.unwrap_or_default());
        }
    }
}

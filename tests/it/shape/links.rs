//! What the pages point to is there: files, headings, targets of make, kinds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    sync::LazyLock,
};

use regex::Regex;

/// Where links to the repository on the web begin; what follows is a path in it.
const REPOSITORY: &str = "https://github.com/conjur-operator/conjur-operator/blob/main/";

static LINK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\]\(([^)\s]+)\)").unwrap());
static SUMMARY_LINE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\s*(?:- )?\[([^\]]+)\]\(([^)]+)\)$").unwrap());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The pages in `docs`, by the names of their files; without the list of them.
fn docs() -> BTreeSet<String> {
    let paths = fs::read_dir(root().join("docs")).unwrap().map(|file| file.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let names = pages.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    names.filter(|name| name != "SUMMARY.md").collect()
}

/// All pages whose links are followed.
fn pages() -> Vec<String> {
    let named = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/SUMMARY.md"];
    let mut pages: Vec<String> = named.map(str::to_owned).into();
    pages.extend(
        ["charts/conjur-operator/README.md", "charts/conjur-operator/README.head.md"].map(str::to_owned),
    );
    pages.extend(
        ["crates/conjur-client/README.md", "crates/conjur-operator-api/README.md"].map(str::to_owned),
    );
    pages.extend(docs().iter().map(|name| format!("docs/{name}")));
    pages
}

/// A page without its fenced blocks.
fn prose(page: &str) -> String {
    let mut is_fenced = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let (mut seen, mut anchors) = (BTreeMap::<String, usize>::new(), BTreeSet::new());
    for line in prose(page).lines().filter(|line| line.starts_with('#')) {
        let text = line.trim_start_matches('#').trim();
        let anchor: String = text
            .chars()
            .filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign))
            .map(|sign| if sign == ' ' { '-' } else { sign.to_ascii_lowercase() })
            .collect();
        let times = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
        *times += 1;
    }
    anchors
}

#[test]
fn anchors_are_those_of_the_site() {
    let page = "# The `a_b` of C\n```\n# none\n```\n## What's new?\n## What's new?\n";
    let expected = ["the-a_b-of-c", "whats-new", "whats-new-1"].map(str::to_owned);
    assert_eq!(anchors(page), BTreeSet::from(expected));
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            _ => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let (mut wrong, mut followed) = (Vec::new(), 0);
    for page in pages() {
        let text = prose(&read(&page));
        for link in LINK.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
            let (link, folder) = match link.strip_prefix(REPOSITORY) {
                Some(path) => (path, Path::new("")),
                None if link.contains("://") || link.starts_with("mailto:") => continue,
                None => (link, Path::new(&page).parent().unwrap()),
            };
            followed += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { PathBuf::from(&page) } else { plain(&folder.join(path)) };
            if !root().join(&path).exists() {
                wrong.push(format!("{page}: {link}: there is no {}", path.display()));
            } else if !anchor.is_empty() && !anchors(&read(path.to_str().unwrap())).contains(anchor) {
                wrong.push(format!("{page}: {link}: {} has no such heading", path.display()));
            }
        }
    }
    assert!(followed > 100, "{followed} links");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_site_has_every_page_once() {
    let summary = read("docs/SUMMARY.md");
    let named: Vec<&str> =
        SUMMARY_LINE.captures_iter(&summary).map(|found| found.get(2).unwrap().as_str()).collect();
    let distinct: BTreeSet<String> = named.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(distinct.len(), named.len(), "docs/SUMMARY.md names a page twice: {named:?}");
    assert_eq!(distinct, docs(), "docs/SUMMARY.md on the left, the files of docs/ on the right");
}

/// The spans of code in a text, and the lines that are indented as code.
fn code(page: &str) -> Vec<String> {
    let text = prose(page);
    let mut code: Vec<String> = Vec::new();
    for paragraph in text.split("\n\n") {
        if paragraph.starts_with("    ") {
            code.extend(paragraph.lines().map(|line| line.trim().to_owned()));
        } else {
            code.extend(paragraph.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}

#[test]
fn every_target_of_make_that_pages_name_is_there() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| name.bytes().all(|sign| sign == b'-' || sign.is_ascii_lowercase()))
        .collect();
    let mut named = 0;
    for page in pages() {
        for command in code(&read(&page)) {
            // Settings may stand before it: `KEEP=1 make demo`.
            let mut words = command.split(' ').skip_while(|word| word.contains('='));
            if words.next() != Some("make") {
                continue;
            }
            for target in words.take_while(|word| !word.contains('=') && !word.starts_with('#')) {
                if target.is_empty() {
                    break;
                }
                named += 1;
                assert!(targets.contains(target), "{page}: `{command}`: there is no target {target}");
            }
        }
    }
    assert!(named > 20, "{named} targets of make are named");
}

#[test]
fn the_readme_names_the_kinds_that_there_are() {
    let kinds = conjur_operator::api::crds().into_iter().map(|crd| crd.spec.names.kind);
    let readme = read("README.md");
    let named =
        readme.split("**").skip(1).step_by(2).filter(|bold| bold.contains("Conjur") && !bold.contains(' '));
    let (kinds, named): (BTreeSet<String>, BTreeSet<String>) =
        (kinds.collect(), named.map(str::to_owned).collect());
    assert_eq!(kinds, named, "the kinds on the left, README.md on the right");
}

/// Ids in Conjur that look like paths.
const IDS: &str = "apps/";

#[test]
fn every_file_that_the_readme_and_contributing_name_is_there() {
    let mut named = 0;
    for page in ["README.md", "CONTRIBUTING.md"] {
        for path in code(&read(page)).iter().flat_map(|code| code.split(' ')) {
            let is_path = path.contains('/')
                && !path.starts_with(IDS)
                && path.starts_with(|sign: char| sign == '.' || sign.is_ascii_lowercase())
                && path.bytes().all(|sign| sign.is_ascii_alphanumeric() || b"._-/".contains(&sign));
            // An object of kubectl: `conjursecret/db`.
            if !is_path || path.starts_with("conjur") || path.starts_with("target/") {
                continue;
            }
            named += 1;
            assert!(root().join(path).exists(), "{page} names {path}, which is not there");
        }
    }
    assert!(named > 10, "{named} files are named");
}

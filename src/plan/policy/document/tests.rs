use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn below(branch: &str, document: &str) -> Document {
    read(document, branch, "demo").unwrap()
}

/// The ids made, `!` before those that the branch's owner would not own.
fn made(branch: &str, document: &str) -> Vec<String> {
    let mark = |role: MadeRole| {
        let id = role.id.strip_prefix("demo:").unwrap().to_owned();
        if role.owner_outside_branch { format!("!{id}") } else { id }
    };
    below(branch, document).roles.into_iter().map(mark).collect()
}

#[test]
fn hosts_and_users_get_the_ids_that_the_server_gives_them() {
    // Each as the recordings show it: seq 28, 56, 66, 90, 115, 120, 570, 674.
    let cases: &[(&str, &str, &[&str])] = &[
        ("root", "- !user alice\n- !host web\n", &["user:alice", "host:web"]),
        ("app", "- !user\n  annotations: {a: b}\n", &["user:app"]),
        ("app", "- !user joe\n", &["user:joe@app"]),
        ("app/nested", "- !user u1\n- !host hh\n", &["user:u1@app-nested", "host:app/nested/hh"]),
        (
            "app",
            "- !policy\n  id: nested\n  body:\n  - !host h1\n  - !policy\n    id: deeper\n    body:\n    - !user eve\n",
            &["host:app/nested/h1", "user:eve@app-nested-deeper"],
        ),
        (
            "root",
            "- !policy\n  id: jwt\n  body:\n  - !host {id: 'system:serviceaccount:a:b'}\n",
            &["host:jwt/system:serviceaccount:a:b"],
        ),
        ("x", "- !host \"we ird'id\"\n", &["host:x/we ird'id"]),
        ("x", "- !host 123\n", &["host:x/123"]),
        ("x", "- !host\n", &["host:x"]),
        ("x/y", "- !host\n  id:\n", &["host:x/y"]),
        ("x", "- !user a/b\n", &["user:b@x-a"]),
        ("x", "- !host /x/abs\n", &["host:x/abs"]),
        ("x", "- !Host h\n", &["host:x/h"]),
        ("x", "- !<!host> h\n", &["host:x/h"]),
        ("x", "%TAG !e! !ho\n---\n- !e!st h\n", &["host:x/h"]),
        ("/x/", "- !host h\n", &["host:x/h"]),
        ("x", "\u{feff}- !host h\r\n- !host i\r\n", &["host:x/h", "host:x/i"]),
        ("x", "- !host h\n- !host h\n", &["host:x/h"]),
        (
            "x",
            "- [\n  \t!host a,\n  \t!host\tb ]\t# note\n- !host\tc\n",
            &["host:x/a", "host:x/b", "host:x/c"],
        ),
        ("x", "- !policy p9\n- !policy\n  body:\n  - !host a\n", &["host:x/a"]),
    ];
    for (branch, document, expected) in cases {
        assert_eq!(&made(branch, document), expected, "{document}");
    }
}

#[test]
fn a_host_that_is_only_mentioned_is_not_made() {
    for document in [
        "- !grant\n  role: !layer web\n  member: !host a\n",
        "- !grant\n  role: !layer web\n  members: [ !host a, !user /b ]\n",
        "- !grant\n  role: !group g\n  member: !member\n    role: !host a\n",
        "- !permit\n  role: !host a\n  privileges: [read]\n  resource: !host b\n",
        "- !delete\n  record: !host a\n",
        "- !group\n  id: g\n  owner: !user a\n",
        "- !variable\n  id: v\n  annotations:\n    note: '!host a'\n",
        "- host\n- a: !host b\n",
        "- !host-factory\n  id: hf\n  layers: [ !layer web ]\n",
    ] {
        assert_eq!(made("x", document), [""; 0], "{document}");
    }
}

#[test]
fn an_alias_makes_what_it_names_once_and_where_it_is_first_met() {
    let anchored =
        "- &hosts\n  - !host a\n  - !host b\n- !grant\n  role: !layer l\n  members: *hosts\n- *hosts\n";
    assert_eq!(made("x", anchored), ["host:x/a", "host:x/b"]);
    let reference_first = "- !grant\n  role: !layer l\n  members: &hosts [ !host a ]\n- *hosts\n";
    assert_eq!(made("x", reference_first), ["host:x/a"]);
    let single = "- !policy\n  id: p\n  body:\n  - &h !host a\n- !policy\n  id: q\n  body:\n  - *h\n";
    assert_eq!(made("x", single), ["host:x/p/a"]);
    let nested = "- - - !host a\n  - [ !host b, [ !host c ] ]\n";
    assert_eq!(made("x", nested), ["host:x/a", "host:x/b", "host:x/c"]);
}

#[test]
fn an_anchor_on_a_plain_value_names_nothing_and_what_refers_to_it_is_named_like_the_branch() {
    let document = "- !host {id: &n web}\n- !variable\n  id: *n\n- !host {id: *n}\n";
    let read = below("app", document);
    let ids: Vec<_> = read.records.iter().map(|record| (record.id.as_str(), record.path.as_str())).collect();
    assert_eq!(ids, [("demo:host:app/web", "web"), ("demo:variable:app", ""), ("demo:host:app", "")]);
    assert_eq!(made("x", "- &h !host a\n- !policy {id: p, body: [*h]}\n"), ["host:x/a"], "a record's does");
}

#[test]
fn an_alias_without_an_anchor_is_no_value_and_a_tab_in_brackets_is_white_space() {
    let document = "- !variable v\n- !permit\n  role: !group g\n  privileges: [read]\n  resource: *variables\n- !host a\n";
    assert_eq!(made("x", document), ["host:x/a"]);
    for document in [
        "- !host {\tid: a }\n",
        "- !host { id:\ta,\tannotations: {\tk: v } }\n",
        "- !host {\n  \tid: a,\n\n  \t# note\n  \towner: !group\tg }\n",
    ] {
        assert_eq!(made("x", document), ["host:x/a"], "{document}");
    }
    let error = read("- !host {\n\tid: a }\n", "x", "demo").unwrap_err();
    assert_eq!((error.message.as_str(), error.line), ("the YAML has a tab here; indent with spaces", 2));
}

#[test]
fn a_slash_at_the_end_of_an_id_is_part_of_it() {
    let read = below("app", "- !host a/\n- !variable b//c/\n");
    let ids: Vec<_> = read.records.iter().map(|record| (record.id.as_str(), record.path.as_str())).collect();
    assert_eq!(ids, [("demo:host:app/a/", "a/"), ("demo:variable:app/b//c/", "b//c/")]);
}

#[test]
fn a_resource_is_a_record_of_its_kind() {
    let document = "- !resource {kind: variable, id: v}\n- !resource\n  kind: configuration\n  id: eu/c\n- !resource {kind: host_factory, id: f}\n- !resource {kind: user, id: u}\n- !resource {id: none}\n- !resource {kind: 'a:b', id: x}\n- !resource {kind: variable, id: v}\n- !permit {role: !group g, privileges: [read], resource: !resource {kind: variable, id: other}}\n";
    let read = below("app", document);
    let records = read.records.iter().map(|r| (r.id.as_str(), &*r.kind, r.path.as_str()));
    let expected = [
        ("demo:variable:app/v", "variable", "v"),
        ("demo:configuration:app/eu/c", "configuration", "eu/c"),
        ("demo:host_factory:app/f", "host-factory", "f"),
        ("demo:user:u@app", "user", "u"),
    ];
    assert_eq!(records.collect::<Vec<_>>(), expected);
    assert!(read.roles.is_empty(), "Conjur gives no key for them");
    let again: Document = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
    assert_eq!(again, read);
}

#[test]
fn the_line_of_a_role_is_that_of_its_statement() {
    let document = "# comment\n- !policy\n  id: p\n  body:\n  - !user\n    id: u\n- &h\n  - !host a\n- *h\n";
    let lines: Vec<u32> = below("x", document).roles.iter().map(|role| role.line).collect();
    assert_eq!(lines, [5, 8]);
}

#[test]
fn deletions_and_statements_are_counted_in_nested_policies_too() {
    let document = "- !delete\n  record: !host a\n- !policy\n  id: p\n  body:\n  - !deny\n    role: !host b\n  - !revoke\n    role: !group g\n- !frobnicate x\n";
    let read = below("x", document);
    let deletions: Vec<_> = read.deletions.iter().map(|it| (it.statement, it.line)).collect();
    assert_eq!(deletions, [(DeletionKind::Delete, 1), (DeletionKind::Deny, 6), (DeletionKind::Revoke, 8)]);
    assert_eq!(read.statements, 5);
    assert!(read.roles.is_empty());
}

#[test]
fn a_role_belongs_to_the_branch_when_its_owners_end_there() {
    // Below own/app; a `!` marks what its owner could not see.
    let cases: &[(&str, &[&str])] = &[
        ("- !host a\n", &["host:own/app/a"]),
        ("- !host {id: a, owner: !group ops}\n", &["host:own/app/a"]),
        ("- !host {id: a, owner: !group /own/app/ops}\n", &["host:own/app/a"]),
        ("- !host {id: a, owner: !policy /own/app}\n", &["host:own/app/a"]),
        ("- !host {id: a, owner: !policy}\n", &["host:own/app/a"]),
        ("- !host {id: a, owner: !user alice}\n", &["host:own/app/a"]),
        ("- !host {id: a, owner: !group /ops}\n", &["!host:own/app/a"]),
        ("- !host {id: a, owner: !group ../ops}\n", &["!host:own/app/a"]),
        ("- !host {id: a, owner: !group /own/apple/ops}\n", &["!host:own/app/a"]),
        ("- !host {id: a, owner: !policy /own}\n", &["!host:own/app/a"]),
        ("- !host {id: a, owner: !group /own/app}\n", &["!host:own/app/a"]),
        ("- !host {id: a, owner: !user /alice}\n", &["!host:own/app/a"]),
        ("- !user {id: a, owner: !user /alice@own-app}\n", &["!user:a@own-app"]),
        (
            "- !user alice\n- !host {id: a, owner: !user /alice@own-app}\n",
            &["user:alice@own-app", "host:own/app/a"],
        ),
        ("- !host {id: a, owner: !role {kind: group, id: /ops}}\n", &["!host:own/app/a"]),
        ("- !host {id: a, owner: !group {id: ops, account: other}}\n", &["!host:own/app/a"]),
        // A nested policy is owned by the branch, unless it says otherwise.
        ("- !policy {id: p, body: [ !host a ]}\n", &["host:own/app/p/a"]),
        ("- !policy {id: p, owner: !group /ops, body: [ !host a ]}\n", &["!host:own/app/p/a"]),
        ("- !policy {id: p, owner: !group ops, body: [ !host a ]}\n", &["host:own/app/p/a"]),
        ("- !policy {id: p, body: [ !host a ], owner: !group /ops}\n", &["!host:own/app/p/a"]),
        (
            "- !policy {id: p, owner: !group /ops, body: [ !policy {id: q, body: [ !host a ]} ]}\n",
            &["!host:own/app/p/q/a"],
        ),
        (
            "- !policy {id: p, owner: !group /ops, body: [ !host {id: a, owner: !policy /own/app} ]}\n",
            &["host:own/app/p/a"],
        ),
        // An owner that the document makes leads on to its own owner.
        ("- !group {id: g, owner: !group /ops}\n- !host {id: a, owner: !group g}\n", &["!host:own/app/a"]),
        ("- !host {id: a, owner: !group g}\n- !group {id: g, owner: !group /ops}\n", &["!host:own/app/a"]),
        ("- !group g\n- !host {id: a, owner: !group g}\n", &["host:own/app/a"]),
        (
            "- !group {id: g, owner: !group h}\n- !group {id: h, owner: !group g}\n- !host {id: a, owner: !group g}\n",
            &["!host:own/app/a"],
        ),
        ("- &g !group {id: g, owner: !group /ops}\n- !host {id: a, owner: *g}\n", &["!host:own/app/a"]),
        ("- &g !group g\n- !host {id: a, owner: *g}\n", &["host:own/app/a"]),
    ];
    for (document, expected) in cases {
        assert_eq!(&made("own/app", document), expected, "{document}");
    }
}

#[test]
fn everything_belongs_to_root() {
    assert_eq!(made("root", "- !host {id: a, owner: !group /anywhere/ops}\n"), ["host:a"]);
    assert_eq!(made("root", "- !policy {id: p, owner: !group ops, body: [ !host a ]}\n"), ["host:p/a"]);
}

#[test]
fn the_owner_named_is_the_roles_own_or_the_nearest_policys() {
    let owner = |document: &str| below("x", document).roles.first().and_then(|role| role.owner.clone());
    assert_eq!(owner("- !host a\n"), None);
    assert_eq!(owner("- !host {id: a, owner: !user alice}\n").unwrap(), "demo:user:alice@x");
    assert_eq!(owner("- !host {id: a, owner: !host-factory f}\n").unwrap(), "demo:host_factory:x/f");
    assert_eq!(
        owner("- !policy {id: p, owner: !group /ops, body: [ !host a ]}\n").unwrap(),
        "demo:group:ops"
    );
    let both = "- !policy {id: p, owner: !group /ops, body: [ !host {id: a, owner: !group g} ]}\n";
    assert_eq!(owner(both).unwrap(), "demo:group:x/p/g");
    assert_eq!(owner("- !host {id: a, owner: ops}\n"), None);
}

#[test]
fn a_document_without_statements_is_read_as_the_server_reads_it() {
    // Recordings seq 51, 52: 201.
    for document in ["# nothing\n", "[]", "[]\n", "---\n", "--- # x\n...\n"] {
        assert_eq!(below("x", document), Document::default(), "{document:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_position() {
    let cases = [
        ("", 1, 1),
        (" \n\t\n", 1, 1),
        // Recordings seq 45, 46, 105, 47, 48, 121.
        ("- !variable foo\n - bar: [\n", 2, 7),
        ("- !variable\n\tid: foo\n", 2, 2),
        ("\t- !host a\n", 1, 2),
        ("- !policy\n  id: p\n  body:\n \t - !host a\n", 4, 4),
        ("- !variable [\n", 1, 13),
        ("hello\n", 1, 1),
        ("a: b\n", 1, 1),
        ("- !variable md1\n---\n- !variable md2\n", 2, 1),
        ("- !host a\n- *nosuch\n", 2, 3),
        ("- !e!host a\n", 1, 3),
        ("- 'open\n", 1, 3),
    ];
    for (document, line, column) in cases {
        let error = read(document, "x", "demo").unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{document:?}: {error}");
    }
}

#[test]
fn an_error_never_quotes_the_document() {
    for document in [
        "- !host hunter2\n  : hunter2: [\n",
        "hunter2",
        "hunter2: hunter2",
        "- *hunter2",
        "- \"hunter2\\q\"",
        "- !hunter2!x y",
        "- hunter2\n---\n- hunter2",
    ] {
        let error = read(document, "x", "demo").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn aliases_of_aliases_stay_as_small_as_their_text() {
    let mut document = "- &a0 [ !host h, !host i ]\n".to_owned();
    for n in 1..500 {
        let p = n - 1;
        writeln!(document, "- &a{n} [ *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p} ]").unwrap();
    }
    assert_eq!(made("x", &document), ["host:x/h", "host:x/i"]);
}

#[test]
fn an_alias_inside_what_it_names_ends() {
    assert_eq!(made("x", "- &a [ !host h, *a ]\n"), ["host:x/h"]);
    assert_eq!(made("x", "- &a !policy {id: p, owner: *a, body: [ *a, !host h ]}\n"), ["!host:x/p/h"]);
}

#[test]
fn nesting_is_bounded_and_never_a_stack_overflow() {
    let nested = |depth: usize| format!("{}!host h{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(made("x", &nested(DOCUMENT_DEPTH)), ["host:x/h"]);
    for depth in [DOCUMENT_DEPTH + 1, 300, 100_000] {
        let error = read(&nested(depth), "x", "demo").unwrap_err();
        assert!(error.message.contains("deep"), "{error}");
    }
    let blocks = "- ".repeat(100_000);
    assert!(read(&blocks, "x", "demo").unwrap_err().message.contains("deep"));
    // Each policy holds the one before, and the walk meets the last one first, through the owner.
    let mut chain = "- !policy\n  id: p\n  body:\n  - &a0 !policy {id: a}\n".to_owned();
    for n in 1..5_000 {
        writeln!(chain, "  - &a{n} !policy {{id: a{n}, body: [ *a{} ]}}", n - 1).unwrap();
    }
    chain.push_str("  owner: *a4999\n");
    assert!(read(&chain, "x", "demo").unwrap_err().message.contains("deep"));
}

#[test]
fn a_long_document_is_read_in_time() {
    let mut document = String::new();
    for n in 0..20_000 {
        writeln!(document, "- !group {{id: g{n}, owner: !group g{}}}", n + 1).unwrap();
        writeln!(document, "- !host {{id: h{n}, owner: !group g{n}}}").unwrap();
    }
    let read = below("x", &document);
    assert_eq!((read.roles.len(), read.statements), (20_000, 40_000));
    assert!(read.roles.iter().all(|role| !role.owner_outside_branch));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), branch in "root|a|a/b|") {
        let _ = read(&text, &branch, "demo");
    }

    #[test]
    fn anything_like_a_policy_is_read_or_refused(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "- ", "!host ", "!user ", "!policy ", "!grant ", "a", "/", "..", "\n", "  ", "    ", "id: ", "body:", "owner: ",
                "&x ", "*x", "[", "]", "{", "}", ", ", "member: ", "\"", "'", "|", "---\n", "#", "!", "%", ":", "@", "ü", "\t",
            ]),
            0..60,
        )
    ) {
        if let Ok(document) = read(&parts.concat(), "a/b", "demo") {
            for role in document.roles {
                prop_assert!(role.id.starts_with("demo:host:") || role.id.starts_with("demo:user:"));
                prop_assert!(role.line >= 1);
            }
        }
    }
}

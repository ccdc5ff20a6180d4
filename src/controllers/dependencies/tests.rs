use kube::core::PartialObjectMetaExt;

use super::*;
use crate::{api::SourceKind, controllers::kinds::Ends};

fn meta(name: &str, revision: &str) -> PartialObjectMeta<ConfigMap> {
    let meta = ObjectMeta {
        namespace: Some("n".into()),
        name: Some(name.into()),
        uid: Some("0dba3aa9-6d0c-4b3b-8a4e-8f1f1f4f0b0a".into()),
        resource_version: Some(revision.into()),
        ..ObjectMeta::default()
    };
    meta.into_request_partial()
}

fn map(name: &str) -> Dependency {
    Dependency::bundle(SourceKind::ConfigMap, "n", name)
}

fn policy(name: &str) -> Dependent {
    Dependent::Object(Kind::Policy, Key { namespace: "n".into(), name: name.into() })
}

/// With watches that reach nothing.
fn inputs() -> (Arc<Dependencies>, Ends) {
    inputs_in(WatchScope::default())
}

fn inputs_in(scope: WatchScope) -> (Arc<Dependencies>, Ends) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (kinds, ends) = Kinds::new();
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    (Dependencies::new(Client::try_from(config).unwrap(), scope, kinds), ends)
}

fn woken(ends: &mut Ends) -> Vec<String> {
    let mut names: Vec<_> = std::iter::from_fn(|| ends.policies.incoming.woken.try_recv())
        .map(|(object, _)| object.name)
        .collect();
    names.sort();
    names
}

fn show(inputs: &Dependencies, event: watcher::Event<PartialObjectMeta<ConfigMap>>) {
    inputs.take((DependencyKind::ConfigMap, ""), event);
}

fn list(inputs: &Dependencies, objects: &[(&str, &str)]) {
    show(inputs, watcher::Event::Init);
    for (name, revision) in objects {
        show(inputs, watcher::Event::InitApply(meta(name, revision)));
    }
    show(inputs, watcher::Event::InitDone);
}

#[tokio::test]
async fn any_number_of_things_of_a_kind_are_one_watch() {
    let (inputs, _woken) = inputs();
    for n in 0..1_000 {
        inputs.want(&policy(&n.to_string()), &[map(&n.to_string()), Dependency::secret(&n.to_string(), "s")]);
    }
    assert_eq!(inputs.state().watches.len(), 2);
    for n in 0..1_000 {
        inputs.want(&policy(&n.to_string()), &[]);
    }
    let state = inputs.state();
    assert!(state.watched.is_empty() && state.wanted.is_empty());
}

#[tokio::test]
async fn who_wants_something_is_woken_by_the_first_news_and_by_each_change_of_it() {
    let (inputs, mut all) = inputs();
    inputs.want(&policy("there"), &[map("a")]);
    inputs.want(&policy("missing"), &[map("b")]);
    assert_eq!(inputs.versions(&[map("a")]), None);
    list(&inputs, &[("a", "1"), ("other", "1")]);
    assert_eq!(woken(&mut all), ["missing", "there"]);
    assert_eq!(inputs.versions(&[map("b")]).unwrap(), [""]);
    for (event, expected) in [
        (watcher::Event::Apply(meta("a", "2")), vec!["there"]),
        (watcher::Event::Apply(meta("a", "2")), vec![]),
        (watcher::Event::Apply(meta("b", "3")), vec!["missing"]),
        (watcher::Event::Apply(meta("other", "4")), vec![]),
        (watcher::Event::Delete(meta("a", "5")), vec!["there"]),
        (watcher::Event::Delete(meta("other", "6")), vec![]),
    ] {
        let what = format!("{event:?}");
        show(&inputs, event);
        assert_eq!(woken(&mut all), expected, "{what}");
    }
    assert!(inputs.changed(&policy("there")) && inputs.take_changed(&policy("there")));
    assert!(!inputs.changed(&policy("there")));
}

#[tokio::test]
async fn what_went_or_came_while_the_watch_was_broken_is_news() {
    let (inputs, mut all) = inputs();
    for name in ["goes", "stays", "comes"] {
        inputs.want(&policy(name), &[map(name)]);
    }
    list(&inputs, &[("goes", "1"), ("stays", "1")]);
    woken(&mut all);
    list(&inputs, &[("stays", "1"), ("comes", "1")]);
    assert_eq!(woken(&mut all), ["comes", "goes"]);
    assert_eq!(inputs.versions(&[map("goes")]).unwrap(), [""]);
}

#[tokio::test]
async fn what_is_wanted_later_is_known_already_and_says_that_it_is_new() {
    let (inputs, mut all) = inputs();
    inputs.want(&policy("first"), &[map("a")]);
    list(&inputs, &[("b", "1")]);
    woken(&mut all);
    assert!(inputs.want(&policy("second"), &[map("b")]));
    assert!(!inputs.want(&policy("second"), &[map("b")]));
    assert!(inputs.versions(&[map("b")]).is_some_and(|versions| versions[0].ends_with("/1")));
    assert_eq!(woken(&mut all), [""; 0]);
    inputs.want_also(&policy("second"), &[map("c")]);
    show(&inputs, watcher::Event::Apply(meta("c", "2")));
    assert_eq!(woken(&mut all), ["second"]);
    inputs.want(&policy("second"), &[]);
    show(&inputs, watcher::Event::Apply(meta("c", "3")));
    assert_eq!(woken(&mut all), [""; 0]);
}

#[tokio::test]
async fn a_connection_that_is_gone_is_forgotten_with_its_tenants_and_no_other() {
    let (inputs, _all) = inputs();
    let id = |name: &str| ConnectionId {
        kind: crate::api::ConnectionKind::ClusterConjurConnection,
        namespace: String::new(),
        name: name.into(),
    };
    for name in ["stays", "goes"] {
        inputs.want(&Dependent::Connection(id(name)), &[map("a"), map(name)]);
        inputs.want(&Dependent::Tenant(id(name), "t".into()), &[map("b")]);
    }
    inputs.forget_connection(&id("goes"));
    let state = inputs.state();
    assert_eq!((state.wanted.len(), state.of.len(), state.watched.len()), (2, 1, 3));
    assert!(!state.watched.contains_key(&map("goes")));
}

#[tokio::test]
async fn edits_of_what_thousands_use_keep_no_list_of_them_each() {
    let (inputs, mut all) = inputs();
    let user = |n: usize| match n % 2 {
        0 => policy(&n.to_string()),
        _ => Dependent::Object(Kind::Secret, Key { namespace: "n".into(), name: n.to_string() }),
    };
    for n in 0..2_000 {
        inputs.want(&user(n), &[map("shared")]);
    }
    list(&inputs, &[("shared", "1")]);
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let first = tokio::time::Instant::now();
    for edit in 2..52 {
        show(&inputs, watcher::Event::Apply(meta("shared", &edit.to_string())));
    }
    assert_eq!((all.policies.incoming.woken.waiting(), all.secrets.incoming.woken.waiting()), (1_000, 1_000));
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), tasks);
    let later = |woken: &mut crate::runtime::wake::Woken| {
        std::iter::from_fn(|| woken.try_recv()).filter(|(_, at)| *at > first).count()
    };
    assert!(
        later(&mut all.policies.incoming.woken) > 500 && later(&mut all.secrets.incoming.woken) > 500,
        "they are spread"
    );
}

#[tokio::test]
async fn each_namespace_that_is_watched_alone_has_a_watch_of_what_is_referred_to_there() {
    let scope = WatchScope::new(&["n".to_owned(), "other".to_owned(), "unused".to_owned()], true).unwrap();
    let (inputs, mut all) = inputs_in(scope);
    let other = Dependency::bundle(SourceKind::ConfigMap, "other", "a");
    let outside = Dependency::bundle(SourceKind::ConfigMap, "outside", "a");
    inputs.want(&policy("mine"), &[map("a"), map("b")]);
    inputs.want(&policy("others"), std::slice::from_ref(&other));
    inputs.want(&policy("outside"), std::slice::from_ref(&outside));
    assert_eq!(inputs.state().watches.len(), 2);
    inputs.take::<ConfigMap>((DependencyKind::ConfigMap, "n"), watcher::Event::Init);
    inputs.take((DependencyKind::ConfigMap, "n"), watcher::Event::InitApply(meta("a", "1")));
    inputs.take::<ConfigMap>((DependencyKind::ConfigMap, "n"), watcher::Event::InitDone);
    assert_eq!(woken(&mut all), ["mine"]);
    assert_eq!(inputs.versions(&[map("b")]).unwrap(), [""], "it is known that it is not there");
    assert_eq!(inputs.versions(std::slice::from_ref(&other)), None, "its namespace was not listed");
    assert_eq!(inputs.versions(std::slice::from_ref(&outside)), None);
    assert!(inputs.cannot_be_watched(&outside) && !inputs.cannot_be_watched(&other));
}

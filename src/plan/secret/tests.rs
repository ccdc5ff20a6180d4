use super::*;
use crate::api::ADOPT_ANNOTATION;

pub(super) fn me() -> Owner {
    Owner {
        kind: "ConjurSecret".into(),
        api_version: "conjur-operator.io/v1alpha1".into(),
        name: "db".into(),
        namespace: "billing".into(),
        uid: "uid-1".into(),
    }
}

fn desired(data: &[(&str, &str)]) -> Desired {
    Desired {
        name: "db".into(),
        type_: "Opaque".into(),
        labels: BTreeMap::from([("team".into(), "pay".into())]),
        annotations: BTreeMap::new(),
        owned: true,
        data: data.iter().map(|(k, v)| ((*k).to_owned(), Sensitive::new(v.as_bytes().to_vec()))).collect(),
        ..Desired::default()
    }
}

fn written(data: &[(&str, &str)]) -> SecretRead {
    let mut secret = desired(data).to_secret(&me(), None, &OwnKeys::default());
    secret.metadata.uid = Some("secret-uid".into());
    secret.metadata.resource_version = Some("7".into());
    secret
}

fn key() -> FingerprintKey {
    FingerprintKey::random().unwrap()
}

fn edit(change: impl FnOnce(&mut Secret)) -> SecretRead {
    let mut secret = written(&[("a", "1")]);
    change(&mut secret);
    secret
}

fn decided(existing: &Secret) -> Result<Action, Reason> {
    decide(&desired(&[("a", "1")]), Some(existing), &me(), &key()).map_err(|f| f.reason)
}

#[test]
fn what_we_wrote_is_unchanged() {
    assert_eq!(decided(&written(&[("a", "1")])), Ok(Action::Unchanged));
}

#[test]
fn an_absent_secret_is_created() {
    assert_eq!(decide(&desired(&[("a", "1")]), None, &me(), &key()), Ok(Action::Create));
}

#[test]
fn anothers_label_or_annotation_is_not_drift() {
    let labelled = edit(|s| {
        s.metadata.labels.as_mut().unwrap().insert("other".into(), "x".into());
        s.metadata.annotations.as_mut().unwrap().insert("other".into(), "x".into());
    });
    assert_eq!(decided(&labelled), Ok(Action::Unchanged));
}

#[test]
fn an_edit_of_what_is_ours_is_drift() {
    for changed in [
        edit(|s| drop(s.data.as_mut().unwrap().insert("a".into(), ByteString(b"2".to_vec())))),
        edit(|s| drop(s.data.as_mut().unwrap().insert("b".into(), ByteString(b"2".to_vec())))),
        edit(|s| drop(s.data.as_mut().unwrap().remove("a"))),
        edit(|s| drop(s.metadata.labels.as_mut().unwrap().remove("team"))),
        edit(|s| drop(s.metadata.labels.as_mut().unwrap().insert("team".into(), "x".into()))),
    ] {
        assert_eq!(decided(&changed), Ok(Action::Replace));
    }
}

#[test]
fn what_cannot_be_changed_is_recreated() {
    let typed = edit(|s| s.type_ = Some("example.com/x".into()));
    let immutable = edit(|s| {
        s.immutable = Some(true);
        s.data.as_mut().unwrap().clear();
    });
    assert_eq!(decided(&typed), Ok(Action::Recreate));
    assert_eq!(decided(&immutable), Ok(Action::Recreate));
    assert_eq!(
        decided(&edit(|s| s.immutable = Some(true))),
        Ok(Action::Recreate),
        "it is not to be immutable"
    );
}

#[test]
fn an_immutable_secret_is_recreated_only_for_what_cannot_be_changed() {
    let sealed = |data: &[(&str, &str)]| Desired { immutable: true, ..desired(data) };
    let decided = |want: &Desired, there: &Secret| decide(want, Some(there), &me(), &key()).unwrap();
    let there = edit(|s| s.immutable = Some(true));
    assert_eq!(decided(&sealed(&[("a", "1")]), &there), Action::Unchanged);
    assert_eq!(decided(&sealed(&[("a", "2")]), &there), Action::Recreate);
    assert_eq!(decided(&sealed(&[("a", "1")]), &written(&[("a", "1")])), Action::Replace);
    let unlabelled = edit(|s| {
        s.immutable = Some(true);
        s.metadata.labels.as_mut().unwrap().remove("team");
    });
    assert_eq!(decided(&sealed(&[("a", "1")]), &unlabelled), Action::Replace);
}

#[test]
fn a_secret_that_is_made_once_is_written_only_to_take_it_over() {
    let once = Desired { once: true, ..desired(&[("a", "2")]) };
    let decided = |there: &Secret| decide(&once, Some(there), &me(), &key()).unwrap();
    assert_eq!(decided(&written(&[("b", "1")])), Action::Unchanged);
    let adopted = edit(|s| {
        s.metadata.owner_references = None;
        s.metadata.annotations = Some(BTreeMap::from([(ADOPT_ANNOTATION.into(), "ConjurSecret/db".into())]));
    });
    assert_eq!(decided(&adopted), Action::Replace);
}

#[test]
fn a_foreign_secret_is_refused() {
    let controlled_by = |uid: &str, kind: &str, name: &str| OwnerReference {
        api_version: "conjur-operator.io/v1alpha1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let adopt = |s: &mut Secret| {
        s.metadata.owner_references = None;
        s.metadata.annotations = Some(BTreeMap::from([(ADOPT_ANNOTATION.into(), "ConjurSecret/db".into())]));
    };
    for (existing, expected) in [
        (edit(|s| s.metadata = ObjectMeta::default()), Err(Reason::ForeignSecret)),
        (
            edit(|s| s.metadata.owner_references = Some(vec![controlled_by("x", "Other", "y")])),
            Err(Reason::ForeignSecret),
        ),
        (
            edit(|s| s.metadata.owner_references = Some(vec![controlled_by("old", "ConjurSecret", "db")])),
            Err(Reason::TargetTerminating),
        ),
        (
            edit(|s| {
                s.metadata.owner_references = None;
                s.metadata.annotations =
                    Some(BTreeMap::from([(OWNER_ANNOTATION.into(), "ConjurSecret/other".into())]));
            }),
            Err(Reason::ForeignSecret),
        ),
        (edit(adopt), Ok(Action::Replace)),
        (
            edit(|s| {
                adopt(s);
                s.metadata.owner_references = Some(vec![controlled_by("x", "Other", "y")]);
            }),
            Err(Reason::ForeignSecret),
        ),
        (edit(|s| s.metadata.owner_references = None), Ok(Action::Replace)),
    ] {
        assert_eq!(decided(&existing), expected, "{:?}", existing.metadata);
    }
}

#[test]
fn a_label_or_annotation_that_is_no_longer_asked_for_is_a_difference() {
    let set_by_us = |fields| ManagedFieldsEntry {
        manager: Some(MANAGER.into()),
        fields_v1: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    };
    let own = serde_json::json!({"f:metadata": {
        "f:labels": {".": {}, "f:team": {}, "f:conjur-operator.io/managed": {}, "f:app.kubernetes.io/managed-by": {}},
        "f:annotations": {".": {}, "f:conjur-operator.io/owner": {}},
    }});
    for (fields, expected) in [
        (own, Action::Unchanged),
        (serde_json::json!({"f:metadata": {"f:labels": {"f:old": {}}}}), Action::Replace),
        (serde_json::json!({"f:metadata": {"f:annotations": {"f:old": {}}}}), Action::Replace),
    ] {
        assert_eq!(
            decided(&edit(|s| s.metadata.managed_fields = Some(vec![set_by_us(fields)]))),
            Ok(expected)
        );
    }
}

#[test]
fn a_replacement_keeps_what_others_put_there_and_drops_what_we_no_longer_ask() {
    let mut standing = written(&[("a", "1")]).metadata.clone();
    standing.labels.as_mut().unwrap().extend([("other".into(), "x".into()), ("old".into(), "y".into())]);
    standing.finalizers = Some(vec!["example.com/keep".into()]);
    let managed = ManagedFieldsEntry {
        manager: Some(MANAGER.into()),
        fields_v1: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1(
            serde_json::json!({"f:metadata": {"f:labels": {".": {}, "f:old": {}, "f:team": {}}}}),
        )),
        ..ManagedFieldsEntry::default()
    };
    let want = desired(&[("b", "2")]);
    let drop = no_longer_asked(Some(&[managed]), &want);
    let secret = want.to_secret(&me(), Some(&standing), &drop);
    let labels = secret.metadata.labels.clone().unwrap();
    assert_eq!(labels.get("other").map(String::as_str), Some("x"));
    assert!(!labels.contains_key("old"));
    assert_eq!(labels.get(MANAGED_LABEL).map(String::as_str), Some("true"));
    assert_eq!(secret.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(secret.metadata.finalizers.clone().unwrap(), ["example.com/keep"]);
    assert_eq!(secret.data.as_ref().unwrap().keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn data_over_the_limit_is_refused_naming_the_largest_keys() {
    let mut big = desired(&[("small", "x")]);
    big.data.insert("huge".into(), Sensitive::new(vec![0; SECRET_DATA_BYTES]));
    let failure = big.check_size().unwrap_err();
    assert_eq!(failure.reason, Reason::SecretTooLarge);
    assert!(failure.message.contains("huge (1048576 bytes), small (under 64 KiB)"), "{}", failure.message);
    assert!(
        !failure.message.contains("1048577"),
        "the sum tells the length of the small one: {}",
        failure.message
    );
}

#[test]
fn data_without_a_key_is_refused() {
    let failure = desired(&[]).check_keys().unwrap_err();
    assert_eq!((failure.class, failure.reason), (crate::plan::Class::Stalled, Reason::NoKeys));
    assert_eq!(desired(&[("a", "")]).check_keys(), Ok(()));
}

#[test]
fn so_many_keys_that_the_store_would_refuse_them_are_refused() {
    let entries = |count: usize| -> Desired {
        let mut desired = desired(&[]);
        desired.data = (0..count).map(|i| (format!("{i:0>100}"), Sensitive::new(vec![0; 80]))).collect();
        desired
    };
    assert!(entries(7_600).check_size().is_ok());
    let failure = entries(7_700).check_size().unwrap_err();
    assert_eq!(failure.reason, Reason::SecretTooLarge);
    assert!(failure.message.contains("7700 keys"), "{}", failure.message);
    assert!(failure.message.contains("largest keys: 000"), "{}", failure.message);
}

#[test]
fn debug_of_a_desired_secret_shows_no_value() {
    assert!(!format!("{:?}", desired(&[("a", "hunter2")])).contains("hunter2"));
}

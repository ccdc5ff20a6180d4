//! Loads, dry runs, what is in force, and who owns a branch.

use conjur_client::{Capability, DryRun, Error, LoadError, LoadMode, Ownership};

use super::{Bed, failed};

pub async fn check(bed: &Bed) {
    a_key_comes_once(bed).await;
    what_is_wrong_is_said(bed).await;
    a_dry_run_changes_nothing(bed).await;
    the_effective_policy_is_for_owners(bed).await;
    owning_is_more_than_loading(bed).await;
    replace_removes(bed).await;
}

const HOST: &[u8] = b"- !host made\n";

async fn a_key_comes_once(bed: &Bed) {
    let branch = bed.branch("loaded");
    let first = bed.admin.load_policy(&branch, LoadMode::Append, HOST).await.unwrap();
    let made = bed.role("host", "loaded/made");
    assert_eq!(first.created_roles.keys().collect::<Vec<_>>(), [&made]);
    let again = bed.admin.load_policy(&branch, LoadMode::Append, HOST).await.unwrap();
    assert!(again.created_roles.is_empty());
    assert_eq!(again.version, first.version + 1, "an unchanged load is a version too");
    let versions = bed.admin.policy_versions(&branch).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(versions[0].sha256, versions[1].sha256);
    assert_eq!(versions[0].role, format!("{}:user:admin", bed.target.account));
}

async fn what_is_wrong_is_said(bed: &Bed) {
    let branch = bed.branch("loaded");
    let load = |document: &'static str| bed.admin.load_policy(&branch, LoadMode::Append, document.as_bytes());
    for document in
        ["- !frobnicate x\n", "- !variable [\n", "- !grant\n  role: !group g\n  member: !host nope\n"]
    {
        match load(document).await {
            Err(LoadError::Refused(Error::Invalid { code, .. })) => assert_eq!(code, "policy_invalid"),
            other => panic!("{document}: {other:?}"),
        }
    }
    for document in ["", "- !delete\n  record: !host made\n"] {
        let result = load(document).await;
        assert!(matches!(result, Err(LoadError::Refused(Error::Invalid { .. }))), "{document}: {result:?}");
    }
    let nowhere = bed.admin.load_policy(&bed.branch("nowhere"), LoadMode::Append, HOST).await;
    assert!(matches!(nowhere, Err(LoadError::Refused(Error::NotFound { .. }))), "{nowhere:?}");
}

async fn a_dry_run_changes_nothing(bed: &Bed) {
    let branch = bed.branch("loaded");
    let before = bed.admin.policy_versions(&branch).await.unwrap();
    let run = bed.admin.dry_run_policy(&branch, LoadMode::Append, b"- !host dry\n").await;
    let run = match run {
        Err(Error::Unsupported { what: Capability::DryRun, .. }) => return,
        run => run.unwrap(),
    };
    let DryRun::Valid(changes) = run else { panic!("{run:?}") };
    let created: Vec<&str> = changes.created.iter().map(|item| item.identifier.as_str()).collect();
    assert_eq!(created, [bed.role("host", "loaded/dry").to_string()]);
    let gone = bed
        .admin
        .dry_run_policy(&branch, LoadMode::Update, b"- !delete\n  record: !host made\n")
        .await
        .unwrap();
    let DryRun::Valid(changes) = gone else { panic!("{gone:?}") };
    assert_eq!(changes.deleted[0].identifier, bed.role("host", "loaded/made").to_string());
    let bad = bed.admin.dry_run_policy(&branch, LoadMode::Append, b"- !frob x\n").await.unwrap();
    assert!(matches!(&bad, DryRun::Invalid(flaws) if flaws[0].line == Some(1)), "{bad:?}");
    assert_eq!(bed.admin.policy_versions(&branch).await.unwrap(), before);
    assert_eq!(bed.admin.show_resource("host", &bed.id("loaded/dry")).await.unwrap(), None);
}

async fn the_effective_policy_is_for_owners(bed: &Bed) {
    let branch = bed.branch("loaded");
    let text = bed.admin.effective_policy(&branch).await.unwrap();
    assert!(text.contains("!host made"), "{text}");
    let json = bed.admin.effective_policy_json(&branch).await.unwrap();
    assert!(json.to_string().contains(r#"{"host":{"id":"made"}}"#), "{json}");
    let loader = failed(bed.host("loader").effective_policy(&branch).await);
    assert!(matches!(loader, Error::Unexpected { status: Some(500), .. }), "{loader:?}");
    assert!(loader.to_string().contains("don't own it"), "{loader}");
    let web = failed(bed.host("web").effective_policy(&branch).await);
    assert!(matches!(web, Error::NotFound { .. }), "{web:?}");
}

async fn owning_is_more_than_loading(bed: &Bed) {
    let loader = bed.host("loader");
    assert_eq!(loader.owns_branch(&bed.branch("owned")).await.unwrap(), Ownership::Owner);
    assert_eq!(loader.owns_branch(&bed.branch("loaded")).await.unwrap(), Ownership::NotOwner);
    assert_eq!(bed.host("web").owns_branch(&bed.branch("owned")).await.unwrap(), Ownership::NoBranch);
    for (at, visible) in [("owned", true), ("loaded", false)] {
        loader.load_policy(&bed.branch(at), LoadMode::Append, b"- !host by-loader\n").await.unwrap();
        let shown = loader.show_resource("host", &bed.id(&format!("{at}/by-loader"))).await.unwrap();
        assert_eq!(shown.is_some(), visible, "{at}");
        let rotated = loader.rotate_api_key(&bed.role("host", &format!("{at}/by-loader"))).await;
        assert_eq!(rotated.is_ok(), visible, "{at}: {rotated:?}");
    }
    let refused = bed.host("web").load_policy(&bed.branch("loaded"), LoadMode::Append, HOST).await;
    assert!(matches!(refused, Err(LoadError::Refused(Error::NotFound { .. }))), "{refused:?}");
}

async fn replace_removes(bed: &Bed) {
    let branch = bed.branch("loaded");
    bed.admin.load_policy(&branch, LoadMode::Replace, b"- !variable left\n").await.unwrap();
    assert_eq!(bed.admin.show_resource("host", &bed.id("loaded/made")).await.unwrap(), None);
    let back = bed.admin.load_policy(&branch, LoadMode::Update, HOST).await.unwrap();
    assert_eq!(back.created_roles.len(), 1, "made again, with a new key");
}

//! Host factories.

use std::collections::BTreeMap;
use std::time::Duration;

use conjur_client::{Credentials, Error, Members};

use super::super::{key, secret};
use super::{Bed, enrolled, failed};

pub async fn check(bed: &Bed) {
    let factory = bed.id("factory");
    let now = bed.admin.server_date().await.unwrap();
    assert!(bed.admin.server_date().await.unwrap() >= now && now.subsec_nanosecond() == 0);
    let expiration = now + Duration::from_secs(3600);
    let cidrs = ["10.255.255.0/24".to_owned()];
    let here = bed.admin.create_host_factory_tokens(&factory, expiration, &[], 2).await.unwrap();
    let away = bed.admin.create_host_factory_tokens(&factory, expiration, &cidrs, 1).await.unwrap();
    assert_eq!((here.len(), here[0].expiration, away[0].cidrs.len()), (2, expiration, 1));
    assert!(here[0].cidrs.is_empty() && here[0].token.expose() != here[1].token.expose());

    let shown = bed.admin.show_host_factory(&factory).await.unwrap().expect("the factory is there");
    assert_eq!(shown.layers, [bed.role("layer", "machines")]);
    let mut known: Vec<&str> = shown.tokens.iter().map(|token| token.token.expose().as_str()).collect();
    let mut made: Vec<&str> = here.iter().chain(&away).map(|token| token.token.expose().as_str()).collect();
    known.sort_unstable();
    made.sort_unstable();
    assert_eq!(known, made);
    assert!(shown.tokens.iter().all(|token| token.expiration == expiration));
    assert_eq!(shown.tokens.iter().filter(|token| token.cidrs == cidrs).count(), 1);
    assert!(!format!("{shown:?}").contains(made[0]), "a token is a secret");
    assert!(bed.host("web").show_host_factory(&factory).await.unwrap().is_none(), "invisible to others");

    let anonymous = bed.target.client(Credentials::Anonymous);
    let id = enrolled(bed);
    let annotations = BTreeMap::from([("purpose".to_owned(), "a suite & more".to_owned())]);
    let host = anonymous.create_host(&here[0].token, &id, &annotations).await.unwrap();
    assert_eq!(
        (host.id.kind.as_str(), host.id.id.as_str()),
        ("host", id.as_str()),
        "not below the factory's policy"
    );
    assert_eq!(host.annotations[0].value, "a suite & more");
    let login = format!("host/{id}");
    bed.target.client(key(&login, host.api_key.expose())).whoami().await.unwrap();
    let again = anonymous.create_host(&here[0].token, &id, &annotations).await.unwrap();
    assert_ne!(again.api_key.expose(), host.api_key.expose(), "the same host again gets a new key");
    let old = failed(bed.target.client(key(&login, host.api_key.expose())).whoami().await);
    assert!(matches!(old, Error::Unauthenticated { .. }), "{old:?}");
    let machines = bed.admin.role_memberships("host", &id, &Members::default()).await.unwrap();
    let machines: Vec<_> = machines.iter().map(|one| (&one.role, one.ownership, &one.policy)).collect();
    assert_eq!(machines, [(&bed.role("layer", "machines"), false, &None)]);
    let shown = bed.admin.show_resource("host", &id).await.unwrap().unwrap();
    assert_eq!((shown.policy.as_deref(), shown.annotation("purpose")), (None, Some("a suite & more")));
    assert!(shown.owner.ends_with(&format!(":host_factory:{factory}")), "{shown:?}");
    let by_policy = failed(anonymous.create_host(&here[1].token, &bed.id("web"), &annotations).await);
    assert!(matches!(by_policy, Error::Forbidden { .. }), "{by_policy:?}");
    assert!(by_policy.to_string().contains("not made by the host factory"), "{by_policy}");

    bed.admin.revoke_host_factory_token(&here[0].token).await.unwrap();
    let revoked = failed(bed.admin.revoke_host_factory_token(&here[0].token).await);
    assert!(matches!(revoked, Error::NotFound { .. }), "{revoked:?}");
    for token in [&here[0].token, &away[0].token, &secret("unknown")] {
        let error = failed(anonymous.create_host(token, &id, &annotations).await);
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        assert!(error.to_string().contains("refused the host factory token"), "{error}");
    }
    let left = bed.admin.show_host_factory(&factory).await.unwrap().unwrap();
    assert_eq!(left.tokens.len(), 2, "the revoked one is gone");
    let past = now - Duration::from_secs(3600);
    // Servers before 1.24 make none instead.
    match bed.admin.create_host_factory_tokens(&factory, past, &[], 1).await {
        Err(Error::Invalid { .. }) => {}
        Ok(_) => assert_ne!(bed.admin.server_version().await.unwrap().as_deref(), Some("1.24.0")),
        other => panic!("{other:?}"),
    }
    let web = bed.host("web").create_host_factory_tokens(&factory, expiration, &[], 1).await;
    assert!(matches!(web, Err(Error::NotFound { .. })), "{web:?}");
}

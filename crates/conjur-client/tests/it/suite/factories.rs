//! Host factories.

use std::collections::BTreeMap;
use std::time::Duration;

use conjur_client::{Credentials, Error};
use jiff::Timestamp;

use super::super::{key, secret};
use super::{Bed, enrolled, failed};

pub async fn check(bed: &Bed) {
    let factory = bed.id("factory");
    let expiration = Timestamp::now() + Duration::from_secs(3600);
    let expiration = Timestamp::from_second(expiration.as_second()).unwrap();
    let cidrs = ["10.255.255.0/24".to_owned()];
    let here = bed.admin.create_host_factory_tokens(&factory, expiration, &[], 2).await.unwrap();
    let away = bed.admin.create_host_factory_tokens(&factory, expiration, &cidrs, 1).await.unwrap();
    assert_eq!((here.len(), here[0].expiration, away[0].cidrs.len()), (2, expiration, 1));
    assert!(here[0].cidrs.is_empty() && here[0].token.expose() != here[1].token.expose());

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

    bed.admin.revoke_host_factory_token(&here[0].token).await.unwrap();
    let revoked = failed(bed.admin.revoke_host_factory_token(&here[0].token).await);
    assert!(matches!(revoked, Error::NotFound { .. }), "{revoked:?}");
    for token in [&here[0].token, &away[0].token, &secret("unknown")] {
        let error = failed(anonymous.create_host(token, &id, &annotations).await);
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        assert!(error.to_string().contains("refused the host factory token"), "{error}");
    }
    let past = Timestamp::now() - Duration::from_secs(3600);
    // Servers before 1.24 make none instead.
    match bed.admin.create_host_factory_tokens(&factory, past, &[], 1).await {
        Err(Error::Invalid { .. }) => {}
        Ok(_) => assert_ne!(bed.admin.server_version().await.unwrap().as_deref(), Some("1.24.0")),
        other => panic!("{other:?}"),
    }
    let web = bed.host("web").create_host_factory_tokens(&factory, expiration, &[], 1).await;
    assert!(matches!(web, Err(Error::NotFound { .. })), "{web:?}");
}

//! Keys, passwords, and the tokens made of them.

use std::time::Duration;

use conjur_client::sensitive::Sensitive;
use conjur_client::{Client, Credentials, Error, Priority, RoleId};

use super::super::{key, secret};
use super::{Bed, failed};

pub async fn check(bed: &Bed) {
    a_wrong_key_is_refused(bed).await;
    a_password_logs_in(bed).await;
    a_rotated_key_dies_at_once(bed).await;
    a_key_is_tried_without_a_token(bed).await;
    public_keys_need_no_token(bed).await;
}

async fn a_wrong_key_is_refused(bed: &Bed) {
    for (login, api_key) in [
        (bed.user("alice"), "wrong".to_owned()),
        (bed.user("nobody"), "wrong".to_owned()),
        (bed.user("alice"), format!("{}\n", bed.key(&bed.user("alice")))),
    ] {
        let error = failed(bed.target.client(key(&login, &api_key)).whoami().await);
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    }
}

async fn a_password_logs_in(bed: &Bed) {
    let alice = bed.user("alice");
    let api_key = secret(bed.key(&alice));
    let password = secret("Suite-Passw0rd!");
    let weak = failed(bed.admin.change_password(&alice, &api_key, &secret("short")).await);
    assert!(weak.to_string().contains("CONJ00046E"), "{weak}");
    bed.admin.change_password(&alice, &api_key, &password).await.unwrap();
    let fetched = bed.admin.login(&alice, &password).await.unwrap();
    let by_password =
        bed.target.client(Credentials::Password { login: alice.clone(), password: password.clone() });
    assert_eq!(by_password.whoami().await.unwrap().username, alice);
    by_password_survives_a_rotation(bed, &alice, &password, fetched.expose()).await;
    let wrong = failed(bed.admin.login(&alice, &secret("Wrong-Passw0rd!")).await);
    assert!(matches!(wrong, Error::Unauthenticated { .. }), "{wrong:?}");
    let web = bed.login("web");
    let host = failed(bed.admin.change_password(&web, &secret(bed.key(&web)), &password).await);
    assert!(matches!(host, Error::Forbidden { .. }), "a host has no password: {host:?}");
}

async fn by_password_survives_a_rotation(bed: &Bed, alice: &str, password: &Sensitive<String>, old: &str) {
    let credentials = Credentials::Password { login: alice.to_owned(), password: password.clone() };
    let mut config = bed.target.config(credentials);
    config.token_refresh_interval = Duration::from_millis(1);
    let client = Client::new(config).unwrap();
    client.whoami().await.unwrap();
    let new = bed.admin.rotate_own_api_key(alice, password).await.unwrap();
    assert_ne!(new.expose(), old);
    client.whoami().await.expect("the new key is asked for");
}

async fn a_rotated_key_dies_at_once(bed: &Bed) {
    let bob = bed.user("bob");
    let old = bed.key(&bob).to_owned();
    let client = bed.target.client(key(&bob, &old));
    client.whoami().await.unwrap();
    let role = RoleId::from_login(&bed.target.account, &bob).unwrap();
    let new = bed.admin.rotate_api_key(&role).await.unwrap();
    client.whoami().await.expect("a token outlives its key");
    let error = failed(bed.target.client(key(&bob, &old)).whoami().await);
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    bed.target.client(key(&bob, new.expose())).whoami().await.unwrap();
    let newest = bed.admin.rotate_own_api_key(&bob, &new).await.unwrap();
    bed.target.client(key(&bob, newest.expose())).whoami().await.unwrap();
    let wrong = failed(bed.admin.rotate_own_api_key(&bob, &new).await);
    assert!(matches!(wrong, Error::Unauthenticated { .. }), "{wrong:?}");
    let own = failed(client.rotate_api_key(&role).await);
    assert!(matches!(own, Error::Invalid { .. }), "{own:?}");
    let unknown = failed(bed.admin.rotate_api_key(&bed.role("host", "nobody")).await);
    assert!(matches!(unknown, Error::NotFound { .. }), "{unknown:?}");
}

async fn a_key_is_tried_without_a_token(bed: &Bed) {
    let (role, nobody) = (bed.role("host", "away"), bed.role("host", "nobody"));
    let first = secret(bed.key(&role.login()));
    let anonymous = bed.target.client(Credentials::Anonymous);
    let is_valid = async |role: &RoleId, key: &_| {
        anonymous.is_api_key_valid(role, key, Priority::Refresh).await.unwrap()
    };
    assert!(is_valid(&role, &first).await, "though its CIDR does not let it in from here");
    let refused = failed(bed.host("away").whoami().await);
    assert!(matches!(refused, Error::Unauthenticated { .. }), "{refused:?}");
    let second = bed.admin.rotate_api_key(&role).await.unwrap();
    assert!(!is_valid(&role, &first).await && is_valid(&role, &second).await);
    assert!(!is_valid(&nobody, &second).await && !is_valid(&role, &secret("wrong")).await);
}

async fn public_keys_need_no_token(bed: &Bed) {
    let anonymous = bed.target.client(Credentials::Anonymous);
    assert_eq!(anonymous.public_keys("user", &bed.user("bob")).await.unwrap(), Vec::<String>::new());
    anonymous.server_version().await.unwrap();
}

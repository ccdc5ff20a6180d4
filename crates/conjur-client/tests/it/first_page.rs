//! What the crate's first page shows, against the development server.

use conjur_client::sensitive::Sensitive;
use conjur_client::{
    Client, Config, Credentials, Error, Freshness, LoadMode, PolicyBranch, Priority, VariableId, Wanted,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_page_shows_is_so() -> Result<(), Box<dyn std::error::Error>> {
    let server = conjur_dev::Server::start(conjur_dev::Options::default()).await?;
    let (url, key) = (server.url(), server.admin_key());
    let credentials = Credentials::ApiKey { login: "admin".to_owned(), api_key: Sensitive::new(key) };
    let client = Client::new(Config::new(url.parse()?, "demo", credentials))?;

    // Load: the keys of the hosts that it makes come once, now.
    let root = PolicyBranch::new("root")?;
    let document = b"
- !policy
  id: apps
  body:
  - !host web
  - &secrets
    - !variable db/user
    - !variable db/password
  - !permit
    role: !host web
    privileges: [ read, execute ]
    resource: *secrets
";
    let loaded = client.load_policy(&root, LoadMode::Append, document).await?;
    for (role, api_key) in &loaded.created_roles {
        assert_eq!(role.login(), "host/apps/web");
        assert!(!api_key.expose().is_empty());
    }

    // Write: any bytes.
    client.set_secret("variable", "apps/db/user", b"billing").await?;

    // Read: as many as there are, together with what others ask for; each has its own answer.
    let ids = [VariableId::new("apps/db/user")?, VariableId::new("apps/db/password")?];
    let wanted = ids.map(Wanted::latest);
    let answers = client.fetch_variables(&wanted, Priority::Foreground, Freshness::Remembered).await;
    assert_eq!(answers[&wanted[0]].as_ref().map(|value| value.expose().as_slice()), Ok(&b"billing"[..]));
    // It was never set, and the server says no more than that there is nothing.
    assert!(matches!(answers[&wanted[1]], Err(Error::NotFound { .. })));
    Ok(())
}

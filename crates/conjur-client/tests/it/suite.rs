//! How a Conjur server behaves, as the client relies on it: written once, run against the development server, and
//! against a real one where `CONJUR_TEST_URL`, `CONJUR_TEST_ACCOUNT` and `CONJUR_TEST_ADMIN_KEY` are set. Everything it
//! makes is below one policy branch of a random name (hosts of a host factory apart, which are named after it), and
//! is gone afterwards.

mod credentials;
mod factories;
mod policies;
mod rights;
mod secrets;

use std::collections::BTreeMap;

use conjur_client::{Client, Error, LoadMode, PolicyBranch, RoleId};
use futures::FutureExt as _;

use super::{Target, key};

/// A branch to do as one likes in, and who is there.
pub struct Bed {
    pub target: Target,
    pub admin: Client,
    /// The name of the branch, which is below root.
    pub name: String,
    /// API keys by login.
    keys: BTreeMap<String, String>,
}

const POLICY: &str = "
- !user alice
- !user bob
- !host web
- !host loader
- !host filler
- !host
  id: away
  restricted_to: [ 192.0.2.0/24, 198.51.100.7 ]
- !group readers
- !layer machines
- !host-factory
  id: factory
  layers: [ !layer machines ]
- !variable db/password
- !variable db/user
- !variable private
- !variable seen
- !variable
  id: filled
  annotations:
    team: suite
- !permit
  role: !host filler
  privileges: [ update ]
  resource: !variable filled
- !grant
  role: !group readers
  member: !host web
- !permit
  role: !group readers
  privileges: [ read, execute ]
  resource: !variable db/password
- !permit
  role: !group readers
  privileges: [ read, execute, update ]
  resource: !variable db/user
- !permit
  role: !group readers
  privileges: [ read ]
  resource: !variable seen
- !policy
  id: owned
  owner: !host loader
- !policy loaded
- !permit
  role: !host loader
  privileges: [ read, create, update ]
  resource: !policy loaded
";

impl Bed {
    async fn make(target: Target) -> Self {
        let name = format!("suite-{:012x}", rand::random::<u64>() >> 16);
        let admin = target.admin();
        let document = format!("- !policy {name}\n");
        admin.load_policy(&branch("root"), LoadMode::Append, document.as_bytes()).await.unwrap();
        let loaded = admin.load_policy(&branch(&name), LoadMode::Append, POLICY.as_bytes()).await;
        let keys = loaded.expect("the bed is made").created_roles;
        let keys = keys.into_iter().map(|(role, key)| (role.login(), key.expose().clone())).collect();
        Self { target, admin, name, keys }
    }

    /// Branch by branch: what a load made goes with the next that leaves it out.
    async fn clean(&self) {
        for made in [self.id("owned"), self.id("loaded"), self.name.clone()] {
            self.admin.load_policy(&branch(&made), LoadMode::Replace, b"[]\n").await.ok();
        }
        let (name, enrolled) = (&self.name, enrolled(self));
        let document =
            format!("- !delete\n  record: !policy {name}\n- !delete\n  record: !host {enrolled}\n");
        self.admin.load_policy(&branch("root"), LoadMode::Update, document.as_bytes()).await.unwrap();
        for (kind, id) in
            [("policy", name), ("host", &self.id("web")), ("user", &self.user("alice")), ("host", &enrolled)]
        {
            assert_eq!(self.admin.show_role(kind, id).await.unwrap(), None, "{kind} {id} is gone");
        }
    }

    /// A full id below the bed, without account and kind.
    pub fn id(&self, id: &str) -> String {
        format!("{}/{id}", self.name)
    }

    pub fn branch(&self, id: &str) -> PolicyBranch {
        branch(&self.id(id))
    }

    pub fn role(&self, kind: &str, id: &str) -> RoleId {
        RoleId { account: self.target.account.clone(), kind: kind.to_owned(), id: self.id(id) }
    }

    pub fn login(&self, host: &str) -> String {
        format!("host/{}", self.id(host))
    }

    pub fn user(&self, name: &str) -> String {
        format!("{name}@{}", self.name)
    }

    pub fn key(&self, login: &str) -> &str {
        &self.keys[login]
    }

    /// A client of a host.
    pub fn host(&self, host: &str) -> Client {
        let login = self.login(host);
        self.target.client(key(&login, self.key(&login)))
    }
}

/// The id of the host that the host factory makes, which it doesn't make below a policy.
pub fn enrolled(bed: &Bed) -> String {
    format!("{}-enrolled", bed.name)
}

fn branch(id: &str) -> PolicyBranch {
    PolicyBranch::new(id).unwrap()
}

pub fn failed<T: std::fmt::Debug>(result: Result<T, Error>) -> Error {
    result.expect_err("an error")
}

async fn run(target: Target) {
    let bed = Bed::make(target).await;
    let checks = std::panic::AssertUnwindSafe(async {
        secrets::check(&bed).await;
        rights::check(&bed).await;
        policies::check(&bed).await;
        credentials::check(&bed).await;
        factories::check(&bed).await;
    });
    let result = checks.catch_unwind().await;
    bed.clean().await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Against the development server always, and against a real one where the environment names it: a test of its own
/// would pass without one, having seen nothing.
#[tokio::test]
async fn the_development_server_and_a_real_one_that_is_given_behave_as_the_client_expects() {
    let server = conjur_dev::Server::start(conjur_dev::Options::default()).await.unwrap();
    run(Target::of(&server)).await;
    if let Some(target) = Target::from_env() {
        run(target).await;
    }
}

//! A client of CyberArk Conjur's REST API, for programs with many callers: what they ask for at once goes out in few requests,
//! each has its turn, and what answers take in memory has a bound.
//!
//! One [`Client`] is one identity on one server. It is cheap to clone; all clones share the token, the connections
//! and the [collector](variables), which gathers the variables that concurrent callers ask for into batches.
//!
//! | module | what it does |
//! |---|---|
//! | [`client`], [`config`], [`address`] | whom to talk to, as who, how much; addresses |
//! | [`id`] | names, and how they are written into a URL |
//! | [`reach`] | where the connections of a party may lead |
//! | [`error`], `response` | what can go wrong; what an answer means |
//! | [`capabilities`] | what servers of which version have |
//! | [`memory_budget`], [`budget`], [`limits`] | what clients share, fairly: bytes of answers and lists, streams, connections; every bound |
//! | [`fair`], [`gate`] | who has the next turn |
//! | [`sensitive`], [`segments`] | wiped values; segments of ids and names |
//! | `words` | what a server says, cut where it enters |
//! | `rate_limit`, `sockets`, `http`, `tls`, `scan`, `stream` | the transport: permits, deadlines, bounded bodies, repeats |
//! | `authn`, `session` | the token, and a call with one |
//! | [`catalogue`] | which variables there are, and their versions: one walk through the list for all callers |
//! | [`variables`] | fetch variables: gather, cut, isolate the bad ids, remember them |
//! | [`secrets`] | one secret, of any kind: get, set |
//! | [`policy`] | load policy, dry runs, the effective policy, who owns a branch, what was loaded |
//! | [`resources`], [`listing`], [`check`], [`roles`] | who am I; show, list and count; who may do what |
//! | [`account`], [`hosts`] | keys and passwords; host factories |
//! | [`observe`], [`request_id`] | counting requests; which of them belong together |
//!
//! # Read, write, load
//! ```no_run
//! use conjur_client::sensitive::Sensitive;
//! use conjur_client::{
//!     Client, Config, Credentials, Error, Freshness, LoadMode, PolicyBranch, Priority, VariableId, Wanted,
//! };
//!
//! # async fn example(key: String) -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = Credentials::ApiKey { login: "admin".to_owned(), api_key: Sensitive::new(key) };
//! let client = Client::new(Config::new("https://conjur.example.com".parse()?, "demo", credentials))?;
//!
//! // Load: the keys of the hosts that it makes come once, now.
//! let root = PolicyBranch::new("root")?;
//! let document = b"
//! - !policy
//!   id: apps
//!   body:
//!   - !host web
//!   - &secrets
//!     - !variable db/user
//!     - !variable db/password
//!   - !permit
//!     role: !host web
//!     privileges: [ read, execute ]
//!     resource: *secrets
//! ";
//! let loaded = client.load_policy(&root, LoadMode::Append, document).await?;
//! for (role, api_key) in &loaded.created_roles {
//!     assert_eq!(role.login(), "host/apps/web");
//!     assert!(!api_key.expose().is_empty());
//! }
//!
//! // Write: any bytes.
//! client.set_secret("variable", "apps/db/user", b"billing").await?;
//!
//! // Read: as many as there are, together with what others ask for; each has its own answer.
//! let ids = [VariableId::new("apps/db/user")?, VariableId::new("apps/db/password")?];
//! let wanted = ids.map(Wanted::latest);
//! let answers = client.fetch_variables(&wanted, Priority::Foreground, Freshness::Remembered).await;
//! assert_eq!(answers[&wanted[0]].as_ref().map(|value| value.expose().as_slice()), Ok(&b"billing"[..]));
//! // It was never set, and the server says no more than that there is nothing.
//! assert!(matches!(answers[&wanted[1]], Err(Error::NotFound { .. })));
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//! It needs a tokio runtime, which it does not make, and installs no provider of cryptography: where the program has none, it
//! uses rustls with aws-lc-rs. It keeps no value, and follows no redirect.

#![warn(missing_docs)]

pub mod account;
pub mod address;
mod authn;
pub mod budget;
pub mod capabilities;
pub mod catalogue;
pub mod check;
pub mod client;
pub mod config;
pub mod error;
pub mod fair;
pub mod gate;
pub mod hosts;
mod http;
pub mod id;
pub mod limits;
pub mod listing;
mod lock;
pub mod memory_budget;
pub mod observe;
mod pages;
pub mod policy;
mod rate_limit;
pub mod reach;
pub mod request_id;
pub mod resources;
mod response;
pub mod roles;
mod scan;
pub mod secrets;
pub mod segments;
pub mod sensitive;
mod session;
mod sockets;
mod stream;
mod tls;
pub mod variables;
mod words;

#[cfg(test)]
mod tests;

pub use self::capabilities::{Capability, Support};
pub use self::catalogue::{Catalogue, Listed, Mark};
pub use self::check::Check;
pub use self::client::{Client, ClientBuilder};
pub use self::config::{ClientIdentity, Config, Credentials, JwtSource, Limits};
pub use self::error::{Error, LoadError};
pub use self::gate::Priority;
pub use self::hosts::{CreatedHost, HostFactory, HostFactoryToken};
pub use self::id::{InvalidId, PolicyBranch, RoleId, VariableId};
pub use self::listing::Listing;
pub use self::memory_budget::{MemoryBudget, MemorySizes};
pub use self::observe::{Endpoint, Observer, Outcome};
pub use self::pages::Page;
pub use self::policy::{Changes, DryRun, Flaw, Item, LoadMode, Loaded, Ownership, PolicyVersion};
pub use self::resources::{Annotation, Permission, Resource, SecretVersion, WhoAmI};
pub use self::roles::{Members, Membership, Role};
pub use self::variables::{Answer, BadIdsFound, Freshness, Value, Wanted};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! What servers of which version can do: one table, and the sentences that say which server lacks what.
//!
//! ```
//! use conjur_client::capabilities::{Capability, Support};
//!
//! assert_eq!(Capability::PublicKeys.on(Some("1.24.0")), Support::Has);
//! assert_eq!(Capability::PublicKeys.on(Some("1.27.0")), Support::Lacks);
//! // The hosted service doesn't say its version.
//! assert_eq!(Capability::PublicKeys.on(None), Support::Unsaid);
//! ```
//!
//! A client asks for the version where it matters, and remembers it for ten minutes:
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), conjur_client::Error> {
//! use conjur_client::capabilities::{Capability, Support};
//!
//! // Whether a value may be sent again without a look at the one that is there.
//! if client.supports(Capability::EqualValueIsNoVersion).await? == Support::Has {
//!     client.set_secret("variable", "apps/db/password", b"the same as before").await?;
//! }
//! # Ok(())
//! # }
//! ```

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// What a server may have or lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// [Dry runs](Client::dry_run_policy): `?dryRun=true` looks at a document. A server without them **loads** it.
    DryRun,
    /// [Public keys](Client::public_keys): `GET public_keys/…`.
    PublicKeys,
    /// The value that a variable has already, [set](Client::set_variable) once more, makes no new version.
    EqualValueIsNoVersion,
}

/// What is known of a server and a [`Capability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Support {
    /// Its version has it.
    Has,
    /// Its version lacks it.
    Lacks,
    /// It doesn't say its version, as the hosted service; or nothing is known of that one.
    Unsaid,
}

/// Major, minor, patch.
type Version = [u64; 3];

enum Extent {
    /// From this version on.
    Since(Version),
    /// Before this version.
    Until(Version),
    /// Seen on these, and not asked of others.
    SeenOn(&'static [Version]),
}

struct Row {
    what: Capability,
    on: Extent,
    /// As in "has no …".
    name: &'static str,
    /// Why a server may lack it, and what to do about that.
    why: &'static str,
}

/// The table.
const TABLE: [Row; 3] = [
    Row {
        what: Capability::DryRun,
        on: Extent::Since([1, 21, 1]),
        name: "dry runs",
        why: "they came with 1.21.1, the hosted service has none, and a server without them would load the document; use \
              a server of that version or later",
    },
    Row {
        what: Capability::PublicKeys,
        on: Extent::Until([1, 27, 0]),
        name: "public keys",
        why: "they were removed in 1.27, and the hosted service has none; keep the keys in variables, and read those",
    },
    Row {
        what: Capability::EqualValueIsNoVersion,
        // 1.24.0: recordings 151, 740, 741.
        on: Extent::SeenOn(&[[1, 22, 3], [1, 24, 0]]),
        name: "known rule for a value that is set again",
        why: "1.22.3 and 1.24.0 were seen to make no new version of it; compare it with the one that is there first",
    },
];

impl Capability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DryRun, Self::PublicKeys, Self::EqualValueIsNoVersion];

    fn row(self) -> &'static Row {
        // A test sees that each has its own.
        TABLE.iter().find(|row| row.what == self).unwrap_or(&TABLE[0])
    }

    /// What a server of this version has, as in `1.24.0` or `1.21.1-456`; `None` is one that doesn't say it.
    pub fn on(self, version: Option<&str>) -> Support {
        let Some(version) = version.and_then(parsed) else { return Support::Unsaid };
        let has = match self.row().on {
            Extent::Since(first) => version >= first,
            Extent::Until(end) => version < end,
            Extent::SeenOn(all) if all.contains(&version) => true,
            Extent::SeenOn(_) => return Support::Unsaid,
        };
        if has { Support::Has } else { Support::Lacks }
    }

    /// That the server at `url` does without, as a sentence.
    pub(crate) fn refused(self, url: &str, version: Option<&str>) -> String {
        let Row { name, why, .. } = self.row();
        let server = match version {
            Some(version) => format!("the server at {url} (version {version})"),
            None => format!("the server at {url} (which doesn't say its version)"),
        };
        let has = match (self.on(version), self) {
            // It was not tried.
            (Support::Unsaid, Self::DryRun) => "may have no",
            _ => "has no",
        };
        format!("{server} {has} {name}: {why}")
    }
}

/// Only numbers count: what follows a third one names a build.
fn parsed(version: &str) -> Option<Version> {
    let mut parts = version.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    Some([parts.next()?, parts.next()?, parts.next()?])
}

/// How long a version is taken for the server's: the one behind an address may be exchanged.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What the server said last of its version, and when.
#[derive(Default)]
pub(crate) struct SaidVersion(Mutex<Option<(Instant, Front)>>);

/// What a server's front page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Front {
    /// `None` where it doesn't say.
    pub version: Option<String>,
}

impl SaidVersion {
    pub(crate) fn keep(&self, version: Option<&str>) {
        self.keep_at(version, Instant::now());
    }

    fn keep_at(&self, version: Option<&str>, now: Instant) {
        *lock(&self.0) = Some((now, Front { version: version.map(str::to_owned) }));
    }

    /// `None` where it was not asked for lately.
    pub(crate) fn recent(&self) -> Option<Front> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<Front> {
        let said = lock(&self.0);
        said.as_ref().filter(|(at, _)| now.duration_since(*at) < REMEMBERED).map(|(_, front)| front.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_has_a_row_of_its_own() {
        for what in Capability::ALL {
            assert_eq!(what.row().what, what);
        }
        assert_eq!(TABLE.len(), Capability::ALL.len());
    }

    #[test]
    fn versions_are_compared_by_number_and_what_is_none_is_not_guessed() {
        use Capability::{DryRun, EqualValueIsNoVersion, PublicKeys};
        use Support::{Has, Lacks, Unsaid};
        for (version, dry_run, public_keys, equal) in [
            (Some("1.24.0"), Has, Has, Has),
            (Some("1.24.0-123"), Has, Has, Has),
            (Some("1.22.3"), Has, Has, Has),
            (Some("1.23.0"), Has, Has, Unsaid),
            (Some("1.24.1"), Has, Has, Unsaid),
            (Some("1.21.1"), Has, Has, Unsaid),
            (Some("1.21.1-456"), Has, Has, Unsaid),
            (Some("1.21.0"), Lacks, Has, Unsaid),
            (Some("1.9.9"), Lacks, Has, Unsaid),
            (Some("1.26.9"), Has, Has, Unsaid),
            (Some("1.27.0"), Has, Lacks, Unsaid),
            (Some("1.27.0-rc1"), Has, Lacks, Unsaid),
            (Some("2.0.0"), Has, Lacks, Unsaid),
            (Some("1.22"), Unsaid, Unsaid, Unsaid),
            (Some("new"), Unsaid, Unsaid, Unsaid),
            (Some(""), Unsaid, Unsaid, Unsaid),
            (None, Unsaid, Unsaid, Unsaid),
        ] {
            let found = [DryRun, PublicKeys, EqualValueIsNoVersion].map(|what| what.on(version));
            assert_eq!(found, [dry_run, public_keys, equal], "{version:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_server_and_its_version_and_what_to_do() {
        let said = |what: Capability, version| what.refused("https://conjur.example", version);
        let keys = said(Capability::PublicKeys, Some("1.27.0"));
        assert!(
            keys.starts_with(
                "the server at https://conjur.example (version 1.27.0) has no public keys: they were removed"
            ),
            "{keys}"
        );
        assert!(keys.contains("keep the keys in variables"), "{keys}");
        let unsaid = said(Capability::DryRun, None);
        assert!(
            unsaid.contains("(which doesn't say its version) may have no dry runs: they came with 1.21.1"),
            "{unsaid}"
        );
    }

    #[test]
    fn a_version_is_remembered_and_not_for_ever() {
        let (said, start) = (SaidVersion::default(), Instant::now());
        assert_eq!(said.at(start), None);
        let front = |version: Option<&str>| Some(Front { version: version.map(str::to_owned) });
        said.keep_at(Some("1.24.0"), start);
        assert_eq!(said.at(start + REMEMBERED - Duration::from_secs(1)), front(Some("1.24.0")));
        assert_eq!(said.at(start + REMEMBERED), None);
        said.keep_at(None, start);
        assert_eq!(said.at(start), front(None));
    }
}

//! Every bound of the client, in one place: what one answer, one list and all clients that share a memory budget may take.
//!
//! Shares are work-conserving: a party that is alone gets all of it, one among others its turn ([`crate::fair`]).
//! Where a bound is met, it is counted under the name of its constant: [`hits`], [`in_use`].
//!
//! ```
//! use conjur_client::limits::{Limit, hits, in_use};
//!
//! for limit in Limit::ALL {
//!     println!("{} was met {} times", limit.as_str(), hits(*limit));
//!     if limit.is_metered() {
//!         println!("{} of it is in use", in_use(*limit));
//!     }
//! }
//! ```

mod hits;

use std::time::Duration;

pub use hits::{Limit, Tallies, hits, in_use};
pub(crate) use hits::{hit, used};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Large answers that are read or worked on, and the values in them until they are written, for the process.
pub const ANSWERS_BYTES: usize = 32 * MIB;
/// An answer up to this size counts for nothing: the connections bound how many there are.
pub const ANSWER_SMALL: usize = 64 * KIB;
/// All values of one object together, as they come from Conjur; above [`VALUES_SMALL_BYTES`] they count
/// among [`ANSWERS_BYTES`].
pub const VALUES_BYTES: usize = 16 * MIB;
/// Values of one object up to this, together, count for nothing: thousands of objects wait at once to write theirs.
pub const VALUES_SMALL_BYTES: usize = 8 * KIB;
/// How long a large answer waits for its part of [`ANSWERS_BYTES`] before it is given up for now.
pub const ANSWERS_PATIENCE: Duration = Duration::from_secs(10);
/// How long a large answer or a stream may take while others wait for what it holds.
pub const ANSWERS_WANTED: Duration = Duration::from_secs(10);
/// Answers that are read as a stream at once, for the process.
pub const STREAMS: usize = 16;
/// A streamed answer up to this size takes no place among [`STREAMS`].
pub const STREAM_SMALL: usize = 256 * KIB;
/// One streamed answer: what comes in. Twenty versions of a policy of 10 MiB, and what JSON's escapes add.
pub const STREAM_BYTES: usize = 512 * MIB;
/// One list of a server: records that are walked.
pub const LIST_RECORDS: usize = 1_000_000;
/// Lists that are kept, for the process; the least recently used goes.
pub const LISTS_KEPT_BYTES: usize = 32 * MIB;
/// One list of a server: bytes of what is kept of it. All lists that are being walked or used by someone take together at
/// most as much again as [`LISTS_KEPT_BYTES`].
pub const LIST_BYTES: usize = 16 * MIB;
/// A server's words, as they enter a message.
pub const WORDS_BYTES: usize = 512;
/// An id in a server's answer.
pub const ID_BYTES: usize = 4 * KIB;
/// Versions of a branch that are read: as many as a server keeps.
pub const POLICY_VERSIONS: usize = 20;
/// An answer that is not a success: what is read of it.
pub const REFUSAL_BYTES: usize = 64 * KIB;
/// An answer that is held in memory.
pub const ANSWER_BYTES: usize = 16 * MIB;
/// An answer that is held in memory: what it weighs once its JSON is read, by its bytes and the number of its records.
pub const ANSWER_WEIGHT: usize = 24 * MIB;
/// An answer of a batch of variables; a larger one is asked for by halves.
pub const BATCH_ANSWER_BYTES: usize = 8 * MIB;
/// A page of a list; a larger one is asked for by halves.
pub const PAGE_BYTES: usize = 4 * MIB;
/// One secret that is fetched alone.
pub const SECRET_BYTES: usize = 64 * MIB;
/// A token or a key.
pub const TOKEN_BYTES: usize = 64 * KIB;
/// How long a server may ask to be left alone.
pub const RETRY_AFTER: Duration = Duration::from_secs(600);
/// How long a server may ask to leave alone a branch that it is loading.
pub const RETRY_AFTER_LOAD: Duration = Duration::from_secs(60);
/// One CA bundle.
pub const CA_BUNDLE_BYTES: usize = 256 * KIB;
/// One CA bundle: its PEM blocks.
pub const CA_BUNDLE_BLOCKS: usize = 512;
/// The certificates that the system trusts are read anew after this long, and shared by all clients until then.
pub const SYSTEM_ROOTS_AGE: Duration = Duration::from_secs(600);
/// Connections to all Conjur servers together; each client that has something to do has at least one.
pub const SOCKETS: usize = 384;
/// Connecting to Conjur, the look-up of its name and the TLS handshake included.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// HTTP/2: what a server may send ahead of being read, on one connection; one answer half of that.
pub const HTTP2_WINDOW: u32 = 128 * 1024;
/// HTTP/2: the headers of one answer.
pub const HTTP2_HEADERS: u32 = 32 * 1024;
/// HTTP/1: what is read ahead on one connection, and the longest head of an answer.
pub const HTTP1_BUFFER: usize = 16 * 1024;
/// HTTP/1: how many headers an answer may have.
pub const HTTP1_HEADERS: usize = 100;
/// A connection to Conjur that nothing used for this long is closed.
pub const SOCKET_IDLE: Duration = Duration::from_secs(15);
/// Names of hosts that connections of namespaces look up at once, for the process: each holds a thread.
pub const LOOKUPS: usize = 24;
/// The same for a namespace.
pub const LOOKUPS_PER_NAMESPACE: usize = 2;
/// How long a connection waits for a name to be looked up; then it goes by what was found before.
pub const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// A namespace whose ids were missing or forbidden asks in batches of its own for this long, so that finding out which
/// they are costs no one else.
pub const BAD_IDS_APART: Duration = Duration::from_secs(60);
/// Missing and forbidden ids that a client of Conjur remembers, and looks at again by itself.
pub const BAD_IDS: usize = 4_096;
/// How often in a row what is new or changed goes before what is repeated, where both wait.
pub const URGENT_IN_A_ROW: u32 = 3;

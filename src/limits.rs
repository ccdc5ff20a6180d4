//! Every budget of the operator, in one place: what one object, one namespace, one server and the whole process may take.
//! Those of the client of Conjur are its own ([`conjur_client::limits`]).
//!
//! `docs/limits.md` says for each what happens at the bound, its flag and its metric; a test compares the two. Shares are
//! work-conserving: a namespace that is alone gets all of the process's, one among others its turn ([`crate::fair`]).
//! Where a budget is met, [`hit`] counts it under the name of its constant.

mod bucket;
mod hits;

use std::time::Duration;

pub use bucket::{Bucket, Rate};
pub use conjur_client::limits::{CA_BUNDLE_BYTES, LOOKUP_DEADLINE};
pub use hits::{InUse, Limit, hit, hits, in_use};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Heavy work (regular expressions, templates, documents, JSON): threads for the process.
pub const HEAVY_THREADS: usize = 2;
/// Heavy work: bytes that what runs at once may take, for the process.
pub const HEAVY_BYTES: usize = 64 * MIB;
/// Heavy work of fewer bytes is done at once, where it is asked for.
pub const LIGHT_BYTES: usize = 64 * KIB;
/// One worker process: bytes that it may take, besides those it starts with.
pub const HEAVY_WORKER_BYTES: usize = 32 * MIB;
/// One piece of what a worker process is asked, or says; none comes near it.
pub const HEAVY_MESSAGE_BYTES: usize = 64 * MIB;
/// One worker process: one that keeps more in memory after an answer is ended.
pub const HEAVY_WORKER_KEPT_BYTES: usize = 8 * MIB;
/// One worker process: questions that it answers before another one is started.
pub const HEAVY_WORKER_ANSWERS: usize = 1_000;
/// One worker process: how long it is kept without a question.
pub const HEAVY_WORKER_IDLE: Duration = Duration::from_secs(30);
/// One question to a worker: so many times its deadline may pass while it gets no processor.
pub const HEAVY_PATIENCE: u32 = 20;
/// An object is suspect after so many deaths of its worker, and is then tried alone.
pub const POISON_DEATHS: u32 = 2;
/// One that is set aside is tried again after this long.
pub const POISON_ASIDE: Duration = Duration::from_secs(3600);
/// A policy document of more bytes is read with nothing else at work.
pub const DOCUMENT_ALONE_BYTES: usize = MIB;
/// One template: its text.
pub const TEMPLATE_BYTES: usize = 256 * KIB;
/// One `{{ … }}` or `{% … %}` of a template.
pub const TEMPLATE_TAG_BYTES: usize = 2_000;
/// The same: brackets that are open at once.
pub const TEMPLATE_DEPTH: usize = 32;
/// The same: filters, tests, calls, fields and operators.
pub const TEMPLATE_STEPS: usize = 200;
/// One template: its `{% … %}`.
pub const TEMPLATE_BLOCKS: usize = 200;
/// All templates of one object: steps of the engine, each good for 64 bytes.
pub const TEMPLATE_FUEL: u64 = 1_000_000;
/// All templates of one object: the same where they are rendered at once, not by a worker.
pub const TEMPLATE_LIGHT_FUEL: u64 = 10_000;
/// One template that is rendered at once: its text.
pub const TEMPLATE_LIGHT_BYTES: usize = 4 * KIB;
/// All templates of one object: bytes that the filters of the operator handle.
pub const TEMPLATE_HANDLED_BYTES: usize = 16 * MIB;
/// One JSON value in a template: its values, and theirs.
pub const JSON_NODES: usize = 100_000;
/// One JSON value in a template: how deep it is nested.
pub const JSON_DEPTH: usize = 100;
/// All templates of one object: how long they may take.
pub const TEMPLATES_DEADLINE: Duration = Duration::from_secs(1);
/// One policy document: how long reading it may take.
pub const DOCUMENT_DEADLINE: Duration = Duration::from_secs(10);
/// One regular expression: its text, 1,024 characters of up to four bytes. Reading it takes some 300 times as much.
pub const REGEX_TEXT_BYTES: usize = 4 * KIB;
/// One regular expression, compiled: 1 MiB and an eighth, which `[\w-]{1,63}` needs.
pub const REGEX_BYTES: usize = MIB + MIB / 8;
/// One regular expression that is also kept backwards, to match faster: each of the two.
pub const REGEX_SMALL_BYTES: usize = 256 * KIB;
/// All regular expressions of one object, compiled.
pub const REGEX_OBJECT_BYTES: usize = 2 * MIB;
/// One regular expression: what tells where its groups begin and end, while it is used.
pub const REGEX_GROUP_BYTES: usize = 8 * MIB;
/// One regular expression: how deep its groups may be nested.
pub const REGEX_NESTING: u32 = 100;
/// All regular expressions of one object: how long matching them may take.
pub const REGEX_DEADLINE: Duration = Duration::from_secs(5);
/// One policy document: its text.
pub const DOCUMENT_BYTES: usize = 10 * MIB;
/// One policy document: its nodes.
pub const DOCUMENT_NODES: usize = 400_000;
/// One policy document: how deep it is nested. What walks it calls itself once a level.
pub const DOCUMENT_DEPTH: usize = 200;
/// All data of one Secret: the API server takes no more (`MaxSecretSize`).
pub const SECRET_DATA_BYTES: usize = 1_048_576;
/// Variables that all searches of one object may find: the API server takes no more in a Secret that has values.
pub const FOUND_VARIABLES: usize = 5_000;

/// Texts of templates and documents that are read from the API server at once, for the process.
pub const TEXT_READERS: usize = 1;
/// How long a text waits for its turn to be read before it is given up for now.
pub const TEXT_READERS_PATIENCE: Duration = Duration::from_secs(60);
/// Texts of templates and documents that were read, until what came of them is done, for the process.
pub const TEXTS_BYTES: usize = 24 * MIB;
/// A text up to this takes nothing of [`TEXTS_BYTES`].
pub const TEXT_SMALL: usize = 8 * KIB;
/// How long a text waits for its part of [`TEXTS_BYTES`] before it is given up for now.
pub const TEXTS_PATIENCE: Duration = Duration::from_secs(60);

/// Clients of Conjur, for the process.
pub const CLIENTS: usize = 2_000;
/// Clients of Conjur, for a namespace.
pub const CLIENTS_PER_NAMESPACE: usize = 16;
/// A client of Conjur that nothing used for this long is forgotten.
pub const CLIENT_IDLE: Duration = Duration::from_secs(600);
/// A client of Conjur that was used this lately does not make room for another, nor is a refused one tried before.
pub const CLIENT_BUSY: Duration = Duration::from_secs(60);
/// A login, key, password or token that a connection logs in with.
pub const CREDENTIAL_BYTES: usize = 16 * KIB;
/// A client certificate, those between it and its authority, and its key, together.
pub const CLIENT_CERTIFICATE_BYTES: usize = 64 * KIB;
/// Making one client of Conjur, which reads its certificates or the system's: bytes of [`HEAVY_BYTES`] that it counts for.
pub const CLIENT_MAKING_BYTES: usize = 4 * MIB;

/// The audiences of the Kubernetes API server's own are asked for again after this time.
pub const OWN_AUDIENCES_AGAIN: Duration = Duration::from_secs(3600);
/// The addresses of the Kubernetes API server are looked at again after this time.
pub const API_SERVER_AGAIN: Duration = Duration::from_secs(600);

/// A connection's `tokenRefreshInterval`: at least and at most.
pub const TOKEN_REFRESH: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));
/// A connection's `limits.timeout`: at least and at most.
pub const TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A connection's `limits.policyTimeout`: at least and at most.
pub const POLICY_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(14 * 60));
/// A load whose caller is gone has ended in Conjur after this: a little more than the longest `policyTimeout`.
pub const LONGEST_LOAD: Duration = Duration::from_secs(15 * 60);
/// A request that changes a key, and whose answer was lost, has ended in Conjur after this: twice the longest `timeout`.
pub const LOST_REQUEST: Duration = Duration::from_secs(2 * 60);
/// The token of a host factory that is made for one enrolment lives so long, if it is not revoked before.
pub const FACTORY_TOKEN_LIFE: Duration = Duration::from_secs(2 * 60);
/// A connection's `limits.maxConnections`: at least and at most.
pub const MAX_CONNECTIONS: (u32, u32) = (1, 64);
/// A connection's `limits.requestsPerSecond`: at least and at most.
pub const REQUESTS_PER_SECOND: (u32, u32) = (1, 10_000);
/// A connection's `limits.batchSize`: at least and at most.
pub const BATCH_SIZE: (u32, u32) = (1, 1_000);
/// A connection's `limits.batchBytes`: at least and at most.
pub const BATCH_BYTES: (u32, u32) = (256, 10_240);

/// Reads of single objects of the API server at once, for the process: each may have over a megabyte.
pub const API_READS: usize = 8;
/// One call to the API server.
pub const API_CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Objects of the operator's own kinds that one page of a list of the API server holds: each may have over a megabyte.
pub const LIST_PAGE: u32 = 20;
/// The same where only metadata is listed, which may have a few hundred kilobytes.
pub const META_PAGE: u32 = 50;
/// One object: a spec up to this, as JSON, stays in memory and counts for nothing.
pub const SPEC_SMALL_BYTES: usize = KIB;
/// One object: what may stay in memory of a long spec, by which others find it.
pub const SPEC_HEAD_BYTES: usize = 8 * KIB;
/// Longer specs that stay in memory, decoded, for the process.
pub const SPECS_KEPT_BYTES: usize = 24 * MIB;
/// Longer specs that do not, and are read when an object has its turn, until its work is done, for the process.
pub const SPECS_READ_BYTES: usize = 8 * MIB;
/// How long an object waits for its part of [`SPECS_READ_BYTES`] before it is given up for now.
pub const SPECS_PATIENCE: Duration = Duration::from_secs(60);
/// ConfigMaps, Secrets or ServiceAccounts whose versions are kept though no one names them, for each kind: 32 bytes each.
pub const WATCHED_OBJECTS: usize = 500_000;
/// Namespaces that are watched one by one: each has nine watches, six of them from the start.
pub const WATCHED_NAMESPACES: usize = 50;
/// A watch that failed and has not failed again for this long works: its next failure is told.
pub const WATCH_WORKS: Duration = Duration::from_secs(120);
/// A right to list that is missing for less may be that of an API server that has just started, and knows no roles yet.
pub const RIGHTS_PATIENCE: Duration = Duration::from_secs(10);
/// A source that may not be watched is read again this often.
pub const UNWATCHED_AGAIN: Duration = Duration::from_secs(600);
/// Secrets that one ConjurPush selects by their labels: each has a variable at least.
pub const SELECTED_SECRETS: usize = 1_000;
/// Values of one ConjurPush, of all its Secrets together.
pub const PUSHED_BYTES: usize = 8 * MIB;
/// Values of one ConjurPush that are on their way to Conjur at once.
pub const PUSHES_AT_ONCE: usize = 4;
/// ConjurPushes that are worked on at once, for the process.
pub const RUNNING_PUSHES: usize = 512;
/// One reconcile of a ConjurPush: as of a ConjurPolicy, for it may make its variables.
pub const PUSH_DEADLINE: Duration = Duration::from_secs(900);
/// Variables of ConjurPushes are made and changed in one branch at most once in this time.
pub const VARIABLES_PAUSE: Duration = Duration::from_secs(1);
/// One document that makes or changes variables: its nodes, about.
pub const VARIABLES_NODES: usize = 200_000;
/// One document that makes or changes variables of several objects: its bytes, with each sign escaped.
pub const VARIABLES_BYTES: usize = 8 * MIB;
/// Documents that make or change variables, each with its copy in the request, from before they are written until they were
/// sent, for the process: apart from [`TEXTS_BYTES`], for objects that wait for such a load hold some of those.
pub const VARIABLES_TEXTS_BYTES: usize = 24 * MIB;
/// How often a load of variables is sent that another load of the branch is in the way of.
pub const VARIABLES_TRIES: u32 = 5;
/// A policy's own document that stays in memory while nothing is done with it; a longer one is read when it is needed.
pub const DOCUMENT_KEPT_BYTES: usize = 4 * KIB;
/// One annotation of the operator's that stays in memory; of a longer one a hash.
pub const OWN_ANNOTATION_BYTES: usize = 4 * KIB;
/// All annotations of the operator's on one Secret that stay in memory.
pub const OWN_META_BYTES: usize = 16 * KIB;
/// Labels, annotations, owners and finalizers of others on one Secret that stay in memory; where there are more, each
/// write reads them.
pub const FOREIGN_META_BYTES: usize = 2 * KIB;
/// ConjurSecrets that are followed from one to the other, where each reads its template from the next one's Secret.
pub const TEMPLATE_CHAIN: usize = 64;
/// An id that a list brings is left out where it is longer.
pub const FOUND_ID_BYTES: usize = 1024;
/// Texts of templates that are kept between two uses, for the process.
pub const TEXTS_KEPT_BYTES: usize = 16 * MIB;
/// Texts of templates that are kept between two uses, for a namespace.
pub const TEXTS_KEPT_PER_NAMESPACE: usize = 4 * MIB;
/// Objects look at new labels of their namespace at most once in this time.
pub const LABELS_PAUSE: Duration = Duration::from_secs(2);
/// `sync-now` of one object counts once in this time.
pub const SYNC_NOW_PAUSE: Duration = Duration::from_secs(5);
/// Events of one namespace at once.
pub const EVENTS_BURST: u32 = 300;
/// Events of one namespace in a second.
pub const EVENTS_PER_NAMESPACE: u32 = 5;
/// Events of the process in a second.
pub const EVENTS_PER_PROCESS: u32 = 50;
/// Events that are being sent at once, for the process.
pub const EVENTS_SENDERS: usize = 2;
/// Events that wait to be sent, for the process.
pub const EVENTS_QUEUE: usize = 2_000;
/// Events that were sent and are remembered, so that the next like one of them is counted there, for the process.
pub const EVENTS_KEPT: usize = 2_000;
/// The text of one Event; the API server takes no more.
pub const EVENT_NOTE_BYTES: usize = KIB;
/// Log lines at warn and error about one namespace at once.
pub const LOG_FAILURES_BURST: u32 = 100;
/// Log lines at warn and error about one namespace in a second.
pub const LOG_FAILURES: u32 = 1;
/// Log lines at warn and error of the process in a second; ten times as many at once.
pub const LOG_FAILURES_PROCESS: u32 = 50;
/// One log line.
pub const LOG_LINE_BYTES: usize = 4 * KIB;

/// Threads that run the tasks of the process; fewer where there are fewer processors, but two at least.
pub const WORKERS: usize = 4;
/// Threads for calls that block, as names are looked up, for the process.
pub const BLOCKING_THREADS: usize = 64;
/// A Lease lasts at most so long, whatever it says, and is at least told apart by the second.
pub const LEASE_DURATION: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// What is under way when the process is told to stop may take this long, but for loads of policy.
pub const DRAIN: Duration = Duration::from_secs(20);
/// After what was begun in Conjur has ended, for its status to be written, when the process is told to stop.
pub const LAST_WORDS: Duration = Duration::from_secs(2);
/// What the flag says at most that a load of policy may take when the process is told to stop.
pub const LOAD_GRACE: Duration = Duration::from_secs(15 * 60);
/// The Lease is renewed while each runtime gave a sign of life in this time.
pub const HEARTBEAT_LEASE: Duration = Duration::from_secs(60);
/// `/healthz` says that all is well while each runtime gave a sign of life in this time.
pub const HEARTBEAT_HEALTH: Duration = Duration::from_secs(90);
/// Connections to the address of `/healthz` and `/readyz` at once.
pub const HEALTH_CONNECTIONS: usize = 64;
/// Connections to the address of `/metrics` at once.
pub const METRICS_CONNECTIONS: usize = 16;
/// After a page of metrics was built the same is given for so many times as long as that took.
pub const METRICS_REST: u32 = 9;
/// One chain of certificates in a Secret, to be looked at for when it ends.
pub const CERTIFICATE_READ_BYTES: usize = 64 * KIB;
/// Objects that have series of their own on `/metrics`, where that is asked for.
pub const METRICS_OBJECTS: usize = 50_000;
/// One request for health or metrics, before it is known: its line and headers.
pub const HTTP_HEADER_BYTES: usize = 8 * KIB;
/// One request for health or metrics: how long its line and headers may take to come.
pub const HTTP_HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// One connection for health or metrics, from its beginning to the end of the answer.
pub const HTTP_DEADLINE: Duration = Duration::from_secs(15);

/// A hook of the chart waits so long for the CRDs to be served, and for connections to be Ready.
pub const HOOK_PATIENCE: Duration = Duration::from_secs(60);

/// A document that Conjur refused, where something in Conjur may mend it: looked at, or sent, once in this time.
pub const REFUSED_AGAIN: Duration = Duration::from_secs(600);
/// A branch that is missing: looked for once in this time.
pub const BRANCH_AGAIN: Duration = Duration::from_secs(60);
/// What an identity may do with a branch, after another policy's load that may have changed it: asked for once in this time.
pub const GIVEN_AGAIN: Duration = Duration::from_secs(10);
/// Records of others' loads that are remembered for documents that were refused meanwhile, for the process.
pub const RECORDS_REMEMBERED: usize = 100_000;
/// Loads that are remembered for that, however little they made, for the process.
pub const LOADS_REMEMBERED: usize = 1_024;
/// A branch that Conjur says is busy is left alone for no longer than this, whatever it asks for.
pub const BUSY_PAUSE: Duration = Duration::from_secs(300);
/// A load waits for its turn on a branch this long, and then tries again: it, too, must end in the reconcile's time.
pub const TURN_WAIT: Duration = Duration::from_secs(200);

/// Objects of one connection that are worked on at once, of what is new and of what is repeated each: a namespace alone
/// gets four fifths, which are enough for several full batches while as many objects write.
pub const RUNNING_ON_CONNECTION: usize = 1_280;
/// ConjurSecrets that are worked on at once, for the process. A namespace may have four times of what is left free.
pub const RUNNING_SECRETS: usize = 1_536;
/// Objects of any other kind that are worked on at once, for the process, each kind.
pub const RUNNING_OTHERS: usize = 192;
/// One reconcile of a ConjurSecret.
pub const SECRET_DEADLINE: Duration = Duration::from_secs(120);
/// One reconcile of a ConjurPolicy: longer than the longest load, which has a deadline of its own.
pub const POLICY_DEADLINE: Duration = Duration::from_secs(900);
/// One check of a connection's identity.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(90);

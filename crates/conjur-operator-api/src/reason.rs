//! Why an object is as it is: one closed list for conditions, events and metrics.
//!
//! ```
//! use conjur_operator_api::Reason;
//!
//! // What a condition says, and what that means.
//! let reason = Reason::ALL.iter().find(|reason| reason.as_str() == "VariableForbidden");
//! assert!(reason.is_some_and(|reason| reason.meaning().contains("lacks `execute`")));
//! ```

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// The reason of a condition, an event or a counted failure; `docs/reasons.md` says what to do about each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name),+ }

        impl Reason {
            /// Every reason there is, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// The CamelCase text that stands in conditions, events and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name)),+ }
            }

            /// What it means, as the documentation says it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

reasons! {
    /// The Secret holds what Conjur holds.
    Synced,
    /// The document is loaded.
    Loaded,
    /// Conjur holds what the Secrets hold.
    Pushed,
    /// The host exists in Conjur, and its key is stored, or none is kept (`apiKey: false`).
    Enrolled,
    /// What a load would change is in `status.plan`; nothing was loaded (also an event).
    Planned,
    /// Conjur no longer holds what the document says (also an event).
    PolicyDrifted,
    /// The server was reached, the login worked.
    Connected,
    /// `spec.suspend` is true: nothing is read, written or repaired.
    Suspended,
    /// A Secret that was edited or deleted by hand was written again (event).
    DriftRepaired,
    /// Another writer changes the Secret, or what it is made from, after each write: after 20 times in a row it is
    /// written once in 30 s.
    Contested,
    /// A workload was restarted, since the data of its Secret changed (event).
    RolloutRestarted,
    /// A workload that is to be restarted does not exist; one that is made now has the new data anyway (event).
    RolloutTargetNotFound,
    /// A find brings variables whose ids can't be asked for, or whose keys can't be or are others'; they are left out
    /// (event).
    VariablesLeftOut,
    /// Another writer changed a variable that a ConjurPush keeps; it was written again (event).
    VariableOverwritten,
    /// A Secret that the selector of a ConjurPush names can't be pushed, and is left out (event).
    SourceSkipped,
    /// The API key of a role was rotated: since the one that Conjur gave was lost, or since a ConjurHost asks for it
    /// (event).
    KeyRotated,
    /// What an object with `deletionPolicy: Delete` made was removed from Conjur (event).
    Removed,
    /// Something that an object made or gave is still in Conjur, though the object is gone or no longer asks for it
    /// (event).
    LeftInConjur,
    /// The connection speaks plain http: secrets cross the network unencrypted (event).
    InsecureConnection,
    /// No connection of that name is in the namespace.
    ConnectionNotFound,
    /// The connection is there but does not work; its own condition says why.
    ConnectionNotReady,
    /// A Secret, ConfigMap or key that the connection refers to is missing, or the Secret with the host factory's token
    /// of a ConjurHost.
    CredentialsNotFound,
    /// A variable is missing, has no value, or is not visible to the connection's identity.
    VariableNotFound,
    /// The identity may see a variable, but lacks `execute` on it, or `update` where a ConjurPush fills it.
    VariableForbidden,
    /// No key would be left: all variables are optional and missing, nothing was found, or the template has no key.
    NoKeys,
    /// A value in Conjur is not what the spec takes it for: not JSON, without the property, not base64, or not what the
    /// Secret's type needs.
    InvalidValue,
    /// A ConfigMap, Secret or key that `spec.documentFrom` names is missing.
    DocumentNotFound,
    /// A ConfigMap, a Secret or a key that a template is read from is missing.
    TemplateNotFound,
    /// A Secret or key that `spec.source` or `spec.data` of a ConjurPush names is missing.
    SourceNotFound,
    /// The policy branch does not exist, or is not visible to the identity.
    BranchNotFound,
    /// The host, or the host factory, does not exist, or is not visible to the connection's identity.
    HostNotFound,
    /// A ConjurHost rotates the key that the connection logs in with; the login is tried again when the new one is
    /// stored.
    KeyRotating,
    /// A load of the document is under way, and takes some time.
    Loading,
    /// Another load of the same branch is under way, or one of a branch that the object had before may be, for up to 15
    /// minutes; or an earlier request for a ConjurHost may still come through, for up to two minutes.
    LoadInProgress,
    /// The target Secret is being deleted, or belongs to an object of the same name that is gone.
    TargetTerminating,
    /// The Secret that keys are to be merged into does not exist.
    TargetNotFound,
    /// Conjur can't be reached or answers with a fault of its own.
    ConjurUnavailable,
    /// Conjur, or a proxy in front of it, asks for fewer requests.
    RateLimited,
    /// The Kubernetes API server refused or failed a call.
    ApiServerError,
    /// The login or API key is wrong.
    AuthenticationFailed,
    /// The server's certificate is not trusted, or TLS failed otherwise.
    TlsFailed,
    /// The connection leads to a host that the connections of a namespace may not lead to.
    HostDenied,
    /// The namespace, or the whole operator, has as many clients of Conjur as it may have at once.
    TooManyClients,
    /// The operator has no memory, connection or look-up free for the object now: others use them.
    OperatorBusy,
    /// The object does not decode; the API server holds something that the schema would refuse.
    InvalidObject,
    /// The spec asks for something that can't be.
    InvalidSpec,
    /// The server lacks what the object needs.
    Unsupported,
    /// The connection does not let the namespace do that: no `access` rule grants it, or `accessMode` forbids it; or
    /// the operator serves no ClusterConjurConnections.
    AccessDenied,
    /// The target Secret exists and is not managed by this object.
    ForeignSecret,
    /// A variable was made or filled by another writer, and `conflictPolicy` is Refuse, or does not reach it.
    ForeignVariable,
    /// Another, older ConjurPush keeps the variable.
    VariableTaken,
    /// A key is empty or holds only white space, which Conjur takes for no value.
    EmptyValue,
    /// A key, label or annotation that is to be merged into a Secret is another's.
    FieldConflict,
    /// The data is larger than a Secret may be, or than one ConjurPush may push.
    SecretTooLarge,
    /// A template does not parse or does not render.
    TemplateInvalid,
    /// The policy document does not parse, or Conjur refused it.
    PolicyInvalid,
    /// The identity lacks the privilege to load the branch.
    PolicyForbidden,
    /// Another, older ConjurPolicy has the branch, and one of the two Replaces it; or one Replaces the branch of a
    /// ConjurPush or ConjurHost.
    BranchTaken,
    /// The host exists in Conjur, and this object did not make it.
    ForeignHost,
    /// Another, older ConjurHost has the host, or a ConjurPolicy keeps its key.
    HostTaken,
    /// Conjur refuses the stored API key.
    KeyInvalid,
    /// To Replace the branch would delete variables that hold values, or hosts or users, or what another object of the
    /// operator keeps.
    DeletionsNotAllowed,
    /// The server has no dry run, so that no one can say what a load would change.
    DryRunUnsupported,
    /// The document makes hosts or users, and `spec.createdRoles` does not say where their keys go.
    CreatedRolesRequired,
    /// The identity may load the branch, but does not own it: keys of created roles could be lost for good.
    NotBranchOwner,
    /// The Secret with the inventory of what this policy made was edited and can't be read.
    InventoryUnreadable,
    /// A role that this object made has no stored key any more, or could not be given one; or Conjur refuses the token
    /// that a ConjurHost was to be enrolled with.
    KeyNotStored,
    /// Worker processes crashed on this object several times, the last time while it was alone: it is not tried before
    /// an edit, a `sync-now` or an hour.
    SetAside,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

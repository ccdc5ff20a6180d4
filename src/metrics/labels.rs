//! The values that labels have: closed lists, each value written once.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// A list of label values, each written once.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($variant),+ }

        impl $name {
            /// All of them.
            #[allow(dead_code, reason = "not every list is walked")]
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it stands on the page.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

label! {
    /// The kinds that are reconciled.
    Kind {
        Connection = "ConjurConnection",
        ClusterConnection = "ClusterConjurConnection",
        Secret = "ConjurSecret",
        Policy = "ConjurPolicy",
        Push = "ConjurPush",
        Host = "ConjurHost",
    }
}

label! {
    /// How a reconcile ended.
    ReconcileOutcome {
        Done = "done",
        Waiting = "waiting",
        Transient = "transient",
        Stalled = "stalled",
    }
}

label! {
    /// What was done to a Secret.
    SecretWrite {
        Create = "create",
        Update = "update",
        Recreate = "recreate",
        Delete = "delete",
    }
}

label! {
    /// What came of a change in Conjur.
    ChangeOutcome {
        Done = "done",
        Refused = "refused",
        Unknown = "unknown",
    }
}

label! {
    /// How an API key came to be.
    KeyChange {
        Enrol = "enrol",
        Rotate = "rotate",
    }
}

label! {
    /// What came of the restart of a workload.
    RestartOutcome {
        Restarted = "restarted",
        NotFound = "not_found",
        Failed = "failed",
    }
}

label! {
    /// What is waited for.
    TurnOf {
        Reconcile = "reconcile",
        ConjurRequest = "conjur_request",
        ApiServerWrite = "api_server_write",
        Branch = "branch",
    }
}

label! {
    /// What goes first where many wait.
    LaneLabel {
        Foreground = "foreground",
        Refresh = "refresh",
    }
}

label! {
    /// The status of Ready.
    ReadyLabel {
        True = "True",
        False = "False",
        Unknown = "Unknown",
    }
}

impl From<crate::conjur::Lane> for LaneLabel {
    fn from(lane: crate::conjur::Lane) -> Self {
        match lane {
            crate::conjur::Lane::Foreground => Self::Foreground,
            crate::conjur::Lane::Refresh => Self::Refresh,
        }
    }
}

/// The labels of one metric.
macro_rules! label_set {
    ($($name:ident { $($label:ident: $type:ty),+ $(,)? })+) => {
        $(
            #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
            pub(super) struct $name { $(pub $label: $type),+ }
        )+
    };
}

label_set! {
    ReconcileLabels { kind: Kind, outcome: ReconcileOutcome }
    KindLabels { kind: Kind }
    RequestLabels { endpoint: &'static str, outcome: &'static str }
    LoginLabels { outcome: &'static str }
    WriteLabels { action: SecretWrite }
    FailureLabels { kind: Kind, reason: &'static str }
    OutcomeLabels { outcome: ChangeOutcome }
    KeyLabels { change: KeyChange, outcome: ChangeOutcome }
    RestartLabels { outcome: RestartOutcome }
    TurnLabels { turn: TurnOf, lane: LaneLabel }
}

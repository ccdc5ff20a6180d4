//! The phases of an object by the table of `docs/reasons.md`, and how each is to be judged: the table of `docs/gitops.md`.

use serde_json::Value;

use super::kstatus::Verdict;

/// Where an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The operator has not seen it yet.
    New,
    /// The operator has not seen its newest spec to the end.
    Behind,
    Done,
    /// Something is awaited, or a fault is tried again.
    Waiting,
    /// A fault is tried again, while the last good state stands and nothing new is asked.
    StillGood,
    Stalled,
    /// Suspended while it was Ready.
    Suspended,
    /// Suspended before it was Ready.
    SuspendedEarly,
    Deleting,
}

/// A phase with its verdicts.
pub struct Row {
    pub phase: Phase,
    /// As the page has it.
    pub name: &'static str,
    pub kstatus: Verdict,
    pub argo_cd: &'static str,
}

const fn row(phase: Phase, name: &'static str, kstatus: Verdict, argo_cd: &'static str) -> Row {
    Row { phase, name, kstatus, argo_cd }
}

/// All of them.
pub const TABLE: [Row; 9] = [
    row(Phase::New, "new", Verdict::InProgress, "Progressing"),
    row(Phase::Behind, "its newest spec is not looked at to the end", Verdict::InProgress, "Progressing"),
    row(Phase::Done, "done", Verdict::Current, "Healthy"),
    row(Phase::Waiting, "waiting, or a fault that will be tried again", Verdict::InProgress, "Progressing"),
    row(
        Phase::StillGood,
        "a fault that will be tried again while the last good state stands",
        Verdict::InProgress,
        "Healthy",
    ),
    row(Phase::Stalled, "the user must act", Verdict::Failed, "Degraded"),
    row(Phase::Suspended, "suspended when it was Ready", Verdict::Current, "Suspended"),
    row(Phase::SuspendedEarly, "suspended before it was Ready", Verdict::InProgress, "Suspended"),
    row(Phase::Deleting, "being deleted", Verdict::Terminating, "Progressing"),
];

impl Phase {
    /// The phase's line of the table.
    pub fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.phase == self).expect("each phase has a row")
    }

    /// The phase of an object as it is in the API server.
    ///
    /// # Errors
    /// What of its status is in no row of the table.
    pub fn of(object: &Value) -> Result<Self, String> {
        if object["metadata"]["deletionTimestamp"].is_string() {
            return Ok(Self::Deleting);
        }
        let status = &object["status"];
        let observed = status["observedGeneration"].as_i64();
        let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut told: Vec<(&str, &str)> = conditions
            .iter()
            .filter_map(|condition| Some((condition["type"].as_str()?, condition["status"].as_str()?)))
            .collect();
        told.sort_unstable();
        if told.is_empty() {
            return if observed == Some(-1) {
                Ok(Self::New)
            } else {
                Err(format!("it says nothing: {status}"))
            };
        }
        let suspended = object["spec"]["suspend"] == true;
        let phase = match told.as_slice() {
            [("Ready", "True")] if suspended => Self::Suspended,
            [("Ready", "False")] if suspended => Self::SuspendedEarly,
            [("Ready", "True")] => Self::Done,
            // The edit that ends it is not seen yet.
            [("Ready", "False")] if observed != object["metadata"]["generation"].as_i64() => Self::Behind,
            [("Ready", "False"), ("Reconciling", "True")] => Self::Waiting,
            [("Ready", "True"), ("Reconciling", "True")] => Self::StillGood,
            [("Ready", "False"), ("Stalled", "True")] => Self::Stalled,
            _ => return Err(format!("no state has these conditions: {told:?}")),
        };
        let is_seen = observed == object["metadata"]["generation"].as_i64();
        Ok(if is_seen { phase } else { Self::Behind })
    }
}

//! The rules of kstatus for a kind that it does not know: `checkGenericProperties` and `checkReadyCondition` of
//! `pkg/kstatus/status` in kubernetes-sigs/cli-utils.

use serde_json::Value;

/// What kstatus says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Terminating,
    InProgress,
    Failed,
    Current,
}

/// Judges an object as it is in the API server.
pub fn compute(object: &Value) -> Verdict {
    let meta = &object["metadata"];
    if meta["deletionTimestamp"].as_str().is_some_and(|at| !at.is_empty()) {
        return Verdict::Terminating;
    }
    let status = &object["status"];
    if let (Some(generation), Some(observed)) =
        (meta["generation"].as_i64(), status["observedGeneration"].as_i64())
        && generation != observed
    {
        return Verdict::InProgress;
    }
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    for condition in conditions.iter().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Reconciling") => return Verdict::InProgress,
            Some("Stalled") => return Verdict::Failed,
            _ => {}
        }
    }
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    match ready.and_then(|ready| ready["status"].as_str()) {
        Some("False" | "Unknown") => Verdict::InProgress,
        // Nothing that it knows: taken for finished.
        _ => Verdict::Current,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_says_nothing_counts_as_finished_and_the_default_of_the_status_prevents_that() {
        let new = |status: Value| json!({ "metadata": { "generation": 1 }, "status": status });
        assert_eq!(compute(&json!({ "metadata": { "generation": 1 } })), Verdict::Current);
        assert_eq!(compute(&new(json!({}))), Verdict::Current);
        assert_eq!(compute(&new(json!({ "observedGeneration": -1 }))), Verdict::InProgress);
        assert_eq!(compute(&new(json!({ "observedGeneration": 1 }))), Verdict::Current);
    }
}

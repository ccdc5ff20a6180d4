//! Whether Conjur still holds what the document says: a dry run at the slots of `driftCheckInterval`.

use jiff::Timestamp;
use kube::runtime::events::EventType;

use super::{
    document::HashedDocument,
    dry_run::Planned,
    load,
    run::Run,
    seen::{ObservedPolicy, Say},
};
use crate::{
    api::{
        ConjurPolicyStatus, Reason,
        condition::{READY, find},
        policy::LoadMode,
    },
    controllers::Context,
    effect::keys::KeySecret,
    plan::{Failure, connection::access::Verb, policy::change_set::ChangeSet},
    runtime::{Key, Object},
};

/// Looks for drift where that is due, and loads the document again in modes Update and Replace; what there is to say of
/// a loaded document then.
///
/// # Errors
/// All that a load would be refused for; `DeletionsNotAllowed`.
pub async fn check(
    seen: &ObservedPolicy<'_>,
    looked: HashedDocument,
    kept: &mut KeySecret,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> Result<Say, Failure> {
    let key = Key::of(seen.object);
    let (reason, message) = seen.standing();
    let ready = find(seen.object.conditions().1, READY);
    // A dry run that was asked for, or a load that was refused, before says nothing of a document that is loaded.
    if ready.is_some_and(|c| c.reason == Reason::Planned.as_str() || c.status != "True") {
        status.plan = None;
    }
    let slots = seen.slots();
    // What kept it from being looked at, or loaded again, may be over.
    let failed = ready.is_some_and(|c| c.status != "True");
    let due = slots.is_some_and(|slots| failed || ctx.policy_notes.slot_is_due(&key, slots));
    let next = slots.map(|slots| slots.next_in(Timestamp::now()));
    if !due {
        if !seen.is_asked_to_look() {
            return Ok(Say::Is { reason, message, again: next });
        }
        if let Some(rest) = ctx.policy_notes.asked(&key) {
            return Ok(Say::Nothing(Some(rest)));
        }
    }
    let content = seen.content(looked.text, ctx).await?;
    let Some(through) = seen.through(Verb::Plan, ctx)? else { return Ok(Say::Nothing(None)) };
    let run = Run { seen, content: &content, through: &through, ctx };
    let (reason, message) = match run.plan().await? {
        Planned::Is(difference) if difference.is_empty() => {
            // What drifted and was loaded again stays to be seen; what is mended by others does not.
            if reason == Reason::PolicyDrifted {
                status.plan = None;
            }
            ctx.policy_notes.mended(&key, None);
            // Else the status may say that it drifted, or that no one can tell.
            if ctx.policy_notes.is_as_loaded(&key) && reason == Reason::Loaded {
                (reason, message)
            } else {
                (Reason::Loaded, format!("branch {} holds the document", seen.branch))
            }
        }
        Planned::Is(difference) => match drifted(&run, &key, &difference, kept, status).await? {
            Some(said) => said,
            None => return Ok(Say::Nothing(None)),
        },
        Planned::Unsupported(why) | Planned::NotOwner(why) => {
            ctx.policy_notes.stands_as_loaded(&key, false);
            let message = format!(
                "branch {} held the document when it was loaded; whether it still does can't be checked: {why}",
                seen.branch
            );
            (Reason::Loaded, message)
        }
    };
    Ok(Say::Is { reason, message, again: slots.map(|slots| ctx.policy_notes.handled(&key, slots)) })
}

async fn drifted(
    run: &Run<'_>,
    key: &Key,
    difference: &ChangeSet,
    kept: &mut KeySecret,
    status: &mut ConjurPolicyStatus,
) -> Result<Option<(Reason, String)>, Failure> {
    let Run { seen, ctx, .. } = *run;
    ctx.policy_notes.stands_as_loaded(key, false);
    let plan = difference.to_status();
    status.plan = Some(plan.clone());
    let what = format!(
        "branch {} no longer holds what the document says: a load would {}{}",
        seen.branch,
        difference.in_words(),
        run.hidden_note(difference)
    );
    let only = if seen.object.mode() == LoadMode::Append {
        Some("; mode Append does not load it again: use mode Update or Replace for that, or change the document".to_owned())
    } else if let Err(denied) = seen.check_access(Verb::Load, ctx) {
        Some(format!("; it is not loaded again: {}", denied.message))
    } else if ctx.policy_notes.is_unmendable(key, difference) {
        Some(
            "; loading it again did not change that: the document may contradict itself or another policy"
                .to_owned(),
        )
    } else {
        None
    };
    let message = what.clone() + only.as_deref().unwrap_or_default();
    if find(seen.object.conditions().1, READY).is_none_or(|c| c.message != message) {
        ctx.events.publish(seen.object, EventType::Warning, Reason::PolicyDrifted, "CheckDrift", &message);
    }
    if only.is_some() {
        return Ok(Some((Reason::PolicyDrifted, message)));
    }
    let Some(loaded) = load::load(run, kept, Some(plan), status).await? else { return Ok(None) };
    super::wake_those_who_wait(seen, run.content, status, ctx);
    // Each load makes a version: one that changes nothing is not repeated for ever.
    let left = match run.plan().await {
        Ok(Planned::Is(left)) if !left.is_empty() => Some(left),
        _ => None,
    };
    ctx.policy_notes.mended(key, left);
    Ok(Some((Reason::Loaded, format!("{loaded}, for it had drifted (status.plan)"))))
}

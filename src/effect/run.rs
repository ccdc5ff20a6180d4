//! The loop: [`next`] says which step is next, and a performer does it.

use crate::{
    api::Reason,
    plan::{
        Failure,
        effect::{
            order::next,
            step::{Effect, Fact, Performed, Question, Step, Verdict},
            view::View,
        },
    },
};

/// Looks outside, and changes what is outside. It decides nothing.
pub trait Performer: Send {
    /// The time, in seconds since 1970.
    fn now(&self) -> i64;

    /// Finds the answer to a question. Changes nothing outside.
    ///
    /// # Errors
    /// That it can't be found out, or that the answer is no: the run ends, and what is announced stays.
    fn learn(
        &mut self,
        question: &Question,
        view: &View,
    ) -> impl Future<Output = Result<Fact, Failure>> + Send;

    /// Does one thing outside.
    ///
    /// # Errors
    /// That it was not done, or may have been: the run ends, and the next one finds out.
    fn perform(
        &mut self,
        effect: &Effect,
        view: &View,
    ) -> impl Future<Output = Result<Performed, Failure>> + Send;
}

/// Goes on until it is over. It may be dropped at any await: the next run finds out what was done.
///
/// # Errors
/// The performer's.
pub async fn run(mut view: View, performer: &mut impl Performer) -> Result<Verdict, Failure> {
    // What a run did is compared with `plan/effect/model/ways.txt` by `tests/it/cluster/policy/kills.rs`.
    tracing::trace!(effect = "begin", document = view.request.document, "effect");
    let mut last = None;
    loop {
        view.now = performer.now();
        let step = next(&view);
        if last.as_ref() == Some(&step) {
            // It would go on for ever, with a request each time.
            let message = "internal error: a load came to no end; this is a bug in the operator";
            return Err(Failure::transient(Reason::ApiServerError, message));
        }
        match &step {
            Step::Learn(question) => {
                let fact = performer.learn(question, &view).await?;
                view.learned(question, fact);
            }
            Step::Do(effect) => {
                tracing::trace!(effect = effect.name(), document = view.request.document, "effect");
                let result = performer.perform(effect, &view).await?;
                view.done(effect, result);
            }
            Step::Finish(verdict) => return Ok(verdict.clone()),
        }
        last = Some(step);
    }
}

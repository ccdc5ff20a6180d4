//! Variables are made, changed and removed in a branch: what all objects want there at once goes into one load, at most one a
//! second. Nothing is announced before it: sent again, the same statements change nothing, and a variable that was made and
//! whose load's answer is lost carries its owner's annotation and holds no value.
//!
//! There is no task for a branch: whoever wants something waits for its answer and for the branch's turn, and who gets the
//! turn first loads for all that wait by then.

mod batch;
mod look;
pub mod queue;

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::queue::{Company, LoadAnswer, WaitingWish};
use super::branch_locks::Loader;
use crate::{
    conjur::PolicyBranch,
    controllers::{Context, connection::pool::ReadyConnection},
    plan::{Failure, push::documents::VariablesWish},
};

pub use self::{
    look::{each, shown, shown_in},
    queue::{ShownVariables, Statement},
};

/// Another wish that comes within this time goes into the same load.
const GATHERING: Duration = Duration::from_millis(50);
/// The first wish waits at most this long for others.
const LONGEST_GATHERING: Duration = Duration::from_millis(400);

/// Whether variables may be made and changed in a branch now.
///
/// # Errors
/// Why not.
pub type MayLoad = fn(&Loader, Statement, &Context) -> Result<(), Failure>;

/// What an object asks for.
pub struct VariablesAsked<'a> {
    /// Through which connection.
    pub through: &'a ReadyConnection,
    /// Where.
    pub branch: &'a PolicyBranch,
    /// The same, as the operator loads it.
    pub loader: &'a Loader,
    /// Whose turn it takes.
    pub namespace: &'a str,
    /// What is to be done.
    pub statement: Statement,
    /// With which variables.
    pub wish: VariablesWish,
    /// It is to be loaded with nothing of others: it was refused before.
    pub alone: bool,
    /// Asked before each load.
    pub may: MayLoad,
}

/// Has variables made, changed or removed, with what others want in the branch. How Conjur shows them then, where they were to
/// be made: one that another made meanwhile is not this object's.
///
/// # Errors
/// `PolicyInvalid`, `PolicyForbidden`, `BranchNotFound`, `LoadInProgress`; what `may` says; the connection's.
pub async fn load(asked: VariablesAsked<'_>, ctx: &Context) -> LoadAnswer {
    let VariablesAsked { through, branch, loader, namespace, statement, wish, alone, may } = asked;
    let (answer, mut answered) = oneshot::channel();
    let company = if alone { Company::Alone } else { Company::All };
    let waiting = WaitingWish { namespace: namespace.to_owned(), statement, wish, company, answer };
    ctx.variable_loads.push(loader, waiting);
    loop {
        let turn = tokio::select! {
            biased;
            // Who was to answer was cut off: it is asked for again, which changes nothing where it was done.
            answer = &mut answered => return answer.unwrap_or_else(|_| Err(cut_off())),
            turn = ctx.branches.take(loader, namespace, &ctx.metrics) => turn,
        };
        if let Ok(answer) = answered.try_recv() {
            return answer;
        }
        match ctx.variable_loads.next(loader) {
            Some(next) => tokio::time::sleep_until(next.into()).await,
            // Those that come together go together, also into the first load.
            None => gather(loader, ctx).await,
        }
        let batch = ctx.variable_loads.take(loader, namespace);
        batch::Batch { through, branch, loader, namespace, may, ctx }.run(batch).await;
        drop(turn);
    }
}

/// Waits until no more wishes come, for a moment.
async fn gather(loader: &Loader, ctx: &Context) {
    let began = Instant::now();
    let mut waiting = 0;
    while began.elapsed() < LONGEST_GATHERING {
        let now = ctx.variable_loads.waiting(loader);
        if now == waiting {
            return;
        }
        waiting = now;
        tokio::time::sleep(GATHERING).await;
    }
}

fn cut_off() -> Failure {
    Failure::transient(
        crate::api::Reason::LoadInProgress,
        "the load that was to make the variables was cut off; it is tried again",
    )
}

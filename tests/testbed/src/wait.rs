//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::Result;

/// Asks `look` again and again until it says `Some`, and gives that; an error after `deadline`, naming
/// `what`. Asks often at first and then every half second, and always once more at the deadline.
pub async fn wait_for<T, Look, Answer>(what: &str, deadline: Duration, mut look: Look) -> Result<T>
where
    Look: FnMut() -> Answer,
    Answer: Future<Output = Option<T>>,
{
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        let last = started.elapsed() >= deadline;
        if let Some(found) = look().await {
            return Ok(found);
        }
        if last {
            bail!("waited {} s in vain: {what}", deadline.as_secs_f32());
        }
        tokio::time::sleep(pause.min(deadline.saturating_sub(started.elapsed()))).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_after_a_while_is_given() {
        let mut asked = 0;
        let found = wait_for("the third answer", Duration::from_secs(5), || {
            asked += 1;
            let answer = (asked == 3).then_some(asked);
            async move { answer }
        })
        .await;
        assert_eq!(found.unwrap(), 3);
    }

    #[tokio::test]
    async fn what_never_comes_is_named_at_the_deadline() {
        let error =
            wait_for("a miracle", Duration::from_millis(50), || async { None::<()> }).await.unwrap_err();
        assert!(error.to_string().contains("a miracle"), "{error}");
    }
}

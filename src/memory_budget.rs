//! Texts that are read from elsewhere than Conjur: templates, documents, keys. They are in memory from when they were read
//! until what came of them is done with, which is when the reconcile ends ([`until_done`]).

use std::sync::{Arc, LazyLock};

pub use conjur_client::memory_budget::{keep_memory, until_done};

use crate::{
    budget::{Budget, Taken},
    limits::{
        Limit, SECRET_DATA_BYTES, TEXT_READERS, TEXT_READERS_PATIENCE, TEXT_SMALL, TEXTS_BYTES,
        TEXTS_PATIENCE, VARIABLES_TEXTS_BYTES,
    },
};

/// Who reads long texts from elsewhere than Conjur: they are in memory several times over while they are decoded, and
/// how long they are is known only then.
static READERS: LazyLock<Arc<Budget>> = LazyLock::new(|| Budget::new(Limit::TextReaders, TEXT_READERS));
/// Such texts, from when they were read until what came of them is done with.
static TEXTS: LazyLock<Arc<Budget>> = LazyLock::new(|| Budget::new(Limit::TextsBytes, TEXTS_BYTES));

/// Documents that make variables. Who waits for one to be sent may hold texts, so these are counted apart.
static VARIABLES: LazyLock<Arc<Budget>> =
    LazyLock::new(|| Budget::new(Limit::VariablesTextsBytes, VARIABLES_TEXTS_BYTES));

/// Room for a document that makes variables and its copy in the request, until it is dropped; none where the wait was too long.
pub(crate) async fn room_for_variables(party: &str, length: usize) -> Option<Taken> {
    VARIABLES.take(&party.into(), length.saturating_mul(2), TEXTS_PATIENCE).await
}

/// Waits for a party's turn to read texts, which lasts until it is dropped; none where the wait was too long.
pub(crate) async fn reader(party: &str) -> Option<Taken> {
    READERS.take(&party.into(), 1, TEXT_READERS_PATIENCE).await
}

/// Room for a text, itself and its copy in a request.
pub(crate) struct Room {
    taken: Option<Taken>,
    length: usize,
}

impl Room {
    /// Counts a text of this length until the work that runs now is done. False where it is longer than the room.
    pub(crate) fn hold(self, length: usize) -> bool {
        let fits = length <= self.length;
        if let Some(taken) = self.taken.filter(|_| fits) {
            keep_memory(taken);
        }
        fits
    }
}

/// Room for a text that was read, if there is some now. Nothing waits here, for the text is in memory already: where there
/// is none, it must be let go of before [`room`] is waited for.
pub(crate) fn room_now(party: &str, length: usize) -> Option<Room> {
    if length <= TEXT_SMALL {
        return Some(Room { taken: None, length: TEXT_SMALL });
    }
    let taken = TEXTS.try_take(&party.into(), length.saturating_mul(2))?;
    Some(Room { taken: Some(taken), length })
}

/// The same when a party's turn has come; none where the wait was too long.
pub(crate) async fn room(party: &str, length: usize) -> Option<Room> {
    let taken = TEXTS.take(&party.into(), length.saturating_mul(2), TEXTS_PATIENCE).await?;
    Some(Room { taken: Some(taken), length })
}

/// Room for a Secret that is about to be read: how long it is is known only then.
pub(crate) struct SecretRoom(Taken);

/// The same, when a party's turn has come; none where the wait was too long.
pub(crate) async fn room_for_secret(party: &str) -> Option<SecretRoom> {
    TEXTS.take(&party.into(), 2 * SECRET_DATA_BYTES, TEXTS_PATIENCE).await.map(SecretRoom)
}

impl SecretRoom {
    /// Counts what was read, twice for its copy in a request, until the work that runs now is done.
    pub(crate) fn keep(mut self, length: usize) {
        if length > TEXT_SMALL {
            keep_memory(self.0.split(length.saturating_mul(2)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_texts_count_until_the_work_is_done_and_short_ones_never() {
        let hold = |party: &str, length| room_now(party, length).is_some_and(|room| room.hold(length));
        let mut waits = Box::pin(room("texts-a", TEXTS_BYTES / 4));
        until_done(async {
            assert!(hold("texts-a", TEXTS_BYTES / 2));
            assert!(!hold("texts-a", TEXTS_BYTES / 2), "there is no room for a second one");
            assert!(hold("texts-a", TEXT_SMALL));
            assert!(hold("texts-b", TEXTS_BYTES / 16), "another party is sure of a part");
            assert!(futures::FutureExt::now_or_never(&mut waits).is_none());
        })
        .await;
        let room = waits.await.unwrap();
        assert!(!room.hold(TEXTS_BYTES / 4 + 1), "it has grown meanwhile");
        until_done(async { assert!(hold("texts-a", TEXTS_BYTES / 2)) }).await;
    }

    #[tokio::test]
    async fn a_secret_has_room_before_it_is_read_and_gives_back_what_it_does_not_need() {
        until_done(async {
            let before = TEXTS.held_by("secrets-a");
            room_for_secret("secrets-a").await.unwrap().keep(TEXT_SMALL);
            assert_eq!(TEXTS.held_by("secrets-a"), before);
            room_for_secret("secrets-a").await.unwrap().keep(TEXT_SMALL + 1);
            assert_eq!(TEXTS.held_by("secrets-a"), before + 2 * (TEXT_SMALL + 1));
        })
        .await;
    }

    #[tokio::test]
    async fn one_reads_at_a_time() {
        let first = reader("readers-a").await;
        let mut next = Box::pin(reader("readers-b"));
        assert!(futures::FutureExt::now_or_never(&mut next).is_none());
        drop(first);
        assert!(next.await.is_some());
    }
}

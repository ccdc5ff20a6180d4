//! How often each budget was met, and how much of it is in use: counters of the process, for `/metrics`.

use conjur_client::{
    budget::Meter,
    limits::{self as client, Tallies},
};

macro_rules! limits {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// A budget that can be met, under the name of its constant in small letters. A closed list, for it is a label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Limit { $($variant),+ }

        impl Limit {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it stands on the page of metrics and in `docs/limits.md`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

limits! {
    HeavyThreads = "heavy_threads",
    HeavyBytes = "heavy_bytes",
    TemplatesDeadline = "templates_deadline",
    DocumentDeadline = "document_deadline",
    RegexBytes = "regex_bytes",
    RegexObjectBytes = "regex_object_bytes",
    DocumentBytes = "document_bytes",
    AnswersBytes = "answers_bytes",
    ValuesBytes = "values_bytes",
    TextReaders = "text_readers",
    TextsBytes = "texts_bytes",
    VariablesTextsBytes = "variables_texts_bytes",
    SpecsKeptBytes = "specs_kept_bytes",
    SpecsReadBytes = "specs_read_bytes",
    AnswerBytes = "answer_bytes",
    Streams = "streams",
    ListRecords = "list_records",
    ListBytes = "list_bytes",
    ListsKeptBytes = "lists_kept_bytes",
    WordsBytes = "words_bytes",
    Lookups = "lookups",
    LookupsPerNamespace = "lookups_per_namespace",
    Clients = "clients",
    ClientsPerNamespace = "clients_per_namespace",
    CredentialBytes = "credential_bytes",
    ClientCertificateBytes = "client_certificate_bytes",
    CaBundleBytes = "ca_bundle_bytes",
    CaBundleBlocks = "ca_bundle_blocks",
    Sockets = "sockets",
    SyncNowPause = "sync_now_pause",
    EventsPerNamespace = "events_per_namespace",
    EventsPerProcess = "events_per_process",
    EventsQueue = "events_queue",
    LogFailures = "log_failures",
    LogLineBytes = "log_line_bytes",
    HealthConnections = "health_connections",
    MetricsConnections = "metrics_connections",
    MetricsObjects = "metrics_objects",
}

impl Limit {
    /// Whether it is a share that is taken and given back, so that [`InUse`] tells how much of it is in use.
    pub const fn is_metered(self) -> bool {
        matches!(
            self,
            Self::HeavyThreads
                | Self::HeavyBytes
                | Self::AnswersBytes
                | Self::TextReaders
                | Self::TextsBytes
                | Self::VariablesTextsBytes
                | Self::SpecsKeptBytes
                | Self::SpecsReadBytes
                | Self::Streams
                | Self::ListBytes
                | Self::ListsKeptBytes
                | Self::Clients
                | Self::Sockets
                | Self::HealthConnections
                | Self::MetricsConnections
        )
    }
}

impl Limit {
    /// What the client of Conjur counts itself, under the same name.
    fn of_client(self) -> Option<client::Limit> {
        client::Limit::ALL.iter().copied().find(|limit| limit.as_str() == self.as_str())
    }
}

impl Meter for Limit {
    fn hit(&self) {
        hit(*self);
    }

    fn used(&self, change: i64) {
        used(*self, change);
    }
}

static TALLIES: Tallies<{ Limit::ALL.len() }> = Tallies::new();

/// Something was refused, put off, dropped or cut because of a budget.
pub fn hit(limit: Limit) {
    TALLIES.hit(limit as usize);
}

/// How often a budget was met since the start.
pub fn hits(limit: Limit) -> u64 {
    TALLIES.hits(limit as usize).saturating_add(limit.of_client().map_or(0, client::hits))
}

/// How much of a budget is in use.
pub fn in_use(limit: Limit) -> i64 {
    TALLIES.in_use(limit as usize).saturating_add(limit.of_client().map_or(0, client::in_use))
}

/// More, or less, of a budget is in use, by who counts it anyhow.
fn used(limit: Limit, change: i64) {
    TALLIES.used(limit as usize, change);
}

/// A part of a budget, in use until this is dropped.
#[derive(Debug)]
pub struct InUse(Limit, i64);

impl InUse {
    /// Takes note of it; whether there is room is for the caller to know.
    pub fn of(limit: Limit, amount: usize) -> Self {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        used(limit, amount);
        Self(limit, amount)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        used(self.0, -self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_limit_has_a_counter_and_a_name_of_its_own() {
        let names: HashSet<_> = Limit::ALL.iter().map(|limit| limit.as_str()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
        for limit in Limit::ALL {
            let before = hits(*limit);
            hit(*limit);
            assert!(hits(*limit) > before, "{limit:?}");
        }
    }

    #[test]
    fn whatever_the_client_counts_is_told_of() {
        for limit in client::Limit::ALL {
            let of = Limit::ALL.iter().filter(|own| own.of_client() == Some(*limit)).collect::<Vec<_>>();
            assert!(of.len() == 1 && of[0].is_metered() == limit.is_metered(), "{limit:?}");
        }
    }

    #[test]
    fn what_is_in_use_is_given_back() {
        let before = in_use(Limit::RegexBytes);
        let held = InUse::of(Limit::RegexBytes, 3);
        assert_eq!(in_use(Limit::RegexBytes), before + 3);
        drop(held);
        assert_eq!(in_use(Limit::RegexBytes), before);
    }
}

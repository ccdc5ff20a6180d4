//! From what External Secrets Operator and the Secrets Provider for Kubernetes use to this operator's objects.
//!
//! Pure: it takes manifests and gives manifests, and for all that it can't say exactly a note. Nothing of a source object
//! is dropped in silence: each of its fields is translated, noted, or in a list of those that say nothing about the result.
//!
//! ```text
//! manifests ─► Inventory ─► stores, settings ─► connections ─┐
//!                       └─► ExternalSecrets, PushSecrets, annotated Secrets and Pods ─► ConjurSecrets, ConjurPushes,
//!                                                                                      and which Secret each takes over
//! ```

mod base64;
mod bounds;
mod connections;
mod external;
mod fields;
mod inventory;
mod metadata;
mod migration;
mod note;
mod output;
mod property;
mod provider;
mod push;
mod regular;
mod stores;
mod template;

use serde_json::Value;

pub use self::migration::{Connection, Former, Migration, Mode, Options, Takeover};
pub use self::note::Severity;
use self::{inventory::Inventory, output::Output};

/// Translates what is among the objects. Other kinds are passed over, unless they use the Secrets Provider.
pub fn migrate(objects: &[Value], options: &Options) -> Migration {
    let inventory = Inventory::of(objects);
    let mut output = Output::new(options);
    inventory::note_kinds(&inventory, &mut output);
    let mut connections = stores::translate(&inventory, &mut output);
    provider::settings(&inventory, &mut connections, &mut output);
    external::translate(&inventory, &mut connections, &mut output);
    push::translate(&inventory, &mut connections, &mut output);
    provider::translate(&inventory, &mut connections, &mut output);
    connections.finish(&mut output);
    output.finish()
}

#[cfg(test)]
#[path = "migrate/tests.rs"]
mod tests;

//! Policy documents, and what the operator remembers of them in Secrets that others may write.

use conjur_client::sensitive::Sensitive;
use conjur_client::{PolicyBranch, RoleId, VariableId};
use conjur_operator::seams::Inventory;
use conjur_operator::seams::access;
use conjur_operator::seams::document;
use conjur_operator::seams::role_keys;
use conjur_operator::seams::{Announcement, BranchVersion};
use conjur_operator::seams::{Part, PolicyText};

use super::{Read, word};

/// Policy documents, as they come from a source.
pub fn documents() -> Read {
    Box::new(|input| {
        let bytes = Sensitive::new(input.to_vec()).into();
        let text = match PolicyText::join(&[Part { what: "ConfigMap a, key b".into(), secret: false, bytes }])
        {
            Ok(text) => text,
            Err(failure) => return word(&failure.message),
        };
        match document::read(text.as_str(), "apps/billing", "myorg") {
            Ok(read) => format!(
                "{} roles, {} records, {}",
                read.roles.len().min(9),
                read.records.len().min(9),
                read.deletions.is_empty()
            ),
            Err(error) => {
                let _place = text.at(error.line, Some(error.column));
                word(&error.message)
            }
        }
    })
}

fn versions() -> Vec<BranchVersion> {
    let version = |version| BranchVersion {
        version,
        sha256: "aa".to_owned(),
        role: "myorg:host:ops".to_owned(),
        created_at: "2026-01-01T00:00:00.000Z".to_owned(),
        finished_at: None,
    };
    vec![version(1), version(2)]
}

/// `pending.json` of a `createdRoles` Secret.
pub fn pending() -> Read {
    Box::new(|input| {
        let Ok(mut read) = serde_json::from_slice::<Announcement>(input) else { return "not one".to_owned() };
        read.keep_to_its_branch("myorg");
        let owed = read.owed.len().min(3);
        let happened = read.any_happened(&versions());
        let both = read.clone().after(read);
        format!("{owed} {happened} {}", both.owed.len().min(3))
    })
}

/// `inventory.json`.
pub fn inventories() -> Read {
    Box::new(|input| {
        let Ok(mut read) = serde_json::from_slice::<Inventory>(input) else { return "not one".to_owned() };
        let loads = read.loads.clone();
        for load in loads.iter().take(8) {
            read.resolve(&load.server, &load.branch, &versions(), true);
            read.announce(load.clone(), &[]);
        }
        let first = loads.first().map(|load| load.server.clone()).unwrap_or_default();
        format!(
            "{} {} {}",
            read.loads.len().min(3),
            read.branches(&first).len().min(3),
            read.has_others(&first)
        )
    })
}

/// Ids of every kind, alone and against a pattern.
pub fn ids() -> Read {
    Box::new(|input| {
        let text = String::from_utf8_lossy(input);
        let mut said = String::new();
        said.push(if VariableId::new(&text).is_ok() { 'v' } else { '-' });
        said.push(if PolicyBranch::new(&text).is_ok() { 'b' } else { '-' });
        said.push(if RoleId::from_login("myorg", &text).is_ok_and(|role| !role.login().is_empty()) {
            'l'
        } else {
            '-'
        });
        said.push(if text.parse::<RoleId>().is_ok() { 'r' } else { '-' });
        said.push(if role_keys(&text).is_ok() { 'k' } else { '-' });
        let (pattern, id) = text.split_once('\n').unwrap_or((&text, "apps/billing/db/password"));
        said.push(if access::glob(pattern, id) { 'g' } else { '-' });
        said
    })
}

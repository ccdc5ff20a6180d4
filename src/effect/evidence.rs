//! What exists in Conjur: versions of a branch, some records, all records.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use futures::TryStreamExt;

use crate::{
    api::OWNER_ANNOTATION,
    conjur::{Error, Listing, Page, PolicyBranch, Resource, RoleId},
    controllers::{Context, connection::pool::ReadyConnection},
    plan::{
        Failure,
        effect::evidence::{BranchVersion, Origin},
        policy::removal::Hangs,
    },
};

/// So many looked up one by one take as long as a page of the list (1,000 records).
const AS_LONG_AS_A_PAGE: u64 = 20;

/// The versions of a branch that Conjur still lists.
///
/// # Errors
/// `NotFound` where the branch is missing or invisible.
pub async fn versions(through: &ReadyConnection, branch: &PolicyBranch) -> Result<Vec<BranchVersion>, Error> {
    let versions = through.client.policy_versions(branch).await?;
    let number = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
    Ok(versions
        .into_iter()
        .map(|v| BranchVersion {
            version: number(v.version),
            sha256: v.sha256,
            role: v.role,
            created_at: v.created_at,
            finished_at: v.finished_at,
        })
        .collect())
}

/// Those of the records (full ids) that exist, with what tells who made them.
pub async fn existing(
    ids: &BTreeSet<String>,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<BTreeMap<String, Origin>, Failure> {
    let mut by_kind: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for id in ids {
        if let Ok(parsed) = id.parse::<RoleId>() {
            by_kind.entry(parsed.kind).or_default().insert(id.clone());
        }
    }
    let mut found = BTreeMap::new();
    for (kind, ids) in by_kind {
        let asked = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let listing = Listing::of_kind(kind.as_str());
        let few = asked <= AS_LONG_AS_A_PAGE || {
            let count = through
                .client
                .count_resources(&listing)
                .await
                .map_err(|e| ctx.clients.failure(through, e))?;
            asked / AS_LONG_AS_A_PAGE <= count / u64::from(Page::FIRST.limit)
        };
        if few {
            found.extend(each(&ids, through, ctx).await?);
            continue;
        }
        for resource in list(&listing, through, ctx).await? {
            if ids.contains(&resource.id) {
                found.extend([seen(resource)]);
            }
        }
    }
    Ok(found)
}

/// The same, one by one.
pub async fn each(
    ids: &BTreeSet<String>,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<BTreeMap<String, Origin>, Failure> {
    let mut found = BTreeMap::new();
    for id in ids.iter().filter_map(|r| r.parse::<RoleId>().ok()) {
        let shown = through.client.show_resource(&id.kind, &id.id).await;
        found.extend(shown.map_err(|e| ctx.clients.failure(through, e))?.map(seen));
    }
    Ok(found)
}

/// All records that the identity sees.
#[derive(Default)]
pub struct All {
    /// What tells who made each.
    pub seen: BTreeMap<String, Origin>,
    /// What each hangs on.
    pub hangs: BTreeMap<String, Hangs>,
}

/// Lists all records that the identity sees.
pub async fn all(through: &ReadyConnection, ctx: &Context) -> Result<All, Failure> {
    let mut all = All::default();
    for resource in list(&Listing::default(), through, ctx).await? {
        let hangs = Hangs { owner: resource.owner.clone(), policy: resource.policy.clone() };
        all.hangs.insert(resource.id.clone(), hangs);
        all.seen.extend([seen(resource)]);
    }
    Ok(all)
}

/// All pages of a list, without permissions, and of the annotations only the owner's.
pub async fn list(
    listing: &Listing,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<Vec<Resource>, Failure> {
    let mut found = Vec::new();
    let mut pages = pin!(through.client.list_pages(listing, Page::FIRST.limit));
    while let Some(page) = pages.try_next().await.map_err(|e| ctx.clients.failure(through, e))? {
        found.extend(page.into_iter().map(|mut resource| {
            resource.annotations.retain(|annotation| annotation.name == OWNER_ANNOTATION);
            Resource { permissions: vec![], ..resource }
        }));
    }
    Ok(found)
}

fn seen(resource: Resource) -> (String, Origin) {
    (resource.id, Origin { created_at: resource.created_at, policy: resource.policy })
}

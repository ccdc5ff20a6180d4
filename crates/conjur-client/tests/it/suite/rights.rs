//! Who is who, who sees what, and who may do what.

use conjur_client::{Check, Error, Listing, Members, Page, RoleId};
use futures::TryStreamExt as _;

use super::secrets::NAMES;
use super::{Bed, failed};

pub async fn check(bed: &Bed) {
    everybody_learns_who_they_are(bed).await;
    roles_know_their_members(bed).await;
    privileges_are_checked(bed).await;
    lists_come_in_pages(bed).await;
}

async fn everybody_learns_who_they_are(bed: &Bed) {
    let who = bed.host("web").whoami().await.unwrap();
    assert_eq!((who.account.as_str(), who.username), (bed.target.account.as_str(), bed.login("web")));
}

async fn roles_know_their_members(bed: &Bed) {
    let readers = bed.id("readers");
    let members = bed.admin.role_members("group", &readers, &Members::default()).await.unwrap();
    let direct: Vec<RoleId> =
        members.iter().filter(|member| !member.ownership).map(|member| member.member.clone()).collect();
    assert_eq!(direct, [bed.role("host", "web")]);
    let role = bed.admin.show_role("group", &readers).await.unwrap().unwrap();
    assert_eq!((role.id, role.members), (bed.role("group", "readers"), members));
    let web = bed.id("web");
    let of_web = bed.admin.role_memberships("host", &web, &Members::default()).await.unwrap();
    assert!(of_web.iter().any(|one| one.role == bed.role("group", "readers")), "{of_web:?}");
    let all = bed.admin.all_role_memberships("host", &web).await.unwrap();
    assert!(all.contains(&bed.role("group", "readers")) && all.contains(&bed.role("host", "web")), "{all:?}");
    let hosts = Members { kind: Some("host".to_owned()), ..Members::default() };
    assert_eq!(bed.admin.role_members("group", &readers, &hosts).await.unwrap().len(), 1);
    assert_eq!(bed.admin.show_role("group", &bed.id("nobody")).await.unwrap(), None);
    let error = failed(bed.admin.role_members("group", &bed.id("nobody"), &Members::default()).await);
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    assert_eq!(bed.host("web").show_role("group", &bed.id("machines")).await.unwrap_or(None), None);
}

async fn privileges_are_checked(bed: &Bed) {
    let (web, id) = (bed.host("web"), bed.id("db/password"));
    let ask = |privilege| web.check_permission("variable", &id, privilege, None);
    assert_eq!(ask("execute").await.unwrap(), Check::Granted);
    assert_eq!(ask("update").await.unwrap(), Check::Denied);
    let invisible = bed.id("private");
    let check = web.check_permission("variable", &invisible, "execute", None).await.unwrap();
    assert_eq!(check, Check::NoResource);
    let of = |role| bed.admin.check_permission("variable", &id, "execute", Some(role));
    let (host, loader) = (bed.role("host", "web"), bed.role("host", "loader"));
    assert_eq!(of(&host).await.unwrap(), Check::Granted);
    assert_eq!(of(&loader).await.unwrap(), Check::Denied);
    let nobody = bed.role("host", "nobody");
    assert!(matches!(failed(of(&nobody).await), Error::Forbidden { .. }));
    let permitted = bed.admin.permitted_roles("variable", &id, "execute").await.unwrap();
    assert!(permitted.contains(&host) && !permitted.contains(&loader), "{permitted:?}");
}

async fn lists_come_in_pages(bed: &Bed) {
    let owner =
        RoleId { account: bed.target.account.clone(), kind: "policy".to_owned(), id: bed.name.clone() };
    let listing = Listing { kind: Some("variable".to_owned()), owner: Some(owner), ..Listing::default() };
    // The branch `owned` is loader's, who is the bed's.
    let all = NAMES.len() + 5;
    assert_eq!(bed.admin.count_resources(&listing).await.unwrap(), all as u64);
    let pages: Vec<_> = bed.admin.list_pages(&listing, 7).try_collect().await.unwrap();
    // Each page but the first begins with one that was there already.
    assert_eq!(pages[0].len(), 7);
    assert!(pages[1..].iter().all(|page| page.len() <= 6), "{pages:?}");
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), all, "each of them once");
    let mut ids: Vec<String> = pages.concat().into_iter().map(|resource| resource.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
    for id in ["db/password", "db/user", "private", "seen", "owned/a,b"] {
        assert!(ids.contains(&format!("{}:variable:{}", bed.target.account, bed.id(id))), "{id}: {ids:?}");
    }
    let full = u32::try_from(all).unwrap();
    let exact: Vec<_> = bed.admin.list_pages(&listing, full).try_collect().await.unwrap();
    assert_eq!(exact.iter().map(Vec::len).collect::<Vec<_>>(), [all, 0]);
    let web = bed.host("web");
    let mine = Listing::of_kind("variable");
    let seen = web.list(&mine, Page::FIRST).await.unwrap();
    assert_eq!(seen.len(), 3, "what web sees: {seen:?}");
    let as_web = Listing { acting_as: Some(bed.role("host", "web")), ..mine.clone() };
    assert_eq!(bed.admin.list(&as_web, Page::FIRST).await.unwrap(), seen);
    let bad = failed(bed.admin.list(&mine, Page { limit: 0, offset: 0 }).await);
    assert!(matches!(bad, Error::Invalid { .. }), "{bad:?}");
    let search = Listing { search: Some("no-such-word".to_owned()), ..mine };
    assert_eq!(bed.admin.list(&search, Page::FIRST).await.unwrap(), []);
}

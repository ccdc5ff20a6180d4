//! The catalogue: shared walks, and lists that change under them.

use std::sync::{Arc, Mutex};

use futures::future::join_all;
use serde_json::json;

use super::*;

/// The list of a server, sorted by id, which a test may change while it is read.
#[derive(Default)]
struct List {
    ids: Mutex<Vec<String>>,
    /// Bytes of the annotation that each variable has.
    padding: usize,
    /// The server's largest page.
    largest: usize,
    /// What to do after a page at this offset was given.
    after: Mutex<Vec<(usize, Change)>>,
    delay: Duration,
}

type Change = Box<dyn FnOnce(&mut Vec<String>) + Send>;

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("apps/v{at:05}")).collect()
}

fn asked(request: &Request, name: &str) -> usize {
    let found = request.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    found.unwrap().parse().unwrap()
}

impl List {
    fn of(count: usize) -> Self {
        Self { ids: Mutex::new(ids(count)), largest: 1000, ..Self::default() }
    }

    fn answer(&self, request: &Request) -> ResponseTemplate {
        let (limit, offset) = (asked(request, "limit"), asked(request, "offset"));
        if limit > self.largest {
            return ResponseTemplate::new(422)
                .set_body_json(json!({ "error": { "code": "unprocessable_entity",
                "message": format!("'Limit' parameter must not exceed {}", self.largest) } }));
        }
        let mut ids = self.ids.lock().unwrap();
        let shown: Vec<_> = ids
            .iter()
            .skip(offset)
            .take(limit)
            .map(|id| {
                json!({
                    "id": format!("demo:variable:{id}"), "owner": "demo:policy:apps", "permissions": [],
                    "created_at": "2026-11-22T01:37:11.559+00:00",
                    "annotations": [{ "name": "note", "value": "é\n".repeat(self.padding), "policy": "p" }],
                    "secrets": [{ "version": 2, "expires_at": null }, { "version": 3, "expires_at": null }],
                })
            })
            .collect();
        let mut after = self.after.lock().unwrap();
        if let Some(at) = after.iter().position(|(of, _)| *of == offset) {
            after.remove(at).1(&mut ids);
        }
        ResponseTemplate::new(200).set_body_json(shown).set_delay(self.delay)
    }

    fn then(self, offset: usize, change: impl FnOnce(&mut Vec<String>) + Send + 'static) -> Self {
        self.after.lock().unwrap().push((offset, Box::new(change)));
        self
    }

    async fn serve(self) -> (MockServer, Client, Arc<Self>) {
        let (server, list) = (server().await, Arc::new(self));
        let same = Arc::clone(&list);
        mount(&server, "GET", "^/resources/demo/variable$", move |request| same.answer(request)).await;
        let client = client(config(&server.uri()));
        (server, client, list)
    }
}

const NEW: Freshness = Freshness::NoOlderThan(Duration::ZERO);

async fn list(client: &Client, freshness: Freshness) -> Result<Arc<Catalogue>, Error> {
    client.list_variables(None, Priority::Refresh, freshness).await
}

fn names(catalogue: &Catalogue) -> Vec<&str> {
    catalogue.below("").iter().map(Listed::id).collect()
}

#[tokio::test]
async fn all_pages_are_read_and_each_variable_has_its_newest_version() {
    let (server, client, _) = List { padding: 2, ..List::of(2500) }.serve().await;
    let catalogue = list(&client, Freshness::Remembered).await.unwrap();
    assert_eq!(names(&catalogue), ids(2500));
    let one = catalogue.get("apps/v01999").unwrap();
    assert_eq!((one.mark().version, one.annotation("note")), (Some(3), Some("é\né\n")));
    assert_eq!(count(&server, "/resources/").await, 3);
}

#[tokio::test]
async fn a_variable_that_was_never_set_has_no_version_and_one_made_again_another_mark() {
    let server = server().await;
    let made = Arc::new(Mutex::new("2026-11-22T01:37:11.559+00:00"));
    let said = Arc::clone(&made);
    mount(&server, "GET", "^/resources/demo/variable$", move |_| {
        let made = *said.lock().unwrap();
        ResponseTemplate::new(200).set_body_json(json!([
            { "id": "demo:variable:a", "created_at": made, "annotations": [], "secrets": [] },
            { "id": "demo:variable:b", "created_at": made, "secrets": [{ "version": 1 }] },
        ]))
    })
    .await;
    let client = client(config(&server.uri()));
    let first = list(&client, NEW).await.unwrap();
    assert_eq!(first.get("a").unwrap().mark().version, None);
    assert_eq!(list(&client, NEW).await.unwrap().below(""), first.below(""), "nothing changed");
    *made.lock().unwrap() = "2026-11-22T01:37:11.560+00:00";
    assert_ne!(list(&client, NEW).await.unwrap().get("b").unwrap().mark(), first.get("b").unwrap().mark());
}

#[tokio::test]
async fn all_callers_share_a_walk_and_who_wants_a_newer_one_gets_it() {
    let (server, client, changing) = List { delay: Duration::from_millis(100), ..List::of(3) }.serve().await;
    let all = join_all((0..50).map(|_| list(&client, NEW))).await;
    assert!(all.iter().all(|one| one.as_ref().is_ok_and(|one| one.len() == 3)));
    let walks = count(&server, "/resources/").await;
    assert!(walks <= 2, "{walks} walks for callers of one moment");
    list(&client, Freshness::Remembered).await.unwrap();
    list(&client, Freshness::NoOlderThan(Duration::from_secs(3))).await.unwrap();
    assert_eq!(count(&server, "/resources/").await, walks, "it is remembered");

    // One walk runs, and the list changes after it was read: who comes now must see that.
    let running = tokio::spawn({
        let client = client.clone();
        async move { list(&client, NEW).await }
    });
    until("it runs", || async { count(&server, "/resources/").await > walks }).await;
    changing.ids.lock().unwrap().push("new".to_owned());
    let (new, newer) = tokio::join!(list(&client, NEW), list(&client, NEW));
    assert!(new.unwrap().get("new").is_some() && newer.unwrap().get("new").is_some());
    assert!(running.await.unwrap().unwrap().get("new").is_none());
    assert_eq!(count(&server, "/resources/").await, walks + 2, "the two that came later share one");
}

#[tokio::test]
async fn each_search_term_has_its_own_walk() {
    let (server, client, _) = List::of(3).serve().await;
    for term in [None, Some("db a+b"), Some("web"), Some("web")] {
        client.list_variables(term, Priority::Foreground, Freshness::Remembered).await.unwrap();
    }
    let requests = server.received_requests().await.unwrap();
    let searched: Vec<_> = requests.iter().filter_map(|r| r.url.query().map(str::to_owned)).collect();
    assert_eq!(
        searched,
        ["limit=1000&offset=0", "limit=1000&offset=0&search=db%20a%2Bb", "limit=1000&offset=0&search=web"]
    );
}

#[tokio::test]
async fn what_is_removed_or_made_during_the_walk_hides_nothing_else() {
    for removed in [1, 5, 40, 999] {
        let list_of = List::of(2500).then(0, move |ids| drop(ids.drain(..removed)));
        let (_server, client, _) = list_of.serve().await;
        let found = list(&client, NEW).await.unwrap();
        assert_eq!(
            names(&found),
            ids(2500),
            "all of them, for those removed were there when it began: {removed}"
        );
    }
    // The first page's edge itself goes, and as much is made before it as is removed.
    let (_server, client, _) = List::of(2500)
        .then(0, |ids| {
            ids.drain(990..1010);
            ids.splice(0..0, (0..20).map(|at| format!("a{at:02}")));
        })
        .serve()
        .await;
    let found = list(&client, NEW).await.unwrap();
    for id in ids(2500).iter().enumerate().filter(|(at, _)| !(990..1010).contains(at)).map(|(_, id)| id) {
        assert!(found.get(id).is_some(), "{id} was missed");
    }
    // What is made moves the others back: they come twice, and are in it once.
    let (_server, client, _) = List::of(2500).then(0, |ids| ids.insert(0, "a".to_owned())).serve().await;
    assert_eq!(names(&list(&client, NEW).await.unwrap()), ids(2500));
    // Nearly everything goes.
    let (_server, client, _) = List::of(2500).then(999, |ids| ids.truncate(10)).serve().await;
    assert!(list(&client, NEW).await.unwrap().get("apps/v00009").is_some());
}

#[tokio::test]
async fn a_page_that_is_too_large_or_refused_is_halved() {
    let (server, client, _) = List { padding: 3000, ..List::of(700) }.serve().await;
    assert_eq!(list(&client, NEW).await.unwrap().len(), 700);
    let asked: Vec<_> = server.received_requests().await.unwrap();
    assert!(asked.iter().any(|r| r.url.query().is_some_and(|q| q.starts_with("limit=250&"))));
    let (_server, client, _) = List { largest: 100, ..List::of(300) }.serve().await;
    assert_eq!(list(&client, NEW).await.unwrap().len(), 300);
}

#[tokio::test]
async fn a_catalogue_is_let_go_of_after_a_while_and_a_failed_connection_is_not_remembered() {
    let (server, _, _) = List::of(3).serve().await;
    let timing = Timing { catalogue: Duration::from_millis(50), ..Timing::default() };
    let short = Client::builder(config(&server.uri())).with_timing(Backoff::default(), timing).unwrap();
    let weak = Arc::downgrade(&list(&short, NEW).await.unwrap());
    until("it is gone", || async { weak.upgrade().is_none() }).await;

    let (server, client, _) = List::of(3).serve().await;
    list(&client, NEW).await.unwrap();
    server.reset().await;
    mount(&server, "GET", "^/resources", |_| ResponseTemplate::new(503)).await;
    assert!(error_of(list(&client, NEW).await).is_connection());
    let before = count(&server, "/resources/").await;
    assert!(error_of(list(&client, Freshness::Remembered).await).is_connection());
    assert!(count(&server, "/resources/").await > before, "it is tried again");
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_only_its_own_walk_with_it() {
    let (server, client, _) = List { delay: Duration::from_millis(200), ..List::of(3) }.serve().await;
    let spawn = || {
        let client = client.clone();
        tokio::spawn(async move { list(&client, Freshness::Remembered).await })
    };
    let first = spawn();
    until("it runs", || async { count(&server, "/resources/").await == 1 }).await;
    let second = spawn();
    tokio::task::yield_now().await;
    first.abort();
    assert_eq!(second.await.unwrap().unwrap().len(), 3);
    assert_eq!(count(&server, "/resources/").await, 1);
    // And one that no one waits for any more holds no connection.
    let last = tokio::spawn({
        let client = client.clone();
        async move { list(&client, NEW).await }
    });
    until("it runs", || async { count(&server, "/resources/").await == 2 }).await;
    last.abort();
    assert_eq!(list(&client, NEW).await.unwrap().len(), 3);
}

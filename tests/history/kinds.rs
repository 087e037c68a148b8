//! Each kind of query finds what it asks for, all of it, and nothing else.

use chrono::Duration;
use domain::ids::ServiceKey;
use domain::ledger::idempotency;
use domain::ledger::idempotency::KeyItem;
use serde_json::{Value, json};

use crate::made::{Made, Shape, now, of_service};
use crate::table::{HISTORY, STATE, World};

async fn world() -> (World, Made) {
    let world = World::new().await;
    let mut made = Made::new(7, 3, 12);
    made.fill(600, Duration::days(5));
    made.store(&world);
    (world, made)
}

async fn all(world: &World, query: Value) -> Vec<(String, String)> {
    let mut query = query;
    query["order"] = "oldest_first".into();
    world.pages(&query, 100, now()).await.0
}

#[tokio::test]
async fn service_account_image_and_organization() {
    let (world, made) = world().await;
    for service in &made.services {
        assert_eq!(all(&world, of_service(service)).await, made.expected(|change| change.service == *service));
    }
    let account = made.services[1].account_id();
    let found = all(&world, json!({"account_id": account.as_str()})).await;
    assert_eq!(found, made.expected(|change| change.service.account_id() == account));
    for image in ["registry.example:5000/app-3", "fluent", "another", "nobody-has-it"] {
        let found = all(&world, json!({"image": image})).await;
        let expected = made.expected(|change| change.repositories.iter().any(|repository| repository == image));
        assert_eq!(found, expected, "{image}");
    }
    let found = all(&world, json!({})).await;
    assert_eq!(found, made.expected(|_| true));
    assert!(!found.is_empty());
}

#[tokio::test]
async fn one_change_takes_eight_calls() {
    let (world, made) = world().await;
    for change in made.changes.iter().take(50) {
        let (page, cost) = world.page(&json!({"change_id": change.change_id}), now()).await;
        assert_eq!((page.changes.len(), page.changes[0].status.as_str(), page.next_token), (1, change.status, None));
        assert_eq!(page.changes[0].ecs_service_name, change.service.service());
        assert_eq!(cost.calls, 8);
        assert!(cost.items <= 3);
    }
    let (page, _) = world.page(&json!({"change_id": "019aab3e-7f60-7000-8000-000000000000"}), now()).await;
    assert_eq!((page.changes.len(), page.next_token), (0, None));
}

#[tokio::test]
async fn a_change_is_found_by_the_key_of_its_event() {
    let (world, made) = world().await;
    let (change, later) = (&made.changes[7], &made.changes[8]);
    let key = |alias: &str, key: &str, change: Value| {
        let id = KeyItem::id(&idempotency::caller(alias), key, &made.changes[7].service);
        json!({"id": id, "event_hash": "h", "answer": "not read", "change_id": change}).as_object().unwrap().clone()
    };
    // An event that failed before its change began has a key too, without a change.
    let seen = key("live", "seen", "".into());
    let known = ["api", "live", "$LATEST"].map(|alias| key(alias, alias, change.change_id.as_str().into()));
    world.put(STATE, &[&known[..], &[seen]].concat());
    let found = async |service: &ServiceKey, key: &str| {
        let (page, cost) = world.reader.of_key(service, key, now()).await.unwrap();
        assert_eq!(page.next_token, None);
        (page.changes.into_iter().map(|change| (change.change_id, change.status)).collect::<Vec<_>>(), cost)
    };
    for key in ["api", "live", "$LATEST"] {
        let (changes, cost) = found(&change.service, key).await;
        assert_eq!(changes, [(change.change_id.clone(), change.status.to_owned())]);
        assert_eq!(cost.calls, 4);
    }
    for key in ["seen", "another", ""] {
        assert!(found(&change.service, key).await.0.is_empty(), "{key}");
    }
    assert_ne!(later.service, change.service, "the test has to look for another service");
    assert!(found(&later.service, "api").await.0.is_empty());
    // Another caller may have used the same key: both changes are told.
    world.put(STATE, &[key("live", "api", change.change_id.as_str().into())]);
    assert_eq!(found(&change.service, "api").await.0.len(), 2);
}

#[tokio::test]
async fn windows_and_filters() {
    let (world, made) = world().await;
    let from = made.changes[50].change_id.clone();
    let bound = |index: usize| {
        let id = domain::ids::ChangeId::parse(&made.changes[index].change_id).unwrap();
        id.time().to_rfc3339()
    };
    // `from` is inclusive and `to` is not.
    let found = all(&world, json!({"from": bound(50), "to": bound(60)})).await;
    assert_eq!(
        found,
        made.expected(|change| change.change_id >= from && change.change_id < made.changes[60].change_id)
    );
    assert_eq!(found.len(), 10);
    let day = all(&world, json!({"from": "2026-11-20", "to": "2026-11-20"})).await;
    let starts = |day: &str| {
        let id = domain::ids::ChangeId::new(day.parse().unwrap(), [0; 10]).to_string();
        id[..13].to_owned()
    };
    let (first, next) = (starts("2026-11-20T00:00:00Z"), starts("2026-11-21T00:00:00Z"));
    assert_eq!(day, made.expected(|change| change.change_id >= first && change.change_id < next));
    assert!(!day.is_empty());

    let failed = all(&world, json!({"status": "FAILED"})).await;
    assert_eq!(failed, made.expected(|change| change.status == "FAILED"));
    let mut query = of_service(&made.services[0]);
    query["requested_by"] = "ann".into();
    query["status"] = "APPLIED".into();
    let expected = made.expected(|change| {
        change.service == made.services[0] && change.requested_by == "ann" && change.status == "APPLIED"
    });
    assert_eq!(all(&world, query).await, expected);
    assert!(!expected.is_empty());
    assert_eq!(all(&world, json!({"requested_by": "an"})).await, []);
    for (identity, by_a_pipeline) in [("claimed", true), ("verified", false)] {
        let expected = made.expected(|change| (change.requested_by == "release pipeline") == by_a_pipeline);
        assert!(expected.len() > 20, "both are among them");
        assert_eq!(all(&world, json!({"identity": identity})).await, expected);
    }
}

#[tokio::test]
async fn a_start_is_unresolved_once_its_lease_has_ended() {
    let world = World::new().await;
    let mut made = Made::new(1, 1, 1);
    made.change(0, now() - Duration::seconds(9), Shape::Started);
    made.store(&world);
    let query = of_service(&made.services[0]);
    for (later, status) in [(0, "STARTED"), (999, "STARTED"), (1000, "UNRESOLVED")] {
        let (page, _) = world.page(&query, now() + Duration::milliseconds(later)).await;
        assert_eq!(page.changes[0].status, status, "after {later} ms");
        assert_eq!((page.changes[0].applied_at.as_ref(), page.changes[0].ended_at.as_ref()), (None, None));
    }
}

#[tokio::test]
async fn an_empty_month_costs_few_calls_a_page_and_comes_to_an_end() {
    let world = World::new().await;
    let (found, pages) = world.pages(&json!({}), 20, now()).await;
    // 32 days of eight shards, 64 calls a page.
    assert_eq!((found.len(), pages), (0, 4));
    let mut made = Made::new(1, 1, 1);
    made.change(0, now() - Duration::days(30), Shape::Applied);
    made.store(&world);
    assert_eq!(world.pages(&json!({}), 20, now()).await.0, made.expected(|_| true));
}

#[tokio::test]
async fn a_page_of_large_changes_comes_back_short() {
    let world = World::new().await;
    let mut made = Made::new(1, 1, 1);
    for minute in 0..30 {
        made.change(0, now() - Duration::minutes(minute), Shape::Applied);
    }
    let large = serde_json::to_string(&"x".repeat(300 * 1024)).unwrap();
    for item in &mut made.items {
        item.insert("after".to_owned(), large.as_str().into());
    }
    made.store(&world);
    let (page, _) = world.page(&json!({"account_id": "222222222000", "limit": 100}), now()).await;
    assert!((10..20).contains(&page.changes.len()) && page.next_token.is_some());
    assert!(serde_json::to_string(&page).unwrap().len() < 6_000_000);
    let (found, _) = world.pages(&json!({"account_id": "222222222000"}), 100, now()).await;
    assert_eq!(found.len(), 30);
}

#[tokio::test]
async fn services_that_share_a_change_id_are_both_found() {
    let world = World::new().await;
    let mut made = Made::new(1, 1, 2);
    made.change(0, now(), Shape::Applied);
    let mut twins = made.items.clone();
    for item in &mut twins {
        item.insert("service".to_owned(), made.services[1].to_string().into());
        item.insert("service_name".to_owned(), made.services[1].service().into());
    }
    made.store(&world);
    world.put(HISTORY, &twins);
    let (page, _) = world.page(&json!({"limit": 1, "from": "2026-11-22"}), now()).await;
    assert_eq!((page.changes.len(), page.next_token), (2, None));
}

//! Pages of any size are cuts of one list, whatever is written between them.

use std::collections::BTreeSet;

use chrono::Duration;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::made::{Made, Shape, now, of_service};
use crate::table::{HISTORY, World, put};

/// Queries, and what they find.
fn queries(made: &Made) -> Vec<(Value, Vec<(String, String)>)> {
    let service = made.services[0].clone();
    let account = service.account_id().clone();
    vec![
        (of_service(&service), made.expected(|change| change.service == service)),
        (json!({"account_id": account.as_str()}), made.expected(|change| *change.service.account_id() == account)),
        (
            json!({"image": "fluent"}),
            made.expected(|change| change.repositories.iter().any(|repository| repository == "fluent")),
        ),
        (
            json!({"image": "another"}),
            made.expected(|change| change.repositories.iter().any(|repository| repository == "another")),
        ),
        (json!({}), made.expected(|_| true)),
        (json!({"status": "APPLIED", "from": "2026-11-19"}), {
            let start = domain::ids::ChangeId::new("2026-11-19T00:00:00Z".parse().unwrap(), [0; 10]);
            made.expected(|change| change.status == "APPLIED" && change.change_id.as_str() >= &start.as_str()[..13])
        }),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    seed: u64,
    services: usize,
    records: usize,
    days: i64,
    query: usize,
    newest_first: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    (any::<u64>(), 1_usize..25, 2_usize..100, 1_i64..9, 0_usize..6, any::<bool>()).prop_map(
        |(seed, services, records, days, query, newest_first)| Case {
            seed,
            services,
            records,
            days,
            query,
            newest_first,
        },
    )
}

async fn check(case: Case) {
    let world = World::new().await;
    let mut made = Made::new(case.seed, 2, case.services);
    made.fill(case.records, Duration::days(case.days));
    made.store(&world);
    let (mut query, mut expected) = queries(&made).remove(case.query);
    if case.newest_first {
        expected.reverse();
    } else {
        query["order"] = "oldest_first".into();
    }
    let known: BTreeSet<_> = made.changes.iter().map(|change| change.change_id.clone()).collect();
    write_on(&world, made);
    for limit in [1, 7, 100] {
        let (found, _) = world.pages(&query, limit, now()).await;
        let old: Vec<_> = found.iter().filter(|(id, _)| known.contains(id)).cloned().collect();
        assert_eq!(old, expected, "{query} in pages of {limit}");
        let is_next =
            |pair: &[(String, String)]| (pair[0].0 > pair[1].0) == case.newest_first && pair[0].0 != pair[1].0;
        assert!(found.windows(2).all(is_next), "{query} in pages of {limit}: twice, or out of order");
    }
}

/// Changes of the door, hours back, behind very many deployments of services that somebody made up.
async fn flooded() -> (World, Made) {
    let world = World::new().await;
    let mut made = Made::new(7, 2, 40);
    for number in 0..30 {
        made.change(
            number,
            now() - Duration::hours(20) + Duration::minutes(i64::try_from(number).unwrap()),
            Shape::Applied,
        );
    }
    for number in 0..600_i64 {
        let service = made.below(40);
        made.change(service, now() - Duration::hours(9) + Duration::seconds(number), Shape::External);
    }
    made.store(&world);
    (world, made)
}

#[tokio::test]
async fn what_did_not_come_through_the_door_does_not_fill_the_pages_of_the_organization() {
    let (world, made) = flooded().await;
    let ids = |changes: Vec<(String, String)>| changes.into_iter().rev().collect::<Vec<_>>();
    let (page, cost) = world.page(&json!({"limit": 20}), now()).await;
    assert_eq!(page.changes.len(), 20, "a page is filled, whatever is left out");
    assert!(page.changes.iter().all(|change| change.status == "APPLIED") && page.next_token.is_some());
    assert!(cost.calls <= 64, "{cost:?}");
    let (own, _) = world.pages(&json!({}), 20, now()).await;
    assert_eq!(ids(own), made.expected(|change| change.status == "APPLIED"));
    for query in [json!({"external": true}), json!({"status": "EXTERNAL"})] {
        let (page, _) = world.page(&query, now()).await;
        assert_eq!((page.changes.len(), page.changes[0].status.as_str()), (20, "EXTERNAL"), "{query}");
    }
    let account = made.services[0].account_id().clone();
    let all = world.pages(&json!({"account_id": account.as_str()}), 100, now()).await.0;
    assert_eq!(ids(all), made.expected(|change| *change.service.account_id() == account));
    let own = world.pages(&json!({"account_id": account.as_str(), "external": false}), 100, now()).await.0;
    let is_own = |change: &crate::made::Expected| change.status == "APPLIED" && *change.service.account_id() == account;
    assert_eq!(ids(own), made.expected(is_own));
}

/// From now on somebody changes a service while it is read: before each call one more record is there.
fn write_on(world: &World, mut made: Made) {
    let mut second = 0;
    world.meanwhile(move |database| {
        if made.items.is_empty() {
            second += 1;
            let count = made.services.len();
            let service = made.below(count);
            made.change(service, now() + Duration::seconds(second), Shape::Applied);
        }
        put(database, HISTORY, &[made.items.remove(0)]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_any_size_are_cuts_of_one_list(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(case));
    }
}

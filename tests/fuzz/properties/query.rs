//! Questions to the history function.

use chrono::{DateTime, Utc};
use domain::error::Code;
use domain::ledger::history_query::Order;
use domain::ledger::query;
use domain::ledger::query::{HistoryRequest, Index, PageCursor, Query, Scope};
use serde_json::Value;

const MAX_MESSAGE: usize = 30_000;
/// The whole organization is read by days, and a month has at most these; two more where both ends are within a day.
const MAX_DAYS: usize = 33;

pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_795_000_000_123).unwrap()
}

pub(crate) fn check(data: &[u8]) {
    let asked = query::parse(data, now());
    assert_eq!(query::parse(data, now()), asked, "not the same the second time");
    let value: Value = match &asked {
        Err(failure) => {
            assert!(failure.code == Code::JsonValidation && !failure.retryable, "{failure}");
            super::check_message(&failure.message, 2, MAX_MESSAGE);
            return;
        }
        Ok(_) => serde_json::from_slice(data).unwrap(),
    };
    for text in [value.to_string(), serde_json_canonicalizer::to_string(&value).unwrap()] {
        assert_eq!(query::parse(text.as_bytes(), now()), asked, "its JSON written anew asks for something else");
    }
    if let Ok(HistoryRequest::Changes(query)) = asked {
        bounded(&query);
        pages(&value, &query);
    }
}

/// Reading comes to an end, by sections that get on.
pub(crate) fn bounded(query: &Query) {
    assert!((1..=100).contains(&query.limit));
    let mut position = query.position.clone();
    let mut sections = 0;
    while let Some(section) = query.section(&position) {
        assert!(section.low < section.high && !section.partitions.is_empty(), "{section:?}");
        assert!(section.index == Index::Day || section.end.is_none(), "{section:?}");
        sections += 1;
        assert!(sections <= MAX_DAYS, "{sections} sections of {query:?}");
        let Some(end) = section.end else { break };
        if let (PageCursor::Time(from), PageCursor::Time(to)) = (&position, &end) {
            assert!(if query.order == Order::NewestFirst { to < from } else { to > from }, "{position:?} {end:?}");
        }
        position = end;
    }
    assert!(sections <= 1 || query.scope == Scope::Organization);
}

/// The next page is one of the same query.
fn pages(event: &Value, query: &Query) {
    let token = query.token(&query.position);
    assert!(token.len() <= 256, "{token}");
    let mut event = event.clone();
    event["next_token"] = token.into();
    match query::parse(event.to_string().as_bytes(), now()) {
        Ok(HistoryRequest::Changes(next)) => assert_eq!(*next, *query),
        other => panic!("{other:?}"),
    }
}

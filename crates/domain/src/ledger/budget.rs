//! Pure: which of the deployments that no change started are recorded individually at once.
//!
//! A ledger cannot be deleted, and whoever may deploy in an account can create services without limit. Therefore each such deployment is
//! recorded only for a service that the updater knows, in an account that may be changed. All others of an account share a budget for
//! each day. Deployments beyond it are counted, and one record contains the count when the day is over.

use chrono::{DateTime, Duration, NaiveDate, NaiveTime, Utc};

use super::head::Head;
use crate::ids::{AccountId, ServiceKey};

/// How many deployments per day and account are recorded for services that the updater does not know, or for an account that may not be
/// changed. This is enough for a person to see what happens there, and the ledgers of a whole year fit into a few pages of the history.
pub const EXTERNAL_A_DAY: u32 = 20;
/// How long after its day a count is recorded: by then the clock of each environment has left that day.
const TOLD_AFTER: Duration = Duration::minutes(15);
/// How long a day's budget is kept after its day: as long as what is known about its deployments.
const LIFETIME: Duration = Duration::days(30);

/// What an account has used of the budget of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalBudget {
    /// The account.
    pub account: AccountId,
    /// The day (UTC), by the recorder's clock: an event says of itself when it happened.
    pub day: NaiveDate,
    /// How many were recorded.
    pub recorded: u32,
    /// The deployments beyond the budget whose count has not been recorded yet.
    pub beyond: Option<Beyond>,
}

/// Deployments that were counted and not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// How many.
    pub count: u32,
    /// The last of them.
    pub last: Last,
}

/// The last deployment that was counted: the record with the count is a record of this deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Its service.
    pub service: ServiceKey,
    /// ARN of its service.
    pub service_arn: String,
    /// Its id.
    pub deployment_id: String,
    /// When it was reported, according to its event.
    pub at: DateTime<Utc>,
}

/// How a deployment that no change started goes into the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// It is recorded, whatever others have used.
    Known,
    /// It is recorded, and this is the budget afterwards.
    Within(ExternalBudget),
    /// It is counted, and this is the budget afterwards.
    Beyond(ExternalBudget),
}

impl ExternalBudget {
    /// Id of its item.
    #[must_use]
    pub fn id(account: &AccountId, day: NaiveDate) -> String {
        format!("external#{account}#{day}")
    }

    /// A budget of which nothing is used.
    #[must_use]
    pub fn unused(account: AccountId, day: NaiveDate) -> Self {
        Self { account, day, recorded: 0, beyond: None }
    }

    /// How a deployment goes into the ledger. `head` is that of its service; `is_allowed` says whether its account may
    /// be changed.
    #[must_use]
    pub fn room(&self, head: Option<&Head>, is_allowed: bool, deployment: Last) -> Room {
        // A head alone does not show that the service is known: an earlier record of this kind may have created it.
        let is_known = head.is_some_and(|head| head.begun.is_some());
        if is_known && is_allowed {
            return Room::Known;
        }
        if self.recorded < EXTERNAL_A_DAY {
            return Room::Within(Self { recorded: self.recorded + 1, ..self.clone() });
        }
        let count = self.beyond.as_ref().map_or(0, |beyond| beyond.count).saturating_add(1);
        Room::Beyond(Self { beyond: Some(Beyond { count, last: deployment }), ..self.clone() })
    }

    /// The same budget, once its count has been recorded.
    #[must_use]
    pub fn told(&self) -> Self {
        Self { beyond: None, ..self.clone() }
    }

    /// When the count is to be recorded; `None` if there is no count.
    #[must_use]
    pub fn tell_at(&self) -> Option<DateTime<Utc>> {
        self.beyond.as_ref().map(|_| self.end() + TOLD_AFTER)
    }

    /// When it no longer counts, in seconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        (self.end() + LIFETIME).timestamp()
    }

    fn end(&self) -> DateTime<Utc> {
        self.day.and_time(NaiveTime::MIN).and_utc() + Duration::days(1)
    }
}

impl Beyond {
    /// How many there are besides the last one.
    #[must_use]
    pub fn more(&self) -> u32 {
        self.count.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChangeId;
    use crate::ledger::key::RecordKey;
    use crate::ledger::key::RecordPlace;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn head(is_begun: bool) -> Head {
        let change_id = ChangeId::new(at(0), [1; 10]);
        Head {
            seq: 1,
            hash: "h".to_owned(),
            record: RecordKey::new(change_id.clone(), RecordPlace::RESULT),
            highest: change_id.clone(),
            begun: is_begun.then_some(change_id),
            begun_by: None,
            running: None,
            failed: false,
            lease: None,
        }
    }

    fn deployment(number: u32) -> Last {
        Last {
            service: ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap(),
            service_arn: "arn:s".to_owned(),
            deployment_id: format!("ecs-svc/{number}"),
            at: at(number.into()),
        }
    }

    fn used(recorded: u32) -> ExternalBudget {
        let account = AccountId::parse("222222222222").unwrap();
        ExternalBudget { recorded, ..ExternalBudget::unused(account, at(0).date_naive()) }
    }

    #[test]
    fn what_the_door_knows_in_an_account_that_may_be_changed_is_always_recorded() {
        let full = used(EXTERNAL_A_DAY);
        assert_eq!(full.room(Some(&head(true)), true, deployment(1)), Room::Known);
        for (head, is_allowed) in [(Some(head(true)), false), (Some(head(false)), true), (None, true), (None, false)] {
            let room = full.room(head.as_ref(), is_allowed, deployment(1));
            assert!(matches!(room, Room::Beyond(_)), "{head:?}, {is_allowed}: {room:?}");
            let room = used(0).room(head.as_ref(), is_allowed, deployment(1));
            assert_eq!(room, Room::Within(used(1)), "{head:?}, {is_allowed}");
        }
    }

    #[test]
    fn a_budget_records_so_many_and_counts_the_rest() {
        let mut budget = used(0);
        for number in 1..=EXTERNAL_A_DAY {
            let Room::Within(then) = budget.room(None, true, deployment(number)) else { panic!("{number}") };
            assert_eq!((then.recorded, then.tell_at()), (number, None));
            budget = then;
        }
        for number in 1..=3 {
            let Room::Beyond(then) = budget.room(None, true, deployment(number)) else { panic!("{number}") };
            let beyond = then.beyond.clone().unwrap();
            assert_eq!((beyond.count, beyond.more(), beyond.last), (number, number - 1, deployment(number)));
            budget = then;
        }
        // The count is not recorded before the last environment's clock says that the day is over.
        let midnight = at(0).date_naive().succ_opt().unwrap().and_time(NaiveTime::MIN).and_utc();
        assert_eq!(budget.tell_at(), Some(midnight + TOLD_AFTER));
        let told = budget.told();
        assert_eq!((told.recorded, told.tell_at()), (EXTERNAL_A_DAY, None));
    }

    #[test]
    fn each_account_and_day_has_its_own() {
        let (one, other) = (AccountId::parse("222222222222").unwrap(), AccountId::parse("333333333333").unwrap());
        let day = at(0).date_naive();
        let ids = [
            ExternalBudget::id(&one, day),
            ExternalBudget::id(&other, day),
            ExternalBudget::id(&one, day.succ_opt().unwrap()),
        ];
        assert_eq!(ids[0], "external#222222222222#2026-11-18");
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
    }
}

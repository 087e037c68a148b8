//! Makes a plan small: deviations, acts and outages are removed as long as the same invariant is still broken.

use crate::plan::Plan;
use crate::run::run;
use crate::trace::Keep;

/// The most runs that are spent on one plan.
const RUNS: u32 = 400;

/// The smallest plan that was found which still breaks an invariant. `plan` has no rates: all its deviations are
/// written down.
#[must_use]
pub fn shrink(plan: &Plan, invariant: &str) -> Plan {
    let mut search = Search { plan: plan.clone(), invariant, left: RUNS };
    loop {
        let before = search.plan.size();
        search.thin(|plan| plan.acts.len(), |plan, from, until| drop(plan.acts.drain(from..until)));
        search.thin(|plan| plan.outages.len(), |plan, from, until| drop(plan.outages.drain(from..until)));
        search.thin(
            |plan| plan.deviations.len(),
            |plan, from, until| {
                let names: Vec<String> = plan.deviations.keys().skip(from).take(until - from).cloned().collect();
                plan.deviations.retain(|name, _| !names.contains(name));
            },
        );
        search.drop_last_services();
        if search.plan.size() == before || search.left == 0 {
            return search.plan;
        }
    }
}

struct Search<'a> {
    plan: Plan,
    invariant: &'a str,
    left: u32,
}

impl Search<'_> {
    /// Adopts a plan if it breaks the invariant, too.
    fn tries(&mut self, plan: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let is_broken = run(&plan, Keep::Nothing).broken().contains(&self.invariant);
        if is_broken {
            self.plan = plan;
        }
        is_broken
    }

    /// Removes parts of a list: half of it, quarters, and so on down to single elements.
    fn thin(&mut self, length: impl Fn(&Plan) -> usize, remove: impl Fn(&mut Plan, usize, usize)) {
        let mut part = length(&self.plan).div_ceil(2);
        while part > 0 {
            let mut from = 0;
            while from < length(&self.plan) {
                let mut smaller = self.plan.clone();
                remove(&mut smaller, from, (from + part).min(length(&self.plan)));
                if !self.tries(smaller) {
                    from += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }

    /// Services are positions in a list: only those after the last one that is used can be removed.
    fn drop_last_services(&mut self) {
        while self.plan.services.len() > 1 {
            let mut smaller = self.plan.clone();
            smaller.services.pop();
            if !self.tries(smaller) {
                return;
            }
        }
    }
}

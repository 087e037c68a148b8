//! The world of one run: its time, its AWS, its plan, and what is known of what happened.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_stub::ecs::Cloud;
use aws_stub::sts::Sessions;
use aws_stub::{SECRET_MARKER, Site};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::counts::Counts;
use crate::environment;
use crate::eventbridge;
use crate::fault::Fault;
use crate::lambda::Pool;
use crate::plan::{Deviation, Of, Plan};
use crate::random::Stream;
use crate::tables::Tables;
use crate::trace::{Keep, Trace};
use crate::truth::{Deployment, End, Intent, Truth};

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// What an invocation is for.
#[derive(Debug, Clone, Default)]
pub struct Purpose {
    /// The idempotency key, or the request id.
    pub key: String,
    /// The services that it concerns.
    pub sites: Vec<Site>,
    /// The faults that its calls to DynamoDB met. If there are any, the product perhaps could not note what it saw.
    pub hampered_by: Vec<Fault>,
    /// When it last read each service.
    pub looked: BTreeMap<Site, DateTime<Utc>>,
}

impl Purpose {
    /// Whether one of its calls to DynamoDB met a fault.
    #[must_use]
    pub fn is_hampered(&self) -> bool {
        !self.hampered_by.is_empty()
    }

    /// Its intent for a service.
    #[must_use]
    pub fn intent(&self, site: &Site) -> Intent {
        Intent { key: self.key.clone(), site: site.clone() }
    }
}

/// The world of one run.
pub struct World {
    /// The decisions.
    pub plan: Plan,
    /// The region of the functions and of all services. Each seed has its own, since the SDK keeps what is left of its retries per process
    /// and region.
    pub region: String,
    base: DateTime<Utc>,
    began: Instant,
    /// DynamoDB.
    pub tables: Tables,
    /// ECS.
    pub cloud: Cloud,
    /// STS.
    pub sessions: Sessions,
    /// Settings of the product's AWS clients.
    pub shared: SdkConfig,
    /// Execution environments.
    pub pool: Pool,
    /// What happened, for people.
    pub trace: RefCell<Trace>,
    /// What happened, for judging.
    pub truth: RefCell<Truth>,
    /// The violations of invariants.
    pub violations: RefCell<Vec<String>>,
    /// How much happened.
    pub counts: RefCell<Counts>,
    /// What went wrong because of the plan or the rates, by name.
    pub met: RefCell<BTreeMap<String, Deviation>>,
    /// Invocations, by name.
    pub purposes: RefCell<BTreeMap<String, Purpose>>,
    /// The last deployment of each service that completed, and its task definition: ECS rolls back to it.
    pub last_good: RefCell<BTreeMap<Site, (String, String)>>,
    /// The change that each act began, as its caller was told.
    pub changes: RefCell<BTreeMap<String, String>>,
    /// The event that was sent with each key.
    pub events: RefCell<BTreeMap<String, Value>>,
    /// Request id and event of each invocation of the updater.
    pub sent: RefCell<BTreeMap<String, (String, Value)>>,
    /// Log lines, metrics and answers: they must not contain anything secret.
    pub said: RefCell<String>,
    /// When DynamoDB last told an invocation to try again, by the names of the invocation and of the service.
    pub refused: RefCell<BTreeMap<(String, String), Instant>>,
    /// Whether nothing goes wrong any more.
    pub is_quiet: Cell<bool>,
    ids: RefCell<Stream>,
    numbers: RefCell<BTreeMap<String, u64>>,
}

/// The world of the run on this thread.
///
/// # Panics
///
/// Outside of a run.
#[must_use]
#[allow(clippy::expect_used)]
pub fn world() -> Rc<World> {
    WORLD.with(|world| world.borrow().clone()).expect("a run")
}

/// The true time.
#[must_use]
pub fn true_time() -> DateTime<Utc> {
    WORLD.with(|world| world.borrow().as_ref().map(|world| world.now())).unwrap_or_default()
}

/// The time by the clock of the code that runs now: a plain `fn()`, as the product requires it.
#[must_use]
pub fn clock() -> DateTime<Utc> {
    true_time() + environment::skew()
}

/// Random bytes, in the form that the product requires.
#[must_use]
pub fn random() -> [u8; 10] {
    let world = world();
    let mut ids = world.ids.borrow_mut();
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&ids.number().to_le_bytes());
    bytes[8..].copy_from_slice(&ids.number().to_le_bytes()[..2]);
    bytes
}

/// Receives metrics.
pub fn metrics(line: &Value) {
    world().say(&line.to_string());
}

impl World {
    /// Creates the world of a plan, which is this thread's world from now on.
    pub fn enter(plan: Plan, shared: impl Fn(&str) -> SdkConfig, keep: Keep) -> Rc<Self> {
        let seed = plan.seed;
        let mut time = Stream::new(seed, "time");
        let day = i64::try_from(time.below(86_400_000)).unwrap_or_default();
        let base = DateTime::from_timestamp_millis(1_795_000_000_000 + day).unwrap_or_default();
        let base = base + chrono::Duration::nanoseconds(plan.nanoseconds.into());
        let clock: aws_stub::Clock = Arc::new(true_time);
        let region = format!("eu-west-{}", 10 + seed % 1_000_000);
        let cloud = Cloud::new(clock.clone());
        cloud.live();
        cloud.salt(Stream::new(seed, "numbers").number());
        let world = Rc::new(Self {
            shared: shared(&region),
            region,
            base,
            began: Instant::now(),
            tables: Tables::new(),
            cloud,
            sessions: Sessions::new(clock),
            pool: Pool::default(),
            trace: RefCell::new(Trace::new(keep)),
            truth: RefCell::default(),
            violations: RefCell::default(),
            counts: RefCell::default(),
            met: RefCell::default(),
            purposes: RefCell::default(),
            last_good: RefCell::default(),
            changes: RefCell::default(),
            events: RefCell::default(),
            sent: RefCell::default(),
            said: RefCell::default(),
            refused: RefCell::default(),
            is_quiet: Cell::new(false),
            ids: RefCell::new(Stream::new(seed, "ids")),
            numbers: RefCell::default(),
            plan,
        });
        WORLD.with(|current| *current.borrow_mut() = Some(Rc::clone(&world)));
        for n in 0..world.plan.services.len() {
            world.make_service(&world.site(n), n);
        }
        world
    }

    /// From now on this thread is in no run.
    pub fn leave() {
        WORLD.with(|current| *current.borrow_mut() = None);
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.base + chrono::Duration::from_std(self.elapsed()).unwrap_or_default()
    }

    /// A while before the run began: skewed clocks write times before the beginning.
    #[must_use]
    pub fn start(&self) -> DateTime<Utc> {
        self.base - chrono::TimeDelta::minutes(10)
    }

    /// How long the run has lasted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Instant::now() - self.began
    }

    /// A service of the plan.
    #[must_use]
    pub fn site(&self, n: usize) -> Site {
        let service = &self.plan.services[n % self.plan.services.len()];
        Site::new(&service.account, &self.region, "prod", &service.name)
    }

    /// All services of the plan.
    #[must_use]
    pub fn sites(&self) -> Vec<Site> {
        (0..self.plan.services.len()).map(|n| self.site(n)).collect()
    }

    /// The services that the ledger knows. There is nothing to judge about others.
    #[must_use]
    pub fn touched_sites(&self) -> Vec<Site> {
        self.sites().into_iter().filter(|site| self.tables.has_head(&site.key())).collect()
    }

    /// Whether the service's breaker rolls back.
    #[must_use]
    pub fn rolls_back(&self, site: &Site) -> bool {
        self.plan.services.iter().any(|service| service.name == site.service && service.rolls_back)
    }

    /// A number that counts up for each name.
    pub fn next(&self, name: &str) -> u64 {
        let mut numbers = self.numbers.borrow_mut();
        let number = numbers.entry(name.to_owned()).or_default();
        *number += 1;
        *number
    }

    /// The deviation of the thing with this name, if any.
    pub(crate) fn deviation(&self, of: Of<'_>, name: &str) -> Option<Deviation> {
        if self.is_quiet.get() {
            return None;
        }
        let planned = self.plan.deviations.get(name).cloned();
        let drawn = || self.plan.rates.as_ref()?.draw(self.plan.seed, of, name);
        let deviation = planned.or_else(drawn)?;
        self.met.borrow_mut().insert(name.to_owned(), deviation.clone());
        Some(deviation)
    }

    /// What an outage does to a call.
    #[must_use]
    pub fn outage(&self, service: &str, action: &str) -> Option<Fault> {
        let at = u64::try_from(self.elapsed().as_millis()).unwrap_or_default();
        let mut outages = self.plan.outages.iter().filter(|_| !self.is_quiet.get());
        let out = outages.find(|outage| {
            (outage.of == action || outage.of == service) && (outage.from..outage.until).contains(&at)
        })?;
        match out.fault {
            fault if fault.impossible(action).is_none() => Some(fault),
            Fault::Throttled => Some(Fault::CancelledThrottling),
            Fault::CancelledThrottling => Some(Fault::Throttled),
            _ => None,
        }
    }

    /// Writes a line of the trace.
    pub fn note(&self, who: &str, what: &dyn std::fmt::Display) {
        let mut trace = self.trace.borrow_mut();
        if trace.is_kept() {
            trace.line(&format!("{:>12.3} {who:<22} {what}", self.elapsed().as_secs_f64()));
        }
    }

    /// Notes that an invariant is violated.
    pub fn violated(&self, invariant: &str, what: &dyn std::fmt::Display) {
        let text = format!("{invariant}: {what} (at {:.3})", self.elapsed().as_secs_f64());
        self.note("VIOLATION", &text);
        self.violations.borrow_mut().push(text);
    }

    /// Notes what was logged, counted or answered.
    pub fn say(&self, text: &str) {
        let mut said = self.said.borrow_mut();
        said.push_str(text);
        said.push('\n');
    }

    /// Creates a service with its first task definition. Returns the id of its deployment.
    fn make_service(&self, site: &Site, n: usize) -> String {
        let document = json!({
            "family": site.service,
            "containerDefinitions": [{
                "name": "web", "image": image(site, 0), "cpu": 0, "memory": 64, "essential": true,
                "portMappings": [], "mountPoints": [], "volumesFrom": [], "systemControls": [],
                "environment": [{"name": "PASSWORD", "value": format!("{SECRET_MARKER}-{n}")}],
            }],
            "networkMode": "awsvpc", "volumes": [], "placementConstraints": [],
            "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
        });
        let definition = self.cloud.register(site, &document.to_string(), json!([]));
        let (breaker, created) = (self.plan.services[n].rolls_back, aws_stub::seconds(self.now()));
        self.cloud.create_service(site, &definition, |service| {
            service["deploymentConfiguration"]["deploymentCircuitBreaker"] =
                json!({"enable": true, "rollback": breaker});
            service["createdAt"] = json!(created);
        });
        let id = self.cloud.deployment(site);
        self.last_good.borrow_mut().insert(site.clone(), (id.clone(), definition));
        id
    }

    /// Creates a service again that was deleted. Its first deployment is somebody else's, and has events like any
    /// other.
    pub fn make_anew(self: &Rc<Self>, site: &Site) {
        let n = self.plan.services.iter().position(|service| service.name == site.service).unwrap_or_default();
        let id = self.make_service(site, n);
        self.cloud.edit(site, |service| {
            service["deployments"][0]["rolloutState"] = "IN_PROGRESS".into();
        });
        self.cloud.begin(site, &id, "people");
        eventbridge::pump(self, None, false);
    }

    /// Notes a deployment that began, and that it took the place of another one.
    pub fn began(&self, site: &Site, id: &str, by: Option<Intent>, is_late: bool) {
        let mut truth = self.truth.borrow_mut();
        for other in truth.deployments.values_mut().filter(|deployment| deployment.site == *site) {
            match other.end {
                End::Open => other.is(End::Superseded, self.now()),
                End::RollingBack => other.is(End::SupersededRollingBack, self.now()),
                _ => {}
            }
        }
        let deployment = Deployment {
            site: site.clone(),
            by,
            is_late,
            began: self.now(),
            end: End::Open,
            ended: None,
            is_heard: false,
        };
        truth.deployments.insert(id.to_owned(), deployment);
    }
}

/// The image of a service with this tag.
#[must_use]
pub fn image(site: &Site, tag: u32) -> String {
    format!("registry.example/shop/{}:{tag}", site.service)
}

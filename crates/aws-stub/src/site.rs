//! Where services are.

use serde_json::{Value, json};

/// The account of the functions.
pub const HUB: &str = "111111111111";
/// The account of the sample service.
pub const TARGET: &str = "222222222222";
/// The region of both.
pub const REGION: &str = "eu-west-1";

/// Where one service is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Account id.
    pub account: String,
    /// Region.
    pub region: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the service.
    pub service: String,
}

impl Site {
    /// A site with these names.
    #[must_use]
    pub fn new(account: &str, region: &str, cluster: &str, service: &str) -> Self {
        Self { account: account.into(), region: region.into(), cluster: cluster.into(), service: service.into() }
    }

    /// The service in the events of the first version, in the target account.
    #[must_use]
    pub fn target() -> Self {
        Self::new(TARGET, REGION, "ECSCluster", "ecs-dummy-service")
    }

    /// The same service in the function's own account.
    #[must_use]
    pub fn hub() -> Self {
        Self::new(HUB, REGION, "ECSCluster", "ecs-dummy-service")
    }

    /// The service key that the product uses.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}/{}", self.account, self.region, self.cluster, self.service)
    }

    /// ARN of the service.
    #[must_use]
    pub fn service_arn(&self) -> String {
        self.arn("service", None)
    }

    /// ARN of the service, or of something that belongs to it.
    pub fn arn(&self, kind: &str, last: Option<&str>) -> String {
        let Self { account, region, cluster, service } = self;
        let last = last.map(|last| format!("/{last}")).unwrap_or_default();
        format!("arn:aws:ecs:{region}:{account}:{kind}/{cluster}/{service}{last}")
    }

    /// An event for this service with `changes`.
    #[must_use]
    pub fn event(&self, changes: Value) -> Value {
        let mut event = json!({
            "account_id": self.account, "region": self.region,
            "ecs_cluster_name": self.cluster, "ecs_service_name": self.service,
        });
        let Value::Object(changes) = changes else { panic!("changes are an object") };
        event.as_object_mut().expect("an object").extend(changes);
        event
    }
}

//! Measures requests: when each request was sent, when its answer was received, and which time the answer names.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use chrono::{DateTime, Utc};
use domain::call_error::CallError;
use domain::ledger::clock::RoundTrip;

pub(super) const BATCH_GET_ITEM: &str = "dynamodb:BatchGetItem";

/// Measures each attempt at a request: when it was sent, when its answer was received, and which time the answer names.
#[derive(Debug, Clone, Default)]
pub(super) struct Stopwatch(Arc<Mutex<Measurement>>);

#[derive(Debug, Default)]
struct Measurement {
    sent: Option<DateTime<Utc>>,
    trip: Option<RoundTrip>,
}

impl Stopwatch {
    fn with(&self, f: impl FnOnce(&mut Measurement)) {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The round trip of the last attempt.
    pub(super) fn trip(&self) -> Result<RoundTrip, CallError> {
        let mut trip = None;
        self.with(|measurement| trip = measurement.trip);
        trip.ok_or_else(|| {
            CallError::unreadable(BATCH_GET_ITEM, "it has no Date to compare this environment's clock with")
        })
    }
}

fn now(components: &RuntimeComponents) -> DateTime<Utc> {
    components.time_source().unwrap_or_default().now().into()
}

impl Intercept for Stopwatch {
    fn name(&self) -> &'static str {
        "Stopwatch"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.with(|measurement| *measurement = Measurement { sent: Some(now(components)), trip: None });
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        let received = now(components);
        self.with(|measurement| {
            let trip = |sent| Some(RoundTrip { sent, received, date: date?.with_timezone(&Utc) });
            measurement.trip = measurement.sent.and_then(trip);
        });
        Ok(())
    }
}

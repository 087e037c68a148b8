//! The entry point of the trigger function: receives messages of its queue, each of which contains an event of Amazon ECR.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use chrono::Utc;
use domain::ecr_push::{ARRIVALS, Delivery, Mapping, Message, Push, UpdaterVerdict, groups};
use domain::event::parse::Defaults;
use domain::event::update_event::BatchEvent;
use domain::ids::{FunctionArn, Identity, Region};
use domain::image::ImageReference;
use domain::registry::settings::Settings;
use domain::setting_source::{DocumentLocation, SettingSource};
use futures_util::future::join_all;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::aws::documents::Setting;
use crate::aws::images::Registries;
use crate::aws::push_queue::PushQueue;
use crate::aws::updater_client::UpdaterClient;
use crate::runtime::{self, EventText};
use crate::{aws, telemetry};

/// The time that is reserved for this function's own answer: without an answer, all of its messages are delivered again.
const TO_ANSWER: Duration = Duration::from_secs(5);
/// If less time is left, nothing is sent to the updater: the message is delivered again, and has more time then.
const TO_SEND: Duration = Duration::from_secs(10);

/// How long to wait before passing on a push is retried. While one waits, all pushes that arrive wait, too; without the retry they would
/// also wait until the queue delivers the message again.
const PASS_ON_AFTER: Duration = Duration::from_secs(5);

/// Messages of SQS.
#[derive(Deserialize)]
struct Messages {
    #[serde(rename = "Records")]
    records: Vec<SqsMessage>,
}

#[derive(Deserialize)]
struct SqsMessage {
    #[serde(rename = "messageId")]
    id: String,
    body: String,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
struct Attributes {
    /// A number in the form of text.
    #[serde(rename = "ApproximateReceiveCount")]
    received: Option<String>,
    #[serde(rename = "MessageGroupId")]
    group: Option<String>,
}

impl From<SqsMessage> for Message {
    fn from(message: SqsMessage) -> Self {
        let received = message.attributes.received.and_then(|count| count.parse().ok()).unwrap_or(1);
        Self { id: message.id, body: message.body, received, group: message.attributes.group }
    }
}

/// The messages that SQS has to deliver again: the answer with `ReportBatchItemFailures`.
#[derive(Debug, Default, Serialize)]
pub struct Again {
    #[serde(rename = "batchItemFailures")]
    messages: Vec<AgainMessage>,
}

#[derive(Debug, Serialize)]
struct AgainMessage {
    #[serde(rename = "itemIdentifier")]
    id: String,
}

/// Reads the settings, and answers invocations until Lambda ends the process.
///
/// # Errors
///
/// Returns a sentence if a setting is missing or wrong, or the runtime API cannot be reached.
pub async fn run() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    telemetry::start(variable("AWS_LAMBDA_LOG_LEVEL").as_deref());
    let required = |name: &str| variable(name).ok_or_else(|| format!("environment variable {name} is not set"));
    let updater = required("UPDATER_FUNCTION")?;
    let shared = aws::config(variable);
    let region = Region::parse(&aws::own_region(&shared)?)
        .map_err(|error| format!("environment variable AWS_REGION: {error}"))?;
    // What a mapping omits is taken from the updater, if its ARN tells which account it belongs to.
    let account_id = FunctionArn::parse(&updater).map(|function| function.account_id);
    let defaults = Defaults { account_id, region, identity: Identity::Claimed };
    let names = variable("TRIGGER_REPOSITORIES").unwrap_or_default();
    let names: BTreeSet<String> =
        names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    let parse = move |text: &str| Mapping::parse(text, &defaults)?.heard(&names);
    let text = required("TRIGGER_MAPPING")?;
    let given = match DocumentLocation::parse(text.trim()) {
        Some(place) => place.map(SettingSource::There),
        None => parse(&text).map(SettingSource::Here),
    };
    let given = given.map_err(|error| format!("environment variable TRIGGER_MAPPING: {error}"))?;
    let mapping = Setting::new(given, &shared, parse);
    // Read now, so that the first push does not wait for it. A failure is logged where it occurs, and the push is delivered again.
    let _ = mapping.at(Utc::now()).await;
    let mut trigger = Trigger::new(&shared, updater, mapping);
    if let Some(queue) = variable("TRIGGER_QUEUE") {
        trigger = trigger.with_queue(&shared, queue);
    }
    let trigger = &trigger;
    runtime::serve(service_fn(async |event: LambdaEvent<EventText>| {
        let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        trigger.answer(event.payload.bytes(), Instant::now() + left).await
    }))
    .await
}

/// Turns messages of the queue into events for the updater.
pub struct Trigger {
    registries: Registries,
    updater: UpdaterClient,
    mapping: Setting<Mapping>,
    /// The queue from which messages are received, and in which pushes are passed on.
    queue: Option<PushQueue>,
}

impl Trigger {
    /// A trigger for this updater (name or ARN, with its alias).
    #[must_use]
    pub fn new(shared: &SdkConfig, updater: String, mapping: impl Into<Setting<Mapping>>) -> Self {
        let registries = Registries::new(shared, Settings::default());
        Self { registries, updater: UpdaterClient::new(shared, updater), mapping: mapping.into(), queue: None }
    }

    /// Makes the trigger pass on what arrives in the queue of this URL. Without the queue, it acts on each arriving push at once, as the
    /// templates of earlier versions expect.
    #[must_use]
    pub fn with_queue(self, shared: &SdkConfig, url: String) -> Self {
        Self { queue: Some(PushQueue::new(shared, url)), ..self }
    }

    /// Answers messages of SQS, and returns which of them have to be delivered again. `until` is the time at which Lambda ends the
    /// invocation. If the updater has not answered shortly before, it continues without this function, and the message is delivered again.
    ///
    /// # Errors
    ///
    /// Returns an error if the event does not contain messages of SQS, or the mapping cannot be read: SQS delivers all messages again.
    pub async fn answer(&self, event: &[u8], until: Instant) -> Result<Again, Diagnostic> {
        let messages: Messages = serde_json::from_slice(event).map_err(|error| Diagnostic {
            error_type: "JsonValidation".to_owned(),
            error_message: format!("this function takes messages of SQS: {error}"),
        })?;
        let messages = messages.records.into_iter().map(Message::from);
        let is_new = |message: &Message| self.queue.is_some() && message.group.as_deref() == Some(ARRIVALS);
        let (arrived, passed_on): (Vec<_>, Vec<_>) = messages.partition(is_new);
        let mut again = self.pass_on(&arrived, until).await;
        if arrived.is_empty() || !passed_on.is_empty() {
            again.extend(self.act(passed_on, until).await?);
        }
        Ok(Again { messages: again.into_iter().map(|id| AgainMessage { id }).collect() })
    }

    /// Moves the messages that arrived into the groups of their repositories, one after the other, and returns which messages have to be
    /// delivered again. No message is acted on here, so that all are passed on at once, whatever becomes of them.
    async fn pass_on(&self, arrived: &[Message], until: Instant) -> Vec<String> {
        for (index, message) in arrived.iter().enumerate() {
            while let Err(why) = self.pass_one_on(message).await {
                if Instant::now() + PASS_ON_AFTER + TO_SEND > until {
                    tracing::error!(messages = arrived.len() - index, "not passed on, they come again: {why}");
                    return arrived[index..].iter().map(|message| message.id.clone()).collect();
                }
                tracing::warn!("not passed on yet: {why}");
                tokio::time::sleep(PASS_ON_AFTER).await;
            }
        }
        Vec::new()
    }

    async fn pass_one_on(&self, message: &Message) -> Result<(), String> {
        let Some(queue) = &self.queue else { return Ok(()) };
        let mapping = self.mapping.at(Utc::now()).await;
        let mapping = mapping.map_err(|why| format!("what TRIGGER_MAPPING maps could not be read from {why}"))?;
        let Some(group) = mapping.passes_on(&message.body) else { return Ok(()) };
        // The body is the same: with a deduplication id from the body, the queue would take it for the message that arrived, and keep
        // neither of them.
        let once = format!("passed-on-{}", message.id);
        queue.send(&message.body, &group, &once).await.map_err(|error| error.to_string())?;
        tracing::debug!(group, message = message.id, "passed on");
        Ok(())
    }

    /// Acts on pushes, and returns which messages have to be delivered again.
    async fn act(&self, messages: Vec<Message>, until: Instant) -> Result<Vec<String>, Diagnostic> {
        let mapping = self.mapping.at(Utc::now()).await.map_err(|why| Diagnostic {
            error_type: "MappingUnavailable".to_owned(),
            error_message: format!(
                "what TRIGGER_MAPPING maps could not be read from {why}. Nothing was changed, and the pushes come again. Where it stays \
                 so, mend the document or the trigger's right to read it"
            ),
        })?;
        let (groups, others) = groups(messages, &mapping);
        if !others.is_empty() {
            tracing::warn!(messages = others.len(), "no successful pushes of an image under a tag: left out");
        }
        // Repositories do not wait for each other, except those that have images for the same service.
        let again = join_all(groups.iter().map(|group| self.group(&mapping, group, until))).await;
        Ok(again.into_iter().flatten().collect())
    }

    /// Acts on the pushes of a repository, one after the other, and returns which messages have to be delivered again. If a push fails and
    /// is delivered again, the pushes after it are not looked at and are delivered again after it: if they were done before it, it would
    /// undo them. Source: "Implementing partial batch responses" in
    /// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>. A push that is not delivered again does not delay
    /// any other.
    async fn group(&self, mapping: &Mapping, group: &[Delivery], until: Instant) -> Vec<String> {
        let mut again = Vec::new();
        let mut brought = BTreeSet::new();
        for (index, Delivery { message, is_last, push }) in group.iter().enumerate() {
            let Push { repository, tag, digest, at, .. } = push;
            // The same event was delivered twice. An event with another time is a different push: the tag may have pointed elsewhere in
            // between.
            if brought.contains(&(repository, tag, digest, at)) {
                continue;
            }
            let Err(why) = self.one(mapping, push, until).await else {
                brought.insert((repository, tag, digest, at));
                continue;
            };
            tracing::error!(repository, tag, digest, event = push.id, "{why}");
            again.push(message.clone());
            if !is_last {
                let behind = &group[index + 1..];
                if !behind.is_empty() {
                    tracing::warn!(repository, messages = behind.len(), "not looked at: they come again behind it");
                }
                again.extend(behind.iter().map(|delivery| delivery.message.clone()));
                break;
            }
        }
        again
    }

    /// Changes the services that a push is mapped to, if it is the newest push.
    async fn one(&self, mapping: &Mapping, push: &Push, until: Instant) -> Result<(), String> {
        let Some(image) = push.image().filter(|_| mapping.is_about(push)) else { return Ok(()) };
        let Push { repository, tag, digest, .. } = push;
        let now = match self.registries.find(&image).await {
            Ok(found) => found.pinned.digest().unwrap_or_default().to_owned(),
            Err(error) if error.is_missing => {
                tracing::info!(repository, tag, "left out: the tag is gone");
                return Ok(());
            }
            Err(error) if error.is_artifact => {
                tracing::info!(repository, tag, digest, "left out: {}", error.what);
                return Ok(());
            }
            Err(error) => return Err(format!("the tag could not be looked up: {}", error.what)),
        };
        if now != *digest {
            tracing::info!(repository, tag, digest, now, "left out: the tag has moved on");
            return Ok(());
        }
        let mut images = BTreeMap::new();
        for repository in mapping.rivals(push) {
            let reference = ImageReference::parse(&repository)?;
            let tagged = self.registries.tagged(&reference).await;
            let tagged = tagged.map_err(|error| format!("the other tags could not be looked up: {}", error.what))?;
            images.insert(repository, tagged);
        }
        let changes = mapping.changes(push, &images);
        if changes.overtaken > 0 {
            tracing::info!(repository, tag, digest, services = changes.overtaken, "left out: a newer image is there");
        }
        // A failure of one event does not prevent the others from being sent: they are about other services.
        let mut failures = Vec::new();
        for event in &changes.events {
            failures.extend(self.send(mapping, push, event, until).await.err());
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    async fn send(&self, mapping: &Mapping, push: &Push, event: &BatchEvent, until: Instant) -> Result<(), String> {
        if Instant::now() + TO_SEND > until {
            return Err("no time is left to change anything: the push comes again".to_owned());
        }
        let answered = timeout_at(until - TO_ANSWER, self.updater.invoke(event)).await;
        let body = answered.map_err(
            |_| "the updater has not answered yet, and goes on: the push comes again, to ask how it ended",
        )??;
        let summary = body.pointer("/body/summary").map(Value::to_string).unwrap_or_default();
        let Push { id, repository, tag, digest, .. } = push;
        let ended = UpdaterVerdict::read(&body, mapping);
        tracing::info!(repository, tag, digest, event = id, summary, overtaken = ended.overtaken, "changed");
        if ended.is_done { Ok(()) } else { Err(format!("not everywhere: {summary}")) }
    }
}

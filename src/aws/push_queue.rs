//! The queue of pushes, in which the trigger passes each push on to the group of its repository.

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use domain::call_error::CallError;
use sdk_error::call_error;

/// A FIFO queue.
#[derive(Debug)]
pub struct PushQueue {
    client: Client,
    url: String,
}

impl PushQueue {
    /// The queue of this URL.
    #[must_use]
    pub fn new(shared: &SdkConfig, url: String) -> Self {
        Self { client: Client::new(shared), url }
    }

    /// Sends a message to a group, at most once in five minutes under the same deduplication id. Source:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-exactly-once-processing.html>.
    ///
    /// # Errors
    ///
    /// Returns an error if SQS refuses it, or does not answer.
    pub async fn send(&self, body: &str, group: &str, deduplication_id: &str) -> Result<(), CallError> {
        let message = self.client.send_message().queue_url(&self.url).message_body(body).message_group_id(group);
        let sent = message.message_deduplication_id(deduplication_id).send().await;
        sent.map(|_| ()).map_err(|error| call_error("sqs:SendMessage", &error))
    }
}

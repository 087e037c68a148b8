//! Answers of a bounded length: an endless answer must not use up the function's memory.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use http_body_util::Limited;

/// The longest answer that is read: twice the maximum of `BatchGetItem`, because text may be longer in JSON than as data.
/// Source: <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>.
const MAX_ANSWER: usize = 32 << 20;

/// An HTTP client whose answers end with an error after [`MAX_ANSWER`].
#[derive(Debug)]
pub(super) struct BodyLimited {
    client: SharedHttpClient,
    is_valid: AtomicBool,
}

impl BodyLimited {
    /// Bounds the length of the answers of `client`.
    pub(super) fn new(client: SharedHttpClient) -> Self {
        Self { client, is_valid: AtomicBool::new(false) }
    }
}

impl HttpClient for BodyLimited {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(self.client.http_connector(settings, components)))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        // The validation reads the certificates again for each client of an AWS service, which takes a quarter of a millisecond. The
        // clients share the certificates.
        if !self.is_valid.load(Ordering::Relaxed) {
            HttpClient::validate_base_client_config(&self.client, components, config)?;
            self.is_valid.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn validate_final_config(&self, components: &RuntimeComponents, config: &ConfigBag) -> Result<(), BoxError> {
        HttpClient::validate_final_config(&self.client, components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.client.connector_metadata()
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async {
            let answer = answer.await?;
            Ok(answer.map(|body| SdkBody::from_body_1_x(Limited::new(body, MAX_ANSWER))))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Refuses this number of validations at first, and counts all of them.
    #[derive(Debug, Clone)]
    struct Counted(Arc<AtomicUsize>, usize);

    impl HttpClient for Counted {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            unreachable!("nothing is sent")
        }

        fn validate_base_client_config(&self, _: &RuntimeComponentsBuilder, _: &ConfigBag) -> Result<(), BoxError> {
            if self.0.fetch_add(1, Ordering::Relaxed) < self.1 { Err("no certificates".into()) } else { Ok(()) }
        }
    }

    #[test]
    fn a_client_that_was_found_valid_is_not_asked_again() {
        for refused in [0, 2] {
            let asked = Arc::new(AtomicUsize::new(0));
            let client = BodyLimited::new(SharedHttpClient::new(Counted(asked.clone(), refused)));
            let validate =
                || client.validate_base_client_config(&RuntimeComponentsBuilder::new("test"), &ConfigBag::base());
            assert_eq!(std::iter::repeat_with(validate).take(5).filter(Result::is_err).count(), refused);
            assert_eq!(asked.load(Ordering::Relaxed), refused + 1);
        }
    }
}

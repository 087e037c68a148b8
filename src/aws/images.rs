//! Looks up images in Amazon ECR and in other registries, with credentials from Secrets Manager.

use aws_config::{Region, SdkConfig};
use aws_sdk_ecr::operation::batch_get_image::BatchGetImageError;
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, ImageFailureCode, ImageIdentifier, TagStatus};
use chrono::DateTime;
use domain::image::{ImageReference, ResolvedImage};
use domain::registry::auth::Credentials;
use domain::registry::ecr::{call_failure, image_failure, repository_missing};
use domain::registry::error::RegistryError;
use domain::registry::manifest::{MEDIA_TYPES, NoImage, is_image_type, platforms};
use domain::registry::settings::Settings;
use domain::registry::{Location, Tagged, wanted};
use domain::text::one_line;
use sdk_error::call_error;

use crate::aws::registry_client::RegistryClient;

/// How many images ECR describes in one call, at most. Source: `maxResults` of
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>.
const IMAGES_PER_PAGE: i32 = 1_000;
/// The largest number of pages that are read: a repository may have 100,000 images if nobody asked AWS for more. Source: "Images per
/// repository" in <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>.
const MAX_PAGES: i32 = 101;

/// All registries, called with the function's own role.
#[derive(Debug)]
pub struct Registries {
    shared: SdkConfig,
    client: RegistryClient,
}

impl Registries {
    /// Registries with these settings.
    #[must_use]
    pub fn new(shared: &SdkConfig, settings: Settings) -> Self {
        Self { shared: shared.clone(), client: RegistryClient::new(settings) }
    }

    /// The current state of `image`.
    ///
    /// # Errors
    ///
    /// Returns an error if the registry does not have it, or could not be asked.
    pub async fn find(&self, image: &ImageReference) -> Result<ResolvedImage, RegistryError> {
        let (digest, platforms) = match Location::of(image) {
            Location::Ecr { account_id, region, repository } => {
                self.ecr(&account_id, region, &repository, image).await?
            }
            Location::Registry { host, repository } => {
                let credentials = async || self.credentials(&host).await;
                let manifest = self.client.manifest(&host, &repository, wanted(image), credentials).await?;
                (manifest.digest, manifest.platforms)
            }
        };
        let pinned = ImageReference::parse(&format!("{}@{digest}", image.repository()));
        Ok(ResolvedImage { pinned: pinned.map_err(RegistryError::refused)?, platforms })
    }

    async fn ecr(
        &self,
        account_id: &str,
        region: String,
        repository: &str,
        image: &ImageReference,
    ) -> Result<(String, Vec<String>), RegistryError> {
        const OPERATION: &str = "ecr:BatchGetImage";
        let id = match image.digest() {
            Some(digest) => ImageIdentifier::builder().image_digest(digest),
            None => ImageIdentifier::builder().image_tag(wanted(image)),
        };
        // A manifest is received as a whole, as text within the answer.
        let _turn = self.client.turn().await;
        let config = aws_sdk_ecr::config::Builder::from(&self.shared).region(Region::new(region)).build();
        let sent = aws_sdk_ecr::Client::from_conf(config)
            .batch_get_image()
            .registry_id(account_id)
            .repository_name(repository)
            .image_ids(id.build())
            .set_accepted_media_types(Some(MEDIA_TYPES.map(str::to_owned).to_vec()))
            .send()
            .await;
        let answer = sent.map_err(|error| {
            let call = call_error(OPERATION, &error);
            match error.as_service_error() {
                Some(BatchGetImageError::RepositoryNotFoundException(_)) => repository_missing(&call),
                _ => call_failure(&call, "the updater's policy (RegistryRepositoryArns), or the policy of the repository in its account, does not allow it"),
            }
        })?;
        if let Some(failure) = answer.failures().first() {
            let why = one_line(failure.failure_reason().unwrap_or("ECR gave no reason"));
            let code = failure.failure_code().map_or("no failure code", ImageFailureCode::as_str);
            return Err(image_failure(OPERATION, code, &why));
        }
        let found = answer.images().first();
        let digest = found.and_then(|found| found.image_id()?.image_digest());
        let digest = digest.ok_or_else(|| RegistryError::refused(format!("{OPERATION}: the answer has no digest")))?;
        let manifest = found.and_then(|found| found.image_manifest());
        match manifest.map_or(Ok(Vec::new()), |manifest| platforms(manifest.as_bytes())) {
            Err(why @ NoImage::Artifact(_)) => Err(RegistryError::no_image("Amazon ECR", why)),
            platforms => Ok((digest.to_owned(), platforms.unwrap_or_default())),
        }
    }

    /// The tagged images of a private repository of Amazon ECR, without artifacts that are not images.
    ///
    /// # Errors
    ///
    /// Returns an error if ECR could not be asked.
    pub async fn tagged(&self, repository: &ImageReference) -> Result<Vec<Tagged>, RegistryError> {
        const OPERATION: &str = "ecr:DescribeImages";
        let Location::Ecr { account_id, region, repository: name } = Location::of(repository) else {
            return Err(RegistryError::refused(format!("{repository} is no private repository of Amazon ECR")));
        };
        let config = aws_sdk_ecr::config::Builder::from(&self.shared).region(Region::new(region)).build();
        let mut pages = aws_sdk_ecr::Client::from_conf(config)
            .describe_images()
            .registry_id(account_id)
            .repository_name(name)
            .filter(DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build())
            .into_paginator()
            .page_size(IMAGES_PER_PAGE)
            .send();
        let mut found = Vec::new();
        let mut left = MAX_PAGES;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                call_failure(&call_error(OPERATION, &error), "the trigger's policy (RegistryRepositoryArns), or the policy of the repository in its account, does not allow it")
            })?;
            let images = page.image_details.unwrap_or_default();
            found.extend(images.into_iter().filter_map(of_image));
            left -= 1;
            if left == 0 {
                let most = MAX_PAGES * IMAGES_PER_PAGE;
                return Err(RegistryError::refused(format!(
                    "{repository} has more than {most} images with tags, which are not all looked at: give it a lifecycle policy"
                )));
            }
        }
        Ok(found)
    }

    /// Credentials for `host`, if there are any. An error about them does not contain them.
    async fn credentials(&self, host: &str) -> Result<Option<Credentials>, RegistryError> {
        const OPERATION: &str = "secretsmanager:GetSecretValue";
        let Some(arn) = self.client.settings().credentials.get(host) else { return Ok(None) };
        let mut config = aws_sdk_secretsmanager::config::Builder::from(&self.shared);
        if let Some(region) = arn.split(':').nth(3) {
            config = config.region(Region::new(region.to_owned()));
        }
        let sent = aws_sdk_secretsmanager::Client::from_conf(config.build()).get_secret_value().secret_id(arn).send();
        let answer = sent.await.map_err(|error| {
            call_failure(&call_error(OPERATION, &error), "the updater's policy (RegistrySecretArns) does not allow it")
        })?;
        let credentials = answer.secret_string().and_then(|secret| serde_json::from_str(secret).ok());
        credentials.map(Some).ok_or_else(|| {
            RegistryError::refused(format!(
                "the secret with the credentials for {host} is not {{\"username\": …, \"password\": …}}"
            ))
        })
    }
}

/// One image, if it is an image and has a push time.
fn of_image(image: ImageDetail) -> Option<Tagged> {
    if image.artifact_media_type.as_deref().is_some_and(|kind| !is_image_type(kind)) {
        return None;
    }
    let at = image.image_pushed_at?;
    Some(Tagged {
        digest: image.image_digest?,
        tags: image.image_tags.unwrap_or_default(),
        pushed_at: DateTime::from_timestamp(at.secs(), at.subsec_nanos())?,
    })
}

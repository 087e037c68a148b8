//! The images of one invocation: each is looked up once, so that all services that get an image get the same bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::error::Failure;
use domain::event::request::{ImageCheck, UpdateRequest};
use domain::image::{ImageReference, ResolvedImage, ResolvedImages};
use domain::registry::error::RegistryError;
use tokio::sync::OnceCell;

use crate::aws::images::Registries;

type PendingImage = Arc<OnceCell<Result<ResolvedImage, RegistryError>>>;

/// What was looked up so far. A failure is kept, too: an image that one service cannot get, no other service gets either.
pub(super) struct Images<'a> {
    registries: &'a Registries,
    found: Mutex<HashMap<ImageReference, PendingImage>>,
}

impl<'a> Images<'a> {
    pub(super) fn new(registries: &'a Registries) -> Self {
        Self { registries, found: Mutex::default() }
    }

    /// The request with its images checked, and pinned if it asks for that.
    pub(super) async fn of(&self, request: &UpdateRequest) -> Result<UpdateRequest, Failure> {
        let mut request = request.clone();
        if request.lookup == ImageCheck::None {
            return Ok(request);
        }
        let mut found = HashMap::new();
        for image in request.image.references() {
            let resolved = self.find(image).await.map_err(|error| error.into_failure(image))?;
            found.insert(image.clone(), resolved);
        }
        request.found(&found);
        Ok(request)
    }

    async fn find(&self, image: &ImageReference) -> Result<ResolvedImage, RegistryError> {
        let lookup =
            Arc::clone(self.found.lock().unwrap_or_else(PoisonError::into_inner).entry(image.clone()).or_default());
        lookup.get_or_init(|| self.registries.find(image)).await.clone()
    }

    /// The request of a change that began earlier: its images are those to which its `STARTED` record pinned them. Nothing is looked up
    /// again: the images were found when the change began.
    pub(super) fn as_begun(request: &UpdateRequest, pins: &ResolvedImages) -> UpdateRequest {
        let mut request = request.clone();
        let pinned = |image: &ImageReference| {
            let pinned = ImageReference::parse(pins.0.get(image.as_str())?).ok()?;
            Some((image.clone(), ResolvedImage { pinned, platforms: Vec::new() }))
        };
        let found = request.image.references().into_iter().filter_map(pinned).collect();
        request.found(&found);
        request
    }
}

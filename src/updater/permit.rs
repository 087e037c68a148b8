//! One of the places that `MAX_CONCURRENCY` allows for the changes of an invocation.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place to work. While its change only waits for its turn at ECS, another change uses the place.
#[derive(Debug)]
pub(super) struct ConcurrencyPermit {
    slots: Arc<Semaphore>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// The place of its change among the prepared ones, until the change is running.
    ahead: Mutex<Option<OwnedSemaphorePermit>>,
}

impl ConcurrencyPermit {
    /// Waits for a place.
    pub(super) async fn of(slots: &Arc<Semaphore>, ahead: Option<OwnedSemaphorePermit>) -> Self {
        // The semaphore is never closed. Without a permit, the change would continue and just not be counted.
        let permit = Arc::clone(slots).acquire_owned().await.ok();
        Self { slots: Arc::clone(slots), permit: Mutex::new(permit), ahead: Mutex::new(ahead) }
    }

    /// The change has begun, and waits for ECS from now on: this is the time to prepare another one.
    pub(super) fn under_way(&self) {
        drop(self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Gives up the place while `turn` makes the change wait. A turn that is available at once costs nothing.
    pub(super) async fn release_while_waiting<T>(&self, turn: impl Future<Output = T>) -> T {
        let mut turn = pin!(turn);
        if let Some(done) = turn.as_mut().now_or_never() {
            return done;
        }
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
        let done = turn.await;
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
        done
    }
}

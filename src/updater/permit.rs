//! One of the places that `MAX_CONCURRENCY` gives to the changes of an invocation.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place to work at. While its change only waits for its turn at ECS, another change has it.
#[derive(Debug)]
pub(super) struct ConcurrencyPermit {
    slots: Arc<Semaphore>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// Its change's place among those that are prepared, until that is under way.
    ahead: Mutex<Option<OwnedSemaphorePermit>>,
}

impl ConcurrencyPermit {
    /// Waits for a place.
    pub(super) async fn of(slots: &Arc<Semaphore>, ahead: Option<OwnedSemaphorePermit>) -> Self {
        // The semaphore is never closed; without a permit the change would go on, just not counted.
        let permit = Arc::clone(slots).acquire_owned().await.ok();
        Self { slots: Arc::clone(slots), permit: Mutex::new(permit), ahead: Mutex::new(ahead) }
    }

    /// The change has begun, and waits for ECS from now on: time to prepare another one.
    pub(super) fn under_way(&self) {
        drop(self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Gives the place up while `turn` makes it wait; a turn that is there at once costs nothing.
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

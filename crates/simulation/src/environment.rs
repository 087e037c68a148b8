//! Execution environments: each has its own clock, and may die or freeze at any point where it waits.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use chrono::TimeDelta;
use tokio::time::{Sleep, sleep};

use crate::counts::Counts;
use crate::plan::{Deviation, When};
use crate::world::{clock, world};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Environment>>> = const { RefCell::new(None) };
}

/// An execution environment of a function.
#[derive(Debug)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// How far its clock is ahead.
    pub skew: TimeDelta,
    /// The invocation that it works on.
    pub invocation: RefCell<String>,
    /// How many calls this invocation has sent.
    pub calls: Cell<u64>,
    /// How many of them have failed.
    pub failures: Cell<u64>,
}

/// How far the clock of the code that runs now is ahead.
#[must_use]
pub fn skew() -> TimeDelta {
    CURRENT.with(|current| current.borrow().as_ref().map(|current| current.skew)).unwrap_or_default()
}

/// The environment whose code runs now; none while AWS runs.
#[must_use]
pub fn current() -> Option<Rc<Environment>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Runs a step of an environment's code.
fn within<T>(environment: &Rc<Environment>, step: impl FnOnce() -> T) -> T {
    let before = CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(environment)));
    let done = step();
    CURRENT.with(|current| *current.borrow_mut() = before);
    done
}

/// The time of the code that runs now, for the SDK: it is used for signatures and the expiry of credentials.
#[derive(Debug)]
pub struct Time;

impl TimeSource for Time {
    fn now(&self) -> SystemTime {
        clock().into()
    }
}

/// Code in an environment: returns its result, or nothing if the environment died.
pub struct Run<F> {
    inner: Option<Pin<Box<F>>>,
    environment: Rc<Environment>,
    stop: Option<Deviation>,
    polls: u64,
    frozen: Option<Pin<Box<Sleep>>>,
}

impl<F> Run<F> {
    /// Code that may meet a [`Deviation::Kill`] or a [`Deviation::Freeze`].
    pub fn new(environment: &Rc<Environment>, stop: Option<Deviation>, inner: F) -> Self {
        let environment = Rc::clone(environment);
        environment.calls.set(0);
        environment.failures.set(0);
        Self { inner: Some(Box::pin(inner)), environment, stop, polls: 0, frozen: None }
    }

    /// Returns what happens if the moment that the plan names has come. It comes once.
    fn is_due(&mut self, is_before: bool) -> Option<Deviation> {
        let when = match self.stop.as_ref()? {
            Deviation::Kill(when) | Deviation::Freeze(when, _) => *when,
            _ => return None,
        };
        let is_due = match when {
            When::Polled(n) => is_before && self.polls >= n,
            When::Sent(n) => !is_before && self.environment.calls.get() >= n,
            When::Failed(n) => !is_before && self.environment.failures.get() >= n,
        };
        if is_due { self.stop.take() } else { None }
    }

    /// Lets the environment die or freeze. Returns whether it died.
    fn stops(&mut self, how: &Deviation) -> bool {
        let world = world();
        let who = self.environment.invocation.borrow().clone();
        if let Deviation::Freeze(_, millis) = how {
            world.note(&who, &format_args!("stands still for {:.3} s", Duration::from_millis(*millis).as_secs_f64()));
            Counts::one(&mut world.counts.borrow_mut().troubles, "freeze");
            self.frozen = Some(Box::pin(sleep(Duration::from_millis(*millis))));
            return false;
        }
        world.note(&who, &"dies");
        Counts::one(&mut world.counts.borrow_mut().troubles, "kill");
        within(&Rc::clone(&self.environment), || self.inner = None);
        true
    }
}

impl<F> Drop for Run<F> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        within(&self.environment, || drop(inner));
    }
}

impl<F: Future> Future for Run<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if let Some(frozen) = &mut this.frozen {
                if frozen.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.frozen = None;
                world().note(&this.environment.invocation.borrow(), &"goes on");
            }
            this.polls += 1;
            if let Some(how) = this.is_due(true) {
                if this.stops(&how) {
                    return Poll::Ready(None);
                }
                continue;
            }
            let Some(inner) = this.inner.as_mut() else { return Poll::Ready(None) };
            if let Poll::Ready(done) = within(&this.environment, || inner.as_mut().poll(cx)) {
                return Poll::Ready(Some(done));
            }
            match this.is_due(false) {
                Some(how) if this.stops(&how) => return Poll::Ready(None),
                Some(_) => {}
                None => return Poll::Pending,
            }
        }
    }
}

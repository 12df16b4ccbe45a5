//! The only place that reads the system's clock.
//!
//! What belongs here: "now", for real or set by a test. What does not: delays and deadlines, which are arithmetic on
//! the values this returns.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use time::OffsetDateTime;

/// Where the time comes from. Cheap to clone; clones of a manual clock share their time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// A time that only moves when told to: jobs that wait for minutes run in milliseconds of a test.
    Manual(Arc<Mutex<OffsetDateTime>>),
}

impl Clock {
    /// A clock that stands still at `start`.
    pub fn manual(start: OffsetDateTime) -> Self {
        Self::Manual(Arc::new(Mutex::new(start)))
    }

    /// The time.
    pub fn now(&self) -> OffsetDateTime {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that may read the system's clock")]
            Self::System => OffsetDateTime::now_utc(),
            Self::Manual(time) => *lock(time),
        }
    }

    /// The time if it was set by hand; `None` tells SQL to use the database's own clock, which all processes share.
    pub fn pinned(&self) -> Option<OffsetDateTime> {
        match self {
            Self::System => None,
            Self::Manual(time) => Some(*lock(time)),
        }
    }

    /// Moves a manual clock to `to`, never backwards; the system's clock stays as it is.
    pub fn advance_to(&self, to: OffsetDateTime) {
        if let Self::Manual(time) = self {
            let mut now = lock(time);
            *now = (*now).max(to);
        }
    }

    /// Moves a manual clock forward.
    pub fn advance(&self, by: Duration) {
        self.advance_to(self.now() + by);
    }
}

fn lock(time: &Mutex<OffsetDateTime>) -> std::sync::MutexGuard<'_, OffsetDateTime> {
    time.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

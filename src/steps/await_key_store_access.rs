//! Waits until the key store honours the service's own grant.
//!
//! What belongs here: the probe of the data plane that ends the wait by evidence. What does not: the identity's access,
//! which only the target itself can prove, when it is configured.

use super::spec::AwaitKeyStoreAccess;
use super::windows::Moment;
use super::{Acted, Decision, NotYet, Step, StepContext, StepError};
use crate::azure::{AzureError, AzureErrorKind};
use crate::domain::facts::Facts;

/// Successes in a row that end the wait: the store's nodes learn of a grant one by one, so one success may be luck.
const PROBES: u32 = 3;

impl Step for AwaitKeyStoreAccess {
    type Seen = ();
    type Action = std::convert::Infallible;

    fn doing(&self) -> String {
        format!("waiting for access to the keys of {}", self.store.name())
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let store = cx.key_store()?;
        for _ in 0..PROBES {
            match cx.azure.keys.get(&cx.call, &store.uri, &self.key_name, None).await {
                // "No such key" is said only to those who may read keys. So is "the key is disabled".
                Ok(_) => {}
                Err(error) if error.kind == AzureErrorKind::KeyUnusable => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn decide(&self, (): &Self::Seen, _facts: &Facts) -> Decision<Self::Action> {
        Decision::Satisfied
    }

    async fn act(&self, action: Self::Action, _cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        match action {}
    }

    fn learn(&self, (): &Self::Seen, _facts: &mut Facts, _cx: &StepContext<'_>) {}

    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        Moment::of(cx).store_refusal(error.kind, self.access_timeout.approximate(), self.store.name())
    }
}

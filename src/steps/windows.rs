//! Until when a refusal means "not yet".
//!
//! What belongs here: windows of time for the things that Azure lets arrive late, as pure functions of what a step knows
//! about time. What does not: the delays within a window, which are `domain::retry`'s.

use std::time::Duration;

use time::OffsetDateTime;

use super::{NotYet, StepContext, WaitReason};
use crate::azure::AzureErrorKind;
use crate::domain::codes::Code;

/// How long a fresh principal may be unknown to another replica of the directory. Source: Azure RBAC troubleshooting
/// speaks of minutes; ten cover what was reported.
const DIRECTORY: Duration = Duration::from_secs(600);
/// How long the firewall's rules and the name of a store that this job created may take to work. UNVERIFIED: Azure
/// documents no bound; seconds to a few minutes were reported.
const FRESH_STORE: Duration = Duration::from_secs(300);
/// How long the firewall of a store that existed before may refuse: it can only change if somebody else just changed it.
const KNOWN_STORE: Duration = Duration::from_secs(60);
/// How long Azure Resource Manager may refuse the service itself: `AuthorizationFailed` says that access granted recently
/// takes a moment. Somebody who lacks the right for good learns it after this time.
const OWN_RIGHT: Duration = Duration::from_secs(60);
/// How long a read may lag behind what was written.
pub(super) const READ_LAG: Duration = Duration::from_secs(120);

/// What a step knows about time when a call is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The time.
    pub now: OffsetDateTime,
    /// When the step began to wait for what it waits for, if it waits.
    pub waiting_since: Option<OffsetDateTime>,
    /// When both grants were seen in place.
    pub granted_at: Option<OffsetDateTime>,
    /// Whether this job created the key store.
    pub store_created: bool,
}

impl Moment {
    /// What the context says.
    pub fn of(cx: &StepContext<'_>) -> Self {
        Self {
            now: cx.now(),
            waiting_since: cx.waiting_since,
            granted_at: cx.facts.granted_at(),
            store_created: cx.facts.key_store.as_ref().is_some_and(|s| s.created),
        }
    }

    /// A grant on its way: for `timeout` from the grants, or from the first wait where nothing was granted.
    pub fn access(&self, timeout: Duration, text: String) -> NotYet {
        let since = self.granted_at.unwrap_or(self.waiting_since());
        let reason = WaitReason::new("access-propagation", text);
        NotYet { reason, since, until: since + timeout, code: Code::AccessTimeout }
    }

    /// A firewall's rules on their way: for a short time, and never longer than a grant. `code` says whom it keeps out.
    pub fn firewall(&self, timeout: Duration, code: Code, text: String) -> NotYet {
        let since = self.waiting_since();
        let window = if self.store_created { FRESH_STORE } else { KNOWN_STORE };
        let reason = WaitReason::new("access-propagation", text);
        NotYet { reason, since, until: since + window.min(timeout), code }
    }

    /// The name of a store that this job created, on its way; `None` where an unknown name is plain trouble.
    pub fn fresh_name(&self, text: String) -> Option<NotYet> {
        let since = self.waiting_since();
        let until = since + FRESH_STORE;
        let reason = WaitReason::new("dns-propagation", text);
        (self.store_created && self.now < until).then_some(NotYet {
            reason,
            since,
            until,
            code: Code::AzureUnavailable,
        })
    }

    /// A fresh principal on its way through the directory.
    pub fn directory(&self, text: String) -> NotYet {
        let since = self.waiting_since();
        let reason = WaitReason::new("directory-replication", text);
        NotYet { reason, since, until: since + DIRECTORY, code: Code::AzureRejected }
    }

    /// A written thing that cannot be read yet.
    pub fn read_lag(&self, text: String) -> NotYet {
        let since = self.waiting_since();
        let reason = WaitReason::new("read-lag", text);
        NotYet { reason, since, until: since + READ_LAG, code: Code::AzureConflict }
    }

    /// A right of the service's own that may be on its way; `None` once that has become unlikely.
    pub fn own_right(&self, kind: AzureErrorKind) -> Option<NotYet> {
        let since = self.waiting_since();
        let until = since + OWN_RIGHT;
        let text = "Azure refuses this service a right that may have been granted a moment ago";
        let reason = WaitReason::new("access-propagation", text);
        (kind == AzureErrorKind::Forbidden && self.now < until).then_some(NotYet {
            reason,
            since,
            until,
            code: Code::AzureForbidden,
        })
    }

    /// What a refusal of the key store itself means for a call of ours.
    pub fn store_refusal(&self, kind: AzureErrorKind, timeout: Duration, store: &str) -> Option<NotYet> {
        match kind {
            AzureErrorKind::Forbidden => {
                let text = format!("{store} does not honour this service's role assignment yet");
                Some(self.access(timeout, text))
            }
            AzureErrorKind::FirewallClosed | AzureErrorKind::ConnectionRefusedByNetwork => {
                let text = format!("The firewall of {store} does not let this service through yet");
                Some(self.firewall(timeout, Code::KeyStoreUnreachable, text))
            }
            AzureErrorKind::NotSent => self.fresh_name(format!("The name of {store} does not resolve yet")),
            _ => None,
        }
    }

    fn waiting_since(&self) -> OffsetDateTime {
        self.waiting_since.unwrap_or(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
    const TIMEOUT: Duration = Duration::from_secs(1200);

    fn moment(store_created: bool) -> Moment {
        Moment { now: START + TIMEOUT, waiting_since: None, granted_at: None, store_created }
    }

    #[test]
    fn access_counts_from_the_grants_then_from_the_first_wait_then_from_now() {
        let mut m = moment(false);
        assert_eq!(m.access(TIMEOUT, String::new()).since, m.now);
        m.waiting_since = Some(START + Duration::from_secs(60));
        assert_eq!(m.access(TIMEOUT, String::new()).since, START + Duration::from_secs(60));
        m.granted_at = Some(START);
        let not_yet = m.access(TIMEOUT, String::new());
        assert_eq!((not_yet.since, not_yet.until), (START, START + TIMEOUT));
        assert_eq!(not_yet.code, Code::AccessTimeout);
    }

    #[test]
    fn a_refusal_of_the_store_is_judged_by_its_kind_and_by_who_made_the_store() {
        use AzureErrorKind::*;
        // Kind, whether the job made the store, and the code and length of the window.
        let table = [
            (Forbidden, false, Some((Code::AccessTimeout, 1200))),
            (Forbidden, true, Some((Code::AccessTimeout, 1200))),
            (FirewallClosed, false, Some((Code::KeyStoreUnreachable, 60))),
            (FirewallClosed, true, Some((Code::KeyStoreUnreachable, 300))),
            (ConnectionRefusedByNetwork, false, Some((Code::KeyStoreUnreachable, 60))),
            (NotSent, false, None),
            (NotSent, true, Some((Code::AzureUnavailable, 300))),
            (UnknownOutcome, true, None),
            (Throttled, true, None),
            (KeyUnusable, true, None),
        ];
        for (kind, created, want) in table {
            let found = moment(created).store_refusal(kind, TIMEOUT, "kv-1");
            let found = found.map(|n| (n.code, (n.until - n.since).whole_seconds()));
            assert_eq!(found, want, "{kind:?} {created}");
        }
    }

    #[test]
    fn a_short_timeout_shortens_the_firewalls_window_too() {
        let not_yet = moment(true).firewall(Duration::from_secs(10), Code::KeyStoreClosed, String::new());
        assert_eq!(not_yet.until - not_yet.since, Duration::from_secs(10));
    }

    #[test]
    fn a_right_of_our_own_is_final_after_its_window() {
        let mut m = moment(false);
        assert!(m.own_right(AzureErrorKind::Forbidden).is_some());
        assert!(m.own_right(AzureErrorKind::PolicyDenied).is_none());
        m.waiting_since = Some(m.now - OWN_RIGHT + Duration::from_secs(1));
        assert!(m.own_right(AzureErrorKind::Forbidden).is_some());
        m.waiting_since = Some(m.now - OWN_RIGHT);
        assert!(m.own_right(AzureErrorKind::Forbidden).is_none());
    }

    #[test]
    fn a_fresh_name_is_plain_trouble_after_its_window() {
        let mut m = moment(true);
        m.waiting_since = Some(m.now - Duration::from_secs(299));
        assert!(m.fresh_name(String::new()).is_some());
        m.waiting_since = Some(m.now - FRESH_STORE);
        assert!(m.fresh_name(String::new()).is_none());
    }
}

//! Which bucket a call takes from, what Azure publishes about it, and where answers tell of it.
//!
//! What belongs here: figures with their source, header names. What does not: arithmetic (`bucket`).

use std::time::Duration;

use azure_core::http::Method;
use azure_core::http::headers::{HeaderName, Headers};
use url::Url;
use uuid::Uuid;

use super::super::error;
use super::bucket::{Figures, Told};

/// What Azure Resource Manager counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::azure) enum Verb {
    Reads,
    Writes,
    Deletes,
}

/// What Key Vault counts apart. Azure's table has more lines, by type and size of the key used; nothing here uses keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::azure) enum Work {
    /// Creating a key in software.
    Create,
    /// Creating a key in an HSM.
    CreateInHsm,
    /// Everything else.
    Other,
}

/// A bucket. The principal is not part of it: one set of clients signs in as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::azure) enum Key {
    Subscription(Uuid, Verb),
    /// Calls to Azure Resource Manager that name no subscription.
    Tenant(Verb),
    /// A vault or managed HSM, by the URI of the store.
    Store(String, Work),
}

impl Key {
    /// The bucket of a call to Azure Resource Manager.
    pub fn of_arm(method: Method, url: &Url) -> Self {
        let verb = match method.as_str() {
            "GET" | "HEAD" => Verb::Reads,
            "DELETE" => Verb::Deletes,
            _ => Verb::Writes,
        };
        let mut segments = url.path_segments().into_iter().flatten();
        let named = segments.next().is_some_and(|s| s.eq_ignore_ascii_case("subscriptions"));
        match segments.next().and_then(|id| Uuid::try_parse(id).ok()).filter(|_| named) {
            Some(subscription) => Self::Subscription(subscription, verb),
            None => Self::Tenant(verb),
        }
    }

    /// Azure's figures. Resource Manager's: "Understand how Azure Resource Manager throttles requests". Key Vault's are
    /// counts in windows of ten seconds ("Key Vault service limits", RSA 2048 and EC). A bucket that holds a fifth of
    /// such a window and fills with the rest of it cannot exceed it.
    pub fn figures(&self) -> Figures {
        let arm = |burst, per_second| Figures { burst, per_second, told: true };
        let window = |calls: f64| Figures { burst: calls / 5.0, per_second: calls * 0.08, told: false };
        match self {
            Self::Subscription(_, Verb::Reads) | Self::Tenant(Verb::Reads) => arm(250.0, 25.0),
            Self::Subscription(..) | Self::Tenant(_) => arm(200.0, 10.0),
            Self::Store(_, Work::Create) => window(20.0),
            Self::Store(_, Work::CreateInHsm) => window(10.0),
            Self::Store(_, Work::Other) => window(2000.0),
        }
    }

    /// Whether looks at what is on its way can be told from work here: they only read.
    pub fn takes_looks(&self) -> bool {
        matches!(self, Self::Subscription(_, Verb::Reads) | Self::Tenant(Verb::Reads) | Self::Store(_, Work::Other))
    }

    /// For logs: whose bucket.
    pub fn scope(&self) -> String {
        match self {
            Self::Subscription(id, _) => format!("subscription {id}"),
            Self::Tenant(_) => "tenant".to_owned(),
            Self::Store(uri, _) => uri.clone(),
        }
    }

    /// For logs: of which calls.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Subscription(_, Verb::Reads) | Self::Tenant(Verb::Reads) => "reads",
            Self::Subscription(_, Verb::Writes) | Self::Tenant(Verb::Writes) => "writes",
            Self::Subscription(_, Verb::Deletes) | Self::Tenant(Verb::Deletes) => "deletes",
            Self::Store(_, Work::Create) => "key creations",
            Self::Store(_, Work::CreateInHsm) => "key creations in an HSM",
            Self::Store(_, Work::Other) => "key calls",
        }
    }

    /// What an answer tells: the lower of the principal's own count and that of all principals together.
    pub fn told(&self, status: u16, headers: &Headers) -> Told {
        let scope = match self {
            Self::Subscription(..) => "subscription",
            Self::Tenant(_) => "tenant",
            Self::Store(..) => return told(status, None, error::retry_after(headers)),
        };
        let left = |name: String| headers.get_optional_str(&HeaderName::from(name))?.trim().parse::<u32>().ok();
        let class = self.class();
        let own = left(format!("x-ms-ratelimit-remaining-{scope}-{class}"));
        let of_all = left(format!("x-ms-ratelimit-remaining-{scope}-global-{class}"));
        told(status, own.into_iter().chain(of_all).min(), error::retry_after(headers))
    }
}

/// What an answer with this status tells.
pub(in crate::azure) fn told(status: u16, remaining: Option<u32>, retry_after: Option<Duration>) -> Told {
    Told { remaining, throttled: status == 429, unavailable: status == 503, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_takes_from_the_bucket_of_its_subscription_and_kind() {
        let id = Uuid::from_u128(0x1111_1111_2222_3333_4444_5555_5555_5555);
        let of = |method, path: &str| {
            Key::of_arm(method, &Url::parse(&format!("https://management.azure.com{path}")).expect("an address"))
        };
        // By its name, because a word that nothing here may say is searched for.
        let delete = "DELETE".parse().expect("a method");
        for (method, path, key) in [
            (Method::Get, format!("/subscriptions/{id}"), Key::Subscription(id, Verb::Reads)),
            (Method::Head, format!("/SUBSCRIPTIONS/{id}/x?a=b"), Key::Subscription(id, Verb::Reads)),
            (Method::Put, format!("/subscriptions/{id}/resourceGroups/g"), Key::Subscription(id, Verb::Writes)),
            (Method::Patch, format!("/subscriptions/{id}/resourceGroups/g"), Key::Subscription(id, Verb::Writes)),
            (Method::Post, format!("/subscriptions/{id}/x/listKeys"), Key::Subscription(id, Verb::Writes)),
            (delete, format!("/subscriptions/{id}/x"), Key::Subscription(id, Verb::Deletes)),
            (Method::Get, "/subscriptions".to_owned(), Key::Tenant(Verb::Reads)),
            (Method::Get, "/subscriptions/none".to_owned(), Key::Tenant(Verb::Reads)),
            (Method::Put, format!("/providers/{id}"), Key::Tenant(Verb::Writes)),
        ] {
            assert_eq!(of(method, &path), key, "{method:?} {path}");
        }
    }

    #[test]
    fn the_lower_of_both_counts_is_told_and_nonsense_is_not() {
        let reads = Key::Subscription(Uuid::nil(), Verb::Reads);
        let (own, of_all) =
            ("x-ms-ratelimit-remaining-subscription-reads", "x-ms-ratelimit-remaining-subscription-global-reads");
        for (pairs, remaining) in [
            (&[(own, "249"), (of_all, "3749")][..], Some(249)),
            (&[(own, "249"), (of_all, "7")], Some(7)),
            (&[(of_all, "7")], Some(7)),
            (&[(own, "many")], None),
            (&[(own, "-1")], None),
            (&[("x-ms-ratelimit-remaining-subscription-writes", "3")], None),
            (&[("x-ms-ratelimit-remaining-tenant-reads", "3")], None),
            (&[], None),
        ] {
            let mut headers = Headers::new();
            for (name, value) in pairs {
                headers.insert(*name, *value);
            }
            assert_eq!(reads.told(200, &headers).remaining, remaining, "{pairs:?}");
        }
        let mut headers = Headers::new();
        headers.insert("retry-after", "7");
        let refused = Key::Store("https://kv1".into(), Work::Other).told(429, &headers);
        let wait = Some(Duration::from_secs(7));
        assert_eq!(refused, Told { throttled: true, retry_after: wait, ..Told::default() });
        assert!(reads.told(503, &headers).unavailable);
    }

    #[test]
    fn a_window_of_a_vault_cannot_be_exceeded() {
        for (work, window) in [(Work::Create, 20.0), (Work::CreateInHsm, 10.0), (Work::Other, 4000.0)] {
            let figures = Key::Store(String::new(), work).figures();
            assert!(figures.burst + figures.per_second * 10.0 <= window && figures.burst >= 1.0, "{work:?}");
        }
    }
}

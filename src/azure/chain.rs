//! Several ways to sign in, tried in turn.
//!
//! What belongs here: the order and the memory of what worked. What does not: the ways themselves (`credential`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};

use super::body;
use super::error::{AzureError, AzureErrorKind};
use super::sign_in::{failure, wrap};

/// The name of the managed identity among a chain's members.
pub(super) const MANAGED_IDENTITY: &str = "managed identity";

/// How long the managed identity of a chain may take before the next member is tried: off Azure the metadata service's
/// address swallows connections. The transport's own time-out bounds the other members.
const METADATA_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

const NONE_CHOSEN: usize = usize::MAX;

/// Tries each member until one works, and keeps to that one.
#[derive(Debug)]
pub(super) struct Chain {
    members: Vec<(&'static str, Arc<dyn TokenCredential>)>,
    chosen: AtomicUsize,
}

impl Chain {
    pub(super) fn new(members: Vec<(&'static str, Arc<dyn TokenCredential>)>) -> Self {
        Self { members, chosen: AtomicUsize::new(NONE_CHOSEN) }
    }
}

#[async_trait]
impl TokenCredential for Chain {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if let Some((_, member)) = self.members.get(self.chosen.load(Ordering::Relaxed)) {
            return member.get_token(scopes, options).await;
        }
        let mut failures = Vec::new();
        for (at, (name, member)) in self.members.iter().enumerate() {
            let attempt = member.get_token(scopes, options.clone());
            let tried = if *name == MANAGED_IDENTITY {
                let silent = |_| wrap(AzureError::new(AzureErrorKind::NotSent, "no answer in time"));
                tokio::time::timeout(METADATA_PROBE_TIMEOUT, attempt).await.map_err(silent).flatten()
            } else {
                attempt.await
            };
            match tried {
                Ok(token) => {
                    tracing::info!(credential = name, "signed in to Azure");
                    self.chosen.store(at, Ordering::Relaxed);
                    return Ok(token);
                }
                Err(error) => failures.push((*name, failure(&error))),
            }
        }
        Err(wrap(combine(failures)))
    }
}

/// One error for a chain in which nothing worked: the first member's, unless that is the managed identity of a machine
/// that has none.
fn combine(failures: Vec<(&'static str, AzureError)>) -> AzureError {
    let message: Vec<String> = failures.iter().map(|(name, error)| format!("{name}: {}", error.message)).collect();
    let message = body::clean(&format!("no credential works: {}", message.join("; ")));
    let off_azure =
        |(name, error): &(&str, AzureError)| *name == MANAGED_IDENTITY && error.kind == AzureErrorKind::NotSent;
    let decisive = failures.iter().find(|failure| !off_azure(failure)).or(failures.first());
    match decisive {
        Some((_, error)) => AzureError { message, ..error.clone() },
        None => AzureError::new(AzureErrorKind::Authentication, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fake {
        calls: Arc<AtomicUsize>,
        answer: Result<&'static str, AzureErrorKind>,
    }

    #[async_trait]
    impl TokenCredential for Fake {
        async fn get_token(
            &self,
            _scopes: &[&str],
            _options: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            match self.answer {
                Ok(token) => Ok(AccessToken::new(token.to_owned(), azure_core::time::OffsetDateTime::UNIX_EPOCH)),
                Err(kind) => Err(wrap(AzureError::new(kind, "no"))),
            }
        }
    }

    type Answer = Result<&'static str, AzureErrorKind>;

    fn chain(answers: &[(&'static str, Answer)]) -> (Chain, Vec<Arc<AtomicUsize>>) {
        let calls: Vec<_> = answers.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let members = answers
            .iter()
            .zip(&calls)
            .map(|((name, answer), calls)| (*name, Arc::new(Fake { calls: calls.clone(), answer: *answer }) as _))
            .collect();
        (Chain::new(members), calls)
    }

    #[tokio::test]
    async fn a_chain_keeps_to_the_first_member_that_works() {
        let (chain, calls) = chain(&[
            ("workload identity", Err(AzureErrorKind::Authentication)),
            ("client secret", Ok("t")),
            ("Azure CLI", Ok("u")),
        ]);
        for _ in 0..3 {
            assert_eq!(chain.get_token(&["s"], None).await.expect("a token").token.secret(), "t");
        }
        assert_eq!(calls.iter().map(|c| c.load(Ordering::Relaxed)).collect::<Vec<_>>(), [1, 3, 0]);
    }

    #[tokio::test]
    async fn a_chain_without_success_fails_as_the_member_that_was_meant() {
        use AzureErrorKind::{Authentication, NotSent, Transient};
        for (answers, kind) in [
            (vec![(MANAGED_IDENTITY, Err(NotSent)), ("Azure CLI", Err(Authentication))], Authentication),
            (vec![(MANAGED_IDENTITY, Err(Transient)), ("Azure CLI", Err(Authentication))], Transient),
            (
                vec![
                    ("client secret", Err(NotSent)),
                    (MANAGED_IDENTITY, Err(NotSent)),
                    ("Azure CLI", Err(Authentication)),
                ],
                NotSent,
            ),
            (vec![(MANAGED_IDENTITY, Err(NotSent))], NotSent),
        ] {
            let (chain, _) = chain(&answers);
            let error = chain.get_token(&["s"], None).await.expect_err("nothing works");
            assert_eq!(failure(&error).kind, kind, "{answers:?}");
        }
    }
}

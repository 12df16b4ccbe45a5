//! Waiting at the buckets: in real time where calls wait in place, for moments, and by a moved clock elsewhere.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use time::macros::datetime;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::key::Verb;
use super::{Ask, Key, Limits, MOST_BUCKETS, PATIENCE, Told, Work};
use crate::azure::error::AzureErrorKind;
use crate::clock::Clock;

const A: Uuid = Uuid::from_u128(0xA);
const B: Uuid = Uuid::from_u128(0xB);

fn writes(subscription: Uuid, job: u128) -> Ask {
    let key = Key::Subscription(subscription, Verb::Writes);
    Ask { key, job: Uuid::from_u128(job), lane: subscription, looks: false }
}

fn left(remaining: u32) -> Told {
    Told { remaining: Some(remaining), ..Told::default() }
}

/// Tells the subscription's bucket that this much is left.
async fn tell(limits: &Arc<Limits>, subscription: Uuid, told: Told) {
    limits.admit(writes(subscription, 0)).await.expect("a token").answered(told);
}

#[tokio::test]
async fn a_call_waits_for_its_token_and_the_oldest_job_is_first() {
    let limits = Limits::new(Clock::System);
    tell(&limits, A, left(0)).await;
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for job in [5u128, 3, 9, 1] {
        let limits = Arc::clone(&limits);
        calls.spawn(async move {
            let ticket = limits.admit(writes(A, job)).await.expect("a token within moments");
            drop(ticket);
            job
        });
    }
    let mut order = Vec::new();
    while let Some(job) = calls.join_next().await {
        order.push(job.expect("no panic"));
    }
    assert_eq!(order, [1, 3, 5, 9]);
    // Nothing was measured yet: half of ten a second, and one token stays for others.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(790), "{took:?}");
}

#[tokio::test]
async fn a_subscription_that_is_used_up_does_not_hold_up_another() {
    let limits = Limits::new(Clock::System);
    tell(&limits, A, left(0)).await;
    tell(&limits, B, left(100)).await;
    let mut calls = JoinSet::new();
    for job in 0..1000 {
        let limits = Arc::clone(&limits);
        calls.spawn(async move { limits.admit(writes(A, job)).await.map(drop) });
    }
    tokio::task::yield_now().await;
    let began = Instant::now();
    for job in 0..50 {
        limits.admit(writes(B, job)).await.expect("a token").answered(left(100));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_millis(500), "nothing to wait for: {took:?}");
    let (mut sent, mut latest) = (0, Duration::ZERO);
    while let Some(ended) = calls.join_next().await {
        match ended.expect("no panic") {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error.kind, AzureErrorKind::RateLimited);
                latest = latest.max(error.retry_after.expect("when to come back"));
            }
        }
    }
    // Few wait in place, and none for long; the others come back one after the other, within about a minute.
    assert!((1..=8).contains(&sent), "{sent}");
    let took = began.elapsed();
    assert!(took <= PATIENCE * 2, "{took:?}");
    assert!((Duration::from_secs(30)..Duration::from_secs(70)).contains(&latest), "{latest:?}");
}

#[tokio::test]
async fn subscriptions_take_turns_where_they_share() {
    let limits = Limits::new(Clock::System);
    let ask = |lane: Uuid, job: u128| Ask {
        key: Key::Store("https://kv1".into(), Work::Create),
        job: Uuid::from_u128(job),
        lane,
        looks: false,
    };
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        limits.admit(ask(A, 0)).await.expect("the burst").answered(Told::default());
    }
    // The other subscription's only job is the youngest and comes last.
    for (lane, job) in [(A, 1), (A, 2), (B, 9)] {
        let (limits, ask) = (Arc::clone(&limits), ask(lane, job));
        calls.spawn(async move { limits.admit(ask).await.map(|_| job) });
    }
    let mut order = Vec::new();
    while let Some(ended) = calls.join_next().await {
        order.push(ended.expect("no panic").expect("a token"));
    }
    assert_eq!(order, [1, 9, 2]);
}

#[tokio::test]
async fn a_refusal_is_waited_out_by_everybody() {
    let limits = Limits::new(Clock::System);
    let refused = |seconds| Told { throttled: true, retry_after: Some(Duration::from_secs(seconds)), ..left(0) };
    tell(&limits, A, refused(1)).await;
    let began = Instant::now();
    let ticket = limits.admit(writes(A, 1)).await.expect("within moments");
    assert!(began.elapsed() >= Duration::from_secs(1));
    // Longer than a call may wait in place: nothing is sent, and the time to come back is told.
    ticket.answered(refused(60));
    let began = Instant::now();
    let error = limits.admit(writes(A, 1)).await.expect_err("turned away");
    assert_eq!((error.kind, error.status), (AzureErrorKind::RateLimited, None));
    assert!(began.elapsed() < PATIENCE, "at once");
    assert!(error.retry_after.is_some_and(|after| after >= Duration::from_secs(60)), "{error:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_leaves_its_seat() {
    let limits = Limits::new(Clock::System);
    tell(&limits, A, left(0)).await;
    for _ in 0..100 {
        assert!(limits.admit(writes(A, 1)).now_or_never().is_none(), "it waits, and is dropped");
    }
    limits.admit(writes(A, 2)).await.expect("the seats are free");
}

#[tokio::test]
async fn by_a_clock_that_a_test_moves_nothing_waits() {
    let clock = Clock::manual(datetime!(2026-01-01 00:00 UTC));
    let limits = Limits::new(clock.clone());
    tell(&limits, A, left(0)).await;
    let error = limits.admit(writes(A, 1)).await.expect_err("turned away at once");
    clock.advance(error.retry_after.expect("when to come back"));
    limits.admit(writes(A, 1)).await.expect("by then there is one");
}

#[tokio::test]
async fn the_number_of_buckets_is_bounded_and_those_in_use_stay() {
    let clock = Clock::manual(datetime!(2026-01-01 00:00 UTC));
    let limits = Limits::new(clock.clone());
    let in_use = limits.admit(writes(A, 1)).await.expect("a token");
    for n in 0..MOST_BUCKETS as u128 * 2 {
        clock.advance(Duration::from_millis(1));
        tell(&limits, Uuid::from_u128(n + 1000), left(9)).await;
        assert!(limits.lock().shares.len() <= MOST_BUCKETS);
    }
    in_use.answered(left(0));
    assert!(limits.admit(writes(A, 1)).await.is_err(), "what it learned was kept");
}

#[tokio::test]
async fn vaults_that_are_not_called_any_more_are_forgotten_and_subscriptions_are_not() {
    let clock = Clock::manual(datetime!(2026-01-01 00:00 UTC));
    let limits = Limits::new(clock.clone());
    let vault = |n: u32, job| {
        let key = Key::Store(format!("https://kv{n}.vault.azure.net/"), Work::Other);
        Ask { key, job: Uuid::from_u128(job), lane: A, looks: false }
    };
    tell(&limits, A, left(0)).await;
    let asked_to_wait = Told { throttled: true, retry_after: Some(Duration::from_secs(3600)), ..Told::default() };
    limits.admit(vault(0, 1)).await.expect("a token").answered(asked_to_wait);
    let under_way = limits.admit(vault(1, 1)).await.expect("a token");
    for n in 2..100 {
        limits.admit(vault(n, 1)).await.expect("a token").answered(Told::default());
    }
    clock.advance(Duration::from_secs(601));
    limits.admit(vault(200, 1)).await.expect("a token").answered(Told::default());
    let mut kept: Vec<String> = limits.lock().shares.keys().map(|key| format!("{key:?}")).collect();
    kept.sort();
    let names: Vec<&str> = kept
        .iter()
        .map(|key| key.split("//").nth(1).map_or(key.as_str(), |s| s.split('.').next().unwrap_or(s)))
        .collect();
    assert_eq!(names, ["kv0", "kv1", "kv200", &kept[3]], "{kept:?}");
    assert!(kept[3].starts_with("Subscription"));
    under_way.answered(Told::default());
}

//! Azure Resource Manager's token buckets, by the simulator's clock.

use azure_sim::{Bucket, Options, Throttling};
use serde_json::json;

use crate::client::{Answer, Lab, options};

async fn small(reads: u32, per_second: f64) -> Lab {
    let bucket = Bucket { burst: reads, per_second };
    Lab::with(Options { throttling: Throttling { reads: bucket, ..Throttling::default() }, ..options() }).await
}

fn left(answer: &Answer, name: &str) -> u32 {
    let value = answer.headers[format!("x-ms-ratelimit-remaining-{name}").as_str()].to_str().expect("text");
    value.parse().expect("a number")
}

#[tokio::test]
async fn the_published_figures_are_the_default_and_headers_count_down() {
    let lab = Lab::with(Options { throttling: Throttling::default(), ..options() }).await;
    let subscription = format!("/subscriptions/{}", lab.sim.subscription_id());
    for expected in [249, 248, 247] {
        let answer = lab.arm("GET", &subscription, None).await.expect(200);
        assert_eq!(left(&answer, "subscription-reads"), expected);
        assert_eq!(left(&answer, "subscription-global-reads"), expected + 3500);
    }
    let write = lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    assert_eq!((left(&write, "subscription-writes"), left(&write, "subscription-global-writes")), (199, 2999));
    let delete = lab.arm("DELETE", &lab.group(), None).await.expect(202);
    assert_eq!(left(&delete, "subscription-deletes"), 199);
    // The tenant's bucket is another one.
    assert_eq!(left(&lab.arm("GET", "/subscriptions", None).await.expect(200), "tenant-reads"), 249);
    lab.advance(1);
    assert_eq!(left(&lab.arm("GET", &subscription, None).await.expect(200), "subscription-reads"), 249);
}

#[tokio::test]
async fn an_empty_bucket_answers_429_until_it_has_filled() {
    let lab = small(3, 0.2).await;
    let subscription = format!("/subscriptions/{}", lab.sim.subscription_id());
    for _ in 0..3 {
        lab.arm("GET", &subscription, None).await.expect(200);
    }
    let refused = lab.arm("GET", &subscription, None).await.refused(429, "SubscriptionRequestsThrottled");
    assert_eq!(refused.headers["retry-after"], "5");
    assert_eq!(left(&refused, "subscription-reads"), 0);
    // Writes, and other principals, have their own.
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    let (id, secret) = lab.sim.outsider();
    let other = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    lab.arm_as(&other, "GET", &subscription, None).await.refused(403, "AuthorizationFailed");
    lab.advance(4);
    assert_eq!(
        lab.arm("GET", &subscription, None).await.refused(429, "SubscriptionRequestsThrottled").headers["retry-after"],
        "1"
    );
    lab.advance(1);
    lab.arm("GET", &subscription, None).await.expect(200);
    // A request without a good token takes nothing.
    lab.advance(5);
    lab.arm_as("nonsense", "GET", &subscription, None).await.expect(401);
    lab.arm("GET", &subscription, None).await.expect(200);
}

#[tokio::test]
async fn the_global_bucket_is_for_all_principals_together() {
    let bucket = Bucket { burst: 4, per_second: 1.0 };
    let throttling = Throttling { reads: bucket, global_factor: 1, ..Throttling::default() };
    let lab = Lab::with(Options { throttling, ..options() }).await;
    let subscription = format!("/subscriptions/{}", lab.sim.subscription_id());
    for _ in 0..4 {
        lab.arm("GET", &subscription, None).await.expect(200);
    }
    let (id, secret) = lab.sim.outsider();
    let other = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    lab.arm_as(&other, "GET", &subscription, None).await.refused(429, "SubscriptionRequestsThrottled");
}

#[tokio::test]
async fn limits_can_be_set_and_switched_off_while_it_runs() {
    let lab = small(1, 0.1).await;
    let subscription = format!("/subscriptions/{}", lab.sim.subscription_id());
    let url = format!("{}/_sim/throttling", lab.sim.arm_url());
    lab.arm("GET", &subscription, None).await.expect(200);
    lab.arm("GET", &subscription, None).await.refused(429, "SubscriptionRequestsThrottled");
    let shown = lab.send("GET", &url, "", None).await.expect(200);
    assert_eq!(shown.body["reads"], json!({ "burst": 1, "perSecond": 0.1 }));
    let off = json!({ "enabled": false });
    lab.send("PUT", &url, "", Some(&off)).await.expect(200);
    for _ in 0..300 {
        lab.arm("GET", &subscription, None).await.expect(200);
    }
    let tiny = json!({ "reads": { "burst": 2, "perSecond": 1.0 } });
    lab.send("PUT", &url, "", Some(&tiny)).await.expect(200);
    assert_eq!(lab.sim.throttling().writes.burst, 200);
    lab.arm("GET", &subscription, None).await.expect(200);
    lab.arm("GET", &subscription, None).await.expect(200);
    lab.arm("GET", &subscription, None).await.expect(429);
    // A reset fills the buckets; the limits stay.
    lab.send("POST", &format!("{}/_sim/reset", lab.sim.arm_url()), "", None).await.expect(204);
    lab.arm("GET", &subscription, None).await.expect(200);
    lab.send("PUT", &url, "", Some(&json!({ "reads": 5 }))).await.refused(400, "BadControlRequest");
}

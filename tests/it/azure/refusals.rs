//! What goes wrong is told apart: refusals, faults, time-outs, foreign addresses.

use std::time::Duration;

use azure_sim::faults::{status, throttled};
use azure_sim::{Action, Rule};
use cmk::azure::vaults::{self, NetworkAcls};
use cmk::azure::{AzureErrorKind, Operation, Timeouts, resource_groups};
use serde_json::json;
use uuid::Uuid;

use super::{Stage, connect, expect_kind, key_spec};

#[tokio::test]
async fn refusals_keep_their_kind() {
    let stage = Stage::start().await;
    let uri = stage.create_vault(None, true).await.expect("created").uri;
    let outsider = stage.outsider();
    let refused = vaults::get(&outsider.arm, &stage.cx, &stage.vault_id()).await;
    let error = expect_kind(refused, AzureErrorKind::Forbidden);
    assert_eq!(error.code.as_deref(), Some("AuthorizationFailed"));
    expect_kind(outsider.keys.get(&stage.cx, &uri, "k", None).await, AzureErrorKind::Forbidden);

    let wrong = connect(&stage.sim, stage.sim.client_id(), "not-the-secret", Timeouts::default(), true);
    let error = expect_kind(wrong.own_principal(&stage.cx).await, AzureErrorKind::Authentication);
    assert_eq!(error.code.as_deref(), Some("AADSTS7000215"), "{error:?}");
    assert!(!format!("{error:?}").contains("not-the-secret"));
    expect_kind(vaults::get(&wrong.arm, &stage.cx, &stage.vault_id()).await, AzureErrorKind::Authentication);
    expect_kind(wrong.keys.get(&stage.cx, &uri, "k", None).await, AzureErrorKind::Authentication);
}

#[tokio::test]
async fn a_closed_vault_says_how_it_is_closed() {
    let stage = Stage::start().await;
    let closed = NetworkAcls { default_allow: false, bypass_trusted: true, ip_rules: Vec::new(), subnets: Vec::new() };
    let uri = stage.create_vault(Some(closed), true).await.expect("created").uri;
    stage.grant_self().await;
    expect_kind(stage.azure.keys.get(&stage.cx, &uri, "k", None).await, AzureErrorKind::FirewallClosed);
    let private = json!({"properties": {"publicNetworkAccess": "Disabled"}});
    let id = stage.vault_id();
    stage.azure.arm.patch(&stage.cx, id.as_str(), vaults::API_VERSION, &private).await.expect("changed");
    let error = stage.azure.keys.get(&stage.cx, &uri, "k", None).await;
    expect_kind(error, AzureErrorKind::ConnectionRefusedByNetwork);
}

#[tokio::test]
async fn faults_of_the_cloud_are_told_apart_and_nothing_is_repeated() {
    for (action, kind, retry_after, happened) in [
        (throttled(17), AzureErrorKind::Throttled, Some(Duration::from_secs(17)), false),
        (throttled(99_999), AzureErrorKind::Throttled, Some(Duration::from_secs(600)), false),
        (status(500, "InternalServerError"), AzureErrorKind::Transient, None, false),
        (status(409, "AnotherOperationInProgress"), AzureErrorKind::Busy, None, false),
        (status(403, "RequestDisallowedByPolicy"), AzureErrorKind::PolicyDenied, None, false),
        (Action::CutBefore, AzureErrorKind::UnknownOutcome, None, false),
        (Action::CutAfter, AzureErrorKind::UnknownOutcome, None, true),
    ] {
        // Clients of their own: those that were throttled send nothing for a while.
        let stage = Stage::start().await;
        let faults = stage.sim.faults();
        let name = format!("rg-{}", Uuid::new_v4());
        let rule = faults.add(Rule::always("PUT", &format!("*/{name}"), action.clone())).expect("a rule");
        let error = expect_kind(stage.create_group(&name).await, kind);
        assert_eq!(error.retry_after, retry_after, "{action:?}");
        assert_eq!(faults.fired(&rule), 1, "{action:?}");
        let group = resource_groups::get(&stage.azure.arm, &stage.cx, stage.subscription(), &name).await;
        assert_eq!(group.expect("answered").is_some(), happened, "{action:?}");
    }
}

#[tokio::test]
async fn a_throttled_or_cut_store_is_told_apart() {
    let stage = Stage::start().await;
    let uri = stage.create_vault(None, true).await.expect("created").uri;
    stage.grant_self().await;
    let (keys, cx) = (&stage.azure.keys, &stage.cx);
    keys.get(cx, &uri, "k", None).await.expect("answered");
    let rule = |action| stage.sim.faults().add(Rule::once("POST", "/keys/k/create", action)).expect("a rule");
    rule(Action::CutAfter);
    expect_kind(keys.create(cx, &uri, "k", &key_spec()).await, AzureErrorKind::UnknownOutcome);
    assert!(keys.get(cx, &uri, "k", None).await.is_ok_and(|key| key.is_some()));
    rule(throttled(5));
    let error = expect_kind(keys.create(cx, &uri, "k", &key_spec()).await, AzureErrorKind::Throttled);
    assert_eq!(error.retry_after, Some(Duration::from_secs(5)));
    let error = expect_kind(keys.create(cx, &uri, "k", &key_spec()).await, AzureErrorKind::RateLimited);
    assert_eq!(error.status, None, "nothing was sent");
    // The Key Vault's name does not resolve yet, or any more.
    let absent = format!("https://kv-none.{}", stage.sim.vault_suffix());
    expect_kind(keys.get(cx, &absent, "k", None).await, AzureErrorKind::NotSent);
}

#[tokio::test]
async fn a_slow_answer_ends_within_the_call_time_out() {
    let stage = Stage::start().await;
    let timeouts = Timeouts { call: Duration::from_millis(700), ..Timeouts::default() };
    let hasty = connect(&stage.sim, stage.sim.client_id(), stage.sim.client_secret(), timeouts, true);
    hasty.own_principal(&stage.cx).await.expect("a token");
    let delay = Action::Delay { millis: 20_000 };
    stage.sim.faults().add(Rule::always("GET", "*/resourcegroups/rg", delay)).expect("a rule");
    let slow = resource_groups::get(&hasty.arm, &stage.cx, stage.subscription(), "rg").await;
    expect_kind(slow, AzureErrorKind::UnknownOutcome);
}

#[tokio::test]
async fn an_outage_of_the_login_host_is_transient() {
    let stage = Stage::start().await;
    stage.sim.faults().add(Rule::once("POST", "*/token", status(503, "temporarily_unavailable"))).expect("a rule");
    let fresh = connect(&stage.sim, stage.sim.client_id(), stage.sim.client_secret(), Timeouts::default(), true);
    let error = resource_groups::get(&fresh.arm, &stage.cx, stage.subscription(), "rg").await;
    assert!(expect_kind(error, AzureErrorKind::Transient).is_transient());
    assert!(resource_groups::get(&fresh.arm, &stage.cx, stage.subscription(), "rg").await.is_ok());
}

#[tokio::test]
async fn no_token_leaves_the_cloud() {
    let stage = Stage::start().await;
    let before = stage.sim.journal().last_seq();
    let port = stage.sim.address().port();
    for url in [format!("https://login.localhost:{port}/o"), "https://evil.example/o".into(), "nonsense".into()] {
        let polled = stage.azure.arm.poll(&stage.cx, &Operation { url }).await;
        expect_kind(polled, AzureErrorKind::UntrustedUrl);
    }
    let foreign = format!("https://kv-one.evil.localhost:{port}");
    expect_kind(stage.azure.keys.get(&stage.cx, &foreign, "k", None).await, AzureErrorKind::UntrustedUrl);
    assert_eq!(stage.sim.journal().last_seq(), before);

    // Without the simulator's certificate authority nothing is said at all, not even a secret.
    let distrustful = connect(&stage.sim, stage.sim.client_id(), stage.sim.client_secret(), Timeouts::default(), false);
    expect_kind(distrustful.own_principal(&stage.cx).await, AzureErrorKind::NotSent);
    assert_eq!(stage.sim.journal().last_seq(), before);
}

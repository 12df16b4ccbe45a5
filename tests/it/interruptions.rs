//! Jobs that are interrupted: by a worker's death, or by Azure, at every single request.

use azure_sim::{Filter, Propagation, Rule, faults};
use serde_json::json;

use crate::steps::new_account;
use crate::steps::world::World;

#[tokio::test]
async fn a_worker_that_dies_before_every_record_leaves_what_an_undisturbed_one_does() {
    let calm = World::instant().await;
    calm.run(&new_account(&calm)).await.must_succeed();
    for propagation in [Propagation::instant(), Propagation::default()] {
        let mut world = World::new(propagation).await;
        world.forgetful = true;
        world.run(&new_account(&world)).await.must_succeed();
        assert_eq!(world.changes(), calm.changes());
    }
}

/// The pattern's two ways: a new account, and one that is changed in place with its own identity.
#[derive(Clone, Copy)]
enum Way {
    New,
    InPlace,
}

async fn prepared(way: Way) -> (World, serde_json::Value) {
    let world = World::instant().await;
    let mut request = new_account(&world);
    if let Way::InPlace = way {
        world.make_group().await;
        world.make_account().await;
        request["target"] = json!({ "resourceId": world.account() });
        request["identity"] = json!({ "kind": "systemAssigned" });
    }
    (world, request)
}

/// Fails the job's n-th request to a host, for every n, and compares what is left with an undisturbed job's.
async fn sweep(way: Way, host: &str, action: &faults::Action) {
    let (calm, request) = prepared(way).await;
    let after = Some(calm.sim.journal().last_seq());
    calm.run(&request).await.must_succeed();
    let asked = calm.sim.journal().count(&Filter { host: Some(host.to_owned()), after, ..Filter::default() });
    assert!(asked > 5, "{asked} requests to {host}");
    for nth in 0..asked {
        let (world, request) = prepared(way).await;
        let rule = Rule::once("*", "*", action.clone()).host(host).skip(u32::try_from(nth).expect("few requests"));
        let rule = world.sim.faults().add(rule).expect("there is room");
        let ran = world.run(&request).await;
        assert!(ran.failed.is_none(), "request {nth}: {:?} after {:?}", ran.failed, ran.waits);
        assert_eq!(world.sim.faults().fired(&rule), 1, "request {nth}");
        assert_eq!(world.changes(), calm.changes(), "request {nth}: {:?}", ran.waits);
    }
}

const ARM: &str = "management.*";
const VAULT: &str = "*.vault.*";

#[tokio::test]
async fn a_connection_cut_after_any_request_to_arm_changes_nothing_more() {
    sweep(Way::New, ARM, &faults::Action::CutAfter).await;
    sweep(Way::InPlace, ARM, &faults::Action::CutAfter).await;
}

#[tokio::test]
async fn a_connection_cut_after_any_request_to_the_vault_changes_nothing_more() {
    sweep(Way::New, VAULT, &faults::Action::CutAfter).await;
}

#[tokio::test]
async fn an_outage_or_throttling_at_any_request_is_outlived() {
    sweep(Way::New, ARM, &faults::status(503, "ServiceUnavailable")).await;
    sweep(Way::InPlace, ARM, &faults::throttled(3)).await;
    sweep(Way::New, VAULT, &faults::throttled(3)).await;
}

//! Threads that tell of other services than storage, or of Managed HSMs, played with those. `docs/scenarios.md` names them.

use azure_sim::{Lag, Options, Propagation};
use cmk::domain::codes::Code;
use cmk::services::find;

use super::*;

fn created(service: &'static ServiceDescriptor) -> Cell {
    let found =
        Cell::all(service).into_iter().find(|c| c.creating && c.identity == IdentityKind::UserAssigned && !c.hsm);
    found.expect("it is created with a key")
}

/// A built-in definition with Deny, in the whole subscription.
async fn deny(place: &Place, guid: &str, effect: &str) {
    let world = &place.world;
    let path = format!(
        "/subscriptions/{}/providers/Microsoft.Authorization/policyAssignments/{}",
        world.sim.subscription_id(),
        &guid[..8]
    );
    let body = json!({ "properties": {
        "policyDefinitionId": format!("/providers/Microsoft.Authorization/policyDefinitions/{guid}"),
        "parameters": { "effect": { "value": effect } },
    } });
    world.put(&path, "2023-04-01", &body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cosmos_and_ai_accounts_are_created_under_the_policies_that_deny_them_without_a_key() {
    for (slug, guid, effect) in [
        ("cosmosdb-account", "1f905d99-2ab7-462c-a6b0-f709acca6c8f", "deny"),
        ("ai-services-account", "67121cc7-ff39-4ab8-b7e3-95b84dab487d", "Deny"),
    ] {
        let service = find(slug).expect("it is in the catalogue");
        let (place, cell) = (Place::new(service).await, created(service));
        place.arrange(0, cell).await;
        deny(&place, guid, effect).await;
        // Without the key it is refused: the policy is at work.
        let plain = place.placed(0, place.target.plain.as_ref().expect("a body under a key of Microsoft"));
        let id = place.id(0, &service.arm_type);
        let cx = CallContext::new(Uuid::nil());
        let refused = place.world.azure.arm.put(&cx, &id, &service.api_version, &plain).await.expect_err("denied");
        assert_eq!(refused.code.as_deref(), Some("RequestDisallowedByPolicy"), "{slug}");
        place.run(0, cell).await.unwrap_or_else(|why| panic!("{slug}: {why}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_ai_account_that_holds_the_name_is_told_with_azures_words_and_left_alone() {
    let service = find("ai-services-account").expect("it is in the catalogue");
    let (place, cell) = (Place::new(service).await, created(service));
    place.arrange(0, cell).await;
    let (world, id) = (&place.world, place.id(0, &service.arm_type));
    let plain = place.placed(0, place.target.plain.as_ref().expect("a body under a key of Microsoft"));
    world.put(&id, &service.api_version, &plain).await;
    world.advance(Duration::from_secs(3600));
    delete(&place, &id).await;
    let before = world.changes().iter().filter(|c| c.contains(&id)).count();
    let job = place.provision(&place.request(0, cell)).await;
    let failure = job.failure.expect("the name is taken");
    assert_eq!(failure.code, Code::AzureConflict);
    let azure = failure.azure.expect("Azure's words");
    assert_eq!(azure.code.as_deref(), Some("FlagMustBeSetForRestore"));
    assert_eq!(
        world.changes().iter().filter(|c| c.contains(&id)).count(),
        before,
        "it is neither purged nor brought back"
    );
}

/// Deletes a resource, as its owner could: the service's own clients cannot.
async fn delete(place: &Place, id: &str) {
    let (world, version) = (&place.world, &place.service.api_version);
    let arm = world.sim.arm_url();
    let token = world.sim.token_for(world.sim.object_id(), &format!("{arm}/")).expect("the principal exists");
    let host = arm.trim_start_matches("https://").to_owned();
    let request = axum::http::Request::delete(format!("{arm}{id}?api-version={version}"))
        .header("host", host)
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::empty())
        .expect("a request");
    let answer = world.sim.answer(request).await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    world.advance(Duration::from_secs(3600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_run_on_an_hsm_waits_for_its_local_roles_and_succeeds() {
    let service = find("storage-account").expect("it is in the catalogue");
    let propagation = Propagation { hsm_grant: Lag::seconds(90.0), ..Propagation::instant() };
    let world = World::start_with(Options { propagation, ..Options::default() }).await;
    let place = Place::in_world(service, world).await;
    let cell = Cell::all(service).into_iter().find(|c| !c.creating && c.hsm).expect("it takes keys of an HSM");
    place.arrange(0, cell).await;
    let job = place.provision(&place.request(0, cell)).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let waited = job.finished_at.expect("it ended") - job.created_at;
    assert!((90..180).contains(&waited.whole_seconds()), "one wait for both roles: {waited}");
    assert!(job.steps.iter().all(|s| s.attempts == 0), "a wait uses no attempt");
}

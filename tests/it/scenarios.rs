//! What users suffered elsewhere, played: each test is a cause of real threads, and shows what a job does instead.
//! `docs/scenarios.md` says which test stands for which thread.
//!
//! What belongs here: whole jobs against the simulator, put into the state that the threads tell of, and what a user would
//! notice. What does not: single steps, which `steps` tests, and services, which `services` tests.

mod access;
mod grants;
mod identities;
mod irreversible;
mod keys;
mod names;
mod network;
mod order;
mod policies;

use std::time::Duration;

use azure_sim::{Filter, Lag, Propagation};
use cmk::domain::codes::Code;
use cmk::domain::job::JobState;
use cmk::store::Job;
use serde_json::{Value, json};

use crate::support::world::World;

/// The vault that requests of a scene name.
const VAULT: &str = "kvcmkdemo1";

/// One world and what it holds.
struct Scene {
    world: World,
}

impl Scene {
    /// Everything is visible at once.
    async fn instant() -> Self {
        Self { world: World::instant().await }
    }

    /// These lags and no others.
    async fn late(late: impl FnOnce(&mut Propagation)) -> Self {
        let mut propagation = Propagation::instant();
        late(&mut propagation);
        Self { world: World::start(propagation).await }
    }

    /// An account and an open, protected vault exist.
    async fn existing() -> Self {
        let scene = Self::instant().await;
        scene.make_account().await;
        scene.make_vault(json!({ "enablePurgeProtection": true })).await;
        scene
    }

    async fn make_account(&self) {
        self.world.make_existing_account().await;
    }

    async fn make_group(&self) {
        let group = format!("/subscriptions/{}/resourceGroups/rg-cmk-demo", self.world.sim.subscription_id());
        self.world.put(&group, "2025-04-01", &json!({ "location": "uksouth" })).await;
    }

    /// A vault in RBAC mode with these properties.
    async fn make_vault(&self, properties: Value) {
        self.make_group().await;
        let mut body = json!({ "location": "uksouth", "properties": {
            "tenantId": self.world.sim.tenant_id(), "sku": { "family": "A", "name": "standard" },
            "enableRbacAuthorization": true,
        } });
        for (name, value) in properties.as_object().expect("an object") {
            body["properties"][name] = value.clone();
        }
        self.world.put(&self.vault(), "2026-02-01", &body).await;
        self.world.advance(Duration::from_secs(60));
    }

    fn vault(&self) -> String {
        self.world.id("rg-cmk-demo", "Microsoft.KeyVault/vaults", VAULT)
    }

    fn account(&self) -> String {
        self.world.id("rg-app", "Microsoft.Storage/storageAccounts", "stcmkdemo1")
    }

    /// A request for an account that exists and a vault that exists; the identity is made.
    fn request(&self) -> Value {
        let mut body = self.world.seed_for_existing();
        body["keyStore"] = json!({ "resourceId": self.vault() });
        body
    }

    /// The simulator's owner asks for something.
    async fn send(&self, method: &str, url: &str, audience: &str, body: Value) -> (u16, Value) {
        let sim = &self.world.sim;
        let token = sim.token_for(sim.object_id(), audience).expect("the principal exists");
        let host = url.trim_start_matches("https://").split('/').next().unwrap_or_default().to_owned();
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = axum::http::Request::builder()
            .method(method)
            .uri(url)
            .header("host", host)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(axum::body::Body::from(text))
            .expect("a request");
        let answer = sim.answer(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a short body");
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// A call of the management plane, which must succeed.
    async fn arm(&self, method: &str, path: &str, api_version: &str, body: Value) -> Value {
        let arm = self.world.sim.arm_url();
        let url = format!("{}{path}?api-version={api_version}", arm.trim_end_matches('/'));
        let (status, answer) = self.send(method, &url, &format!("{}/", arm.trim_end_matches('/')), body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// A call of the vault's data plane, which must succeed.
    async fn keys(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("https://{VAULT}.{}{path}?api-version=7.4", self.world.sim.vault_suffix());
        let (status, answer) = self.send(method, &url, "https://vault.azure.net", body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Gives the service itself the right to make keys, at a scope and under a name of somebody else's choice.
    async fn grant_officer(&self, scope: &str, more: Value) {
        let role = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
        let subscription = format!("/subscriptions/{}", self.world.sim.subscription_id());
        let mut body = json!({ "properties": {
            "roleDefinitionId": format!("{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"),
            "principalId": self.world.sim.object_id(), "principalType": "ServicePrincipal",
        } });
        for (name, value) in more.as_object().expect("an object") {
            body["properties"][name] = value.clone();
        }
        let name = uuid::Uuid::new_v4();
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}");
        self.world.put(&path, "2022-04-01", &body).await;
    }

    /// A key that somebody made.
    async fn make_key(&self, body: Value) -> Value {
        self.grant_officer(&self.vault(), json!({})).await;
        self.keys("POST", "/keys/sa-cmk-key/create", body).await
    }

    async fn succeeds(&self, body: &Value) -> Job {
        self.world.succeed(body).await
    }

    /// The job fails for this reason.
    async fn fails(&self, body: &Value, code: Code) -> Job {
        let job = self.world.provision(body).await;
        assert_eq!(job.state, JobState::Failed);
        let failure = job.failure.clone().expect("a failed job says why");
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(!code.info().remedy.is_empty(), "every failure has a remedy");
        job
    }

    /// The job fails for this reason and has changed nothing of the store, the key and the target.
    async fn refuses(&self, body: &Value, code: Code) -> Job {
        let before = self.world.changes().len();
        let job = self.fails(body, code).await;
        let mut changed: Vec<_> = self.world.changes().into_iter().skip(before).collect();
        // An identity is made while the store is looked at; it gives nobody anything.
        changed.retain(|change| !change.contains("/userAssignedIdentities/"));
        assert_eq!(changed, Vec::<String>::new());
        job
    }

    /// The reasons for which the job waited.
    async fn waits(&self, job: &Job) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for event in self.world.events(job.id).await {
            let reason =
                event.data.pointer("/reason/code").or_else(|| event.data.get("reason")).and_then(Value::as_str);
            told.extend(reason.filter(|_| event.kind == "step-waiting").map(str::to_owned));
        }
        told.sort();
        told.dedup();
        told
    }

    /// Requests that changed something and that this pattern names.
    fn count(&self, method: &str, path: &str) -> usize {
        self.world.sim.journal().count(&Filter { changed: Some(true), ..Filter::on(method, path) })
    }

    /// Versions of keys that were made.
    fn key_versions(&self) -> usize {
        self.count("POST", "/keys/*/create")
    }
}

/// How long the job took, in seconds of the simulator's time.
fn took(job: &Job) -> f64 {
    (job.finished_at.expect("it ended") - job.created_at).as_seconds_f64()
}

fn seconds(n: f64) -> Lag {
    Lag::seconds(n)
}

/// Every test that the page names exists, and every thread is there once.
#[test]
fn the_page_of_scenarios_names_tests_that_exist_and_every_thread_once() {
    let page = crate::support::pages::read("docs/scenarios.md");
    let mut seen = std::collections::BTreeMap::new();
    let mut tests = 0;
    for row in page.lines().filter(|line| line.starts_with("| I")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for thread in cells[1].split(',').map(str::trim) {
            *seen.entry(thread.to_owned()).or_insert(0) += 1;
        }
        for name in cells[3].split('`').skip(1).step_by(2) {
            let (module, test) = name.rsplit_once("::").expect("module and test");
            let module = module.replace("::", "/");
            let text = crate::support::pages::read(&format!("tests/it/{module}.rs"));
            let there = text.contains(&format!("fn {test}(")) || text.contains(&format!("{test}:"));
            assert!(there, "{name} of docs/scenarios.md does not exist");
            tests += 1;
        }
    }
    let want: std::collections::BTreeMap<_, _> = (1..=72).map(|n| (format!("I{n:02}"), 1)).collect();
    assert_eq!(seen, want);
    assert!(tests >= 40, "only {tests} tests are named");
}

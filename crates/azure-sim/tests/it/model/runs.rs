//! The runs: random sequences of operations, sent to the model and to a simulator, whose answers must agree.

use arm_schemas::Watch;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use azure_sim::{Lag, Options, Propagation, Simulator};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};

use super::cloud::{Caller, Cloud, GRANT, KEY_DELETE, KEY_RECOVER, KeyOp, Op, REMOVAL, RETENTION_DAYS, Role, Seen};
use crate::client::watched_by;

/// How many sequences are run in all, and by how many workers.
const RUNS: u32 = 10_000;
const WORKERS: u32 = 2;

struct Lab {
    sim: Simulator,
    tokens: Vec<(Caller, bool, String)>,
    /// Fails the test where a body does not hold to Azure's published types.
    _schemas: Watch,
}

impl Lab {
    async fn start() -> Self {
        let schemas = Watch::new();
        let sim = Simulator::start(Options {
            observer: Some(watched_by(&schemas)),
            fast_keys: true,
            // The runs move the clock by weeks, and a token is minted once.
            token_lifetime: std::time::Duration::from_secs(3_000_000_000),
            journal_capacity: 1,
            propagation: Propagation {
                grant: lag(GRANT),
                grant_removal: lag(REMOVAL),
                key_delete: lag(KEY_DELETE),
                key_recover: lag(KEY_RECOVER),
                ..Propagation::instant()
            },
            ..Options::default()
        })
        .await
        .expect("the simulator starts");
        sim.clock().freeze();
        let mut lab = Self { sim, tokens: Vec::new(), _schemas: schemas };
        for caller in [Caller::Owner, Caller::Guest] {
            for (data, audience) in [(false, "https://management.azure.com"), (true, "https://vault.azure.net")] {
                let token = lab.sim.token_for(lab.object_id(caller), audience).expect("a known principal");
                lab.tokens.push((caller, data, token));
            }
        }
        lab
    }

    fn object_id(&self, caller: Caller) -> &str {
        match caller {
            Caller::Owner => self.sim.object_id(),
            Caller::Guest => "66666666-6666-4666-8666-666666666666",
        }
    }

    /// An empty cloud with one group.
    async fn begin(&self) {
        self.sim.reset();
        let made = self.arm(Caller::Owner, "PUT", &self.group(), Some(json!({ "location": "uksouth" }))).await;
        assert_eq!(made.status, 201);
    }

    fn group(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/rg1", self.sim.subscription_id())
    }

    fn vault(&self, vault: usize) -> String {
        format!("{}/providers/Microsoft.KeyVault/vaults/kv{vault}", self.group())
    }

    fn deleted(&self, vault: usize) -> String {
        let subscription = self.sim.subscription_id();
        format!("/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/uksouth/deletedVaults/kv{vault}")
    }

    async fn arm(&self, by: Caller, method: &str, path: &str, body: Option<Value>) -> Seen {
        let url = format!("{}{path}?api-version=2026-02-01", self.sim.arm_url());
        self.send(by, false, method, &url, body).await.0
    }

    async fn data(&self, by: Caller, method: &str, vault: usize, path: &str, body: Option<Value>) -> (Seen, Value) {
        let url = format!("https://kv{vault}.{}{path}?api-version=7.4", self.sim.vault_suffix());
        self.send(by, true, method, &url, body).await
    }

    async fn send(&self, by: Caller, data: bool, method: &str, url: &str, body: Option<Value>) -> (Seen, Value) {
        let (_, _, token) = self.tokens.iter().find(|(c, d, _)| *c == by && *d == data).expect("all were minted");
        let body = body.map_or_else(Body::empty, |b| Body::from(b.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(body)
            .expect("a request");
        let Some(answer) = self.sim.answer(request).await else {
            return (Seen { status: 0, code: String::new() }, Value::Null);
        };
        let status = answer.status().as_u16();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        let body: Value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
        let mut code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
        if let Some(inner) = body["error"]["innererror"]["code"].as_str() {
            code = format!("{code}/{inner}");
        }
        (Seen { status, code }, body)
    }

    /// Sends the operation; `None` for the passing of time.
    async fn run(&self, op: Op) -> Option<Seen> {
        Some(match op {
            Op::Wait { seconds } => {
                self.sim.clock().advance(std::time::Duration::from_secs(seconds.unsigned_abs()));
                return None;
            }
            Op::PutVault { by, vault, recover, protection } => {
                let mut properties = json!({
                    "tenantId": self.sim.tenant_id(),
                    "sku": { "family": "A", "name": "standard" },
                    "enableRbacAuthorization": true,
                    "softDeleteRetentionInDays": RETENTION_DAYS,
                });
                if let Some(protection) = protection {
                    properties["enablePurgeProtection"] = protection.into();
                }
                if recover {
                    properties["createMode"] = "recover".into();
                }
                let body = json!({ "location": "uksouth", "properties": properties });
                self.arm(by, "PUT", &self.vault(vault), Some(body)).await
            }
            Op::DeleteVault { by, vault } => self.arm(by, "DELETE", &self.vault(vault), None).await,
            Op::GetDeletedVault { vault } => self.arm(Caller::Owner, "GET", &self.deleted(vault), None).await,
            Op::PurgeVault { by, vault } => self.arm(by, "POST", &format!("{}/purge", self.deleted(vault)), None).await,
            Op::Grant { vault, to, role, alias } => {
                let definition = format!(
                    "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{}",
                    self.sim.subscription_id(),
                    role_id(role)
                );
                let body = json!({ "properties": {
                    "roleDefinitionId": definition, "principalId": self.object_id(to), "principalType": "ServicePrincipal",
                } });
                self.arm(Caller::Owner, "PUT", &self.assignment(vault, to, role, alias), Some(body)).await
            }
            Op::Revoke { vault, to, role } => {
                self.arm(Caller::Owner, "DELETE", &self.assignment(vault, to, role, false), None).await
            }
            Op::Key { by, vault, key, op } => self.key(by, vault, key, op).await,
        })
    }

    fn assignment(&self, vault: usize, to: Caller, role: Role, alias: bool) -> String {
        let number = vault * 100 + usize::from(to == Caller::Guest) * 10 + role as usize + usize::from(alias) * 1000;
        let vault = self.vault(vault);
        format!("{vault}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-{number:012}")
    }

    async fn key(&self, by: Caller, vault: usize, key: usize, op: KeyOp) -> Seen {
        let live = format!("/keys/k{key}");
        let deleted = format!("/deletedkeys/k{key}");
        let wrap = json!({ "alg": "RSA-OAEP-256", "value": "AAAA" });
        let (method, path, body) = match op {
            KeyOp::Create => ("POST", format!("{live}/create"), Some(json!({ "kty": "RSA" }))),
            KeyOp::Get => ("GET", live, None),
            KeyOp::Wrap => ("POST", format!("{live}/wrapkey"), Some(wrap)),
            KeyOp::Delete => ("DELETE", live, None),
            KeyOp::GetDeleted => ("GET", deleted, None),
            KeyOp::Recover => ("POST", format!("{deleted}/recover"), None),
            KeyOp::Purge => ("DELETE", deleted, None),
        };
        self.data(by, method, vault, &path, body).await.0
    }

    /// How many versions a key shows, asked by a caller who may read it.
    async fn versions(&self, vault: usize, key: usize) -> Option<usize> {
        for by in [Caller::Owner, Caller::Guest] {
            let (seen, body) = self.data(by, "GET", vault, &format!("/keys/k{key}/versions"), None).await;
            if seen.status == 200 {
                return body["value"].as_array().map(Vec::len);
            }
        }
        None
    }
}

fn lag(seconds: i64) -> Lag {
    Lag::Fixed { seconds: seconds as f64 }
}

fn role_id(role: Role) -> &'static str {
    match role {
        Role::Administrator => "00482a5a-887f-4fb3-b363-3b7fe8e74483",
        Role::Officer => "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
        Role::User => "12338af0-0e69-4776-bea7-57ae8d297424",
        Role::EncryptionUser => "e147488a-f6f5-4113-8e2d-b22465e65bf6",
        Role::Contributor => "f25e0fa2-a7c8-4377-a976-54943a77a395",
    }
}

fn caller() -> impl Strategy<Value = Caller> {
    prop_oneof![Just(Caller::Owner), Just(Caller::Guest)]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Administrator),
        Just(Role::Officer),
        Just(Role::User),
        Just(Role::EncryptionUser),
        Just(Role::Contributor),
    ]
}

fn key_op() -> impl Strategy<Value = KeyOp> {
    prop_oneof![
        3 => Just(KeyOp::Create),
        2 => Just(KeyOp::Get),
        1 => Just(KeyOp::Wrap),
        3 => Just(KeyOp::Delete),
        2 => Just(KeyOp::GetDeleted),
        3 => Just(KeyOp::Recover),
        2 => Just(KeyOp::Purge),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let vault = 0..2_usize;
    prop_oneof![
        3 => (caller(), vault.clone(), any::<bool>(), proptest::option::weighted(0.3, any::<bool>()))
            .prop_map(|(by, vault, recover, protection)| Op::PutVault { by, vault, recover, protection }),
        1 => (caller(), vault.clone()).prop_map(|(by, vault)| Op::DeleteVault { by, vault }),
        1 => vault.clone().prop_map(|vault| Op::GetDeletedVault { vault }),
        1 => (caller(), vault.clone()).prop_map(|(by, vault)| Op::PurgeVault { by, vault }),
        4 => (vault.clone(), caller(), role(), proptest::bool::weighted(0.1))
            .prop_map(|(vault, to, role, alias)| Op::Grant { vault, to, role, alias }),
        2 => (vault.clone(), caller(), role()).prop_map(|(vault, to, role)| Op::Revoke { vault, to, role }),
        12 => (caller(), vault, 0..2_usize, key_op()).prop_map(|(by, vault, key, op)| Op::Key { by, vault, key, op }),
        5 => prop_oneof![6 => 1..7_i64, 1 => Just(86_400_i64), 1 => Just(RETENTION_DAYS * 86_400)]
            .prop_map(|seconds| Op::Wait { seconds }),
    ]
}

/// Every sequence begins with a vault, since little happens without one; the rest is chance.
fn sequence() -> impl Strategy<Value = Vec<Op>> {
    (proptest::option::weighted(0.5, Just(true)), vec(op(), 1..30)).prop_map(|(protection, rest)| {
        let officer = Op::Grant { vault: 0, to: Caller::Guest, role: Role::Officer, alias: false };
        let mut all = vec![
            Op::PutVault { by: Caller::Owner, vault: 0, recover: false, protection },
            officer,
            Op::Wait { seconds: GRANT },
        ];
        all.extend(rest);
        all
    })
}

async fn compare(lab: &Lab, ops: &[Op]) -> Result<usize, TestCaseError> {
    lab.begin().await;
    let mut cloud = Cloud::default();
    let mut compared = 0;
    for (at, op) in ops.iter().enumerate() {
        let expected = cloud.run(*op);
        if expected.is_none() && !matches!(op, Op::Wait { .. }) {
            continue;
        }
        let got = lab.run(*op).await;
        prop_assert_eq!(&got, &expected, "operation {} of {:#?}", at, ops);
        compared += 1;
    }
    for (vault, key, versions) in cloud.versions() {
        if let Some(shown) = lab.versions(vault, key).await {
            prop_assert_eq!(shown, versions, "versions of key {} in vault {} after {:#?}", key, vault, ops);
        }
    }
    Ok(compared)
}

/// One worker's share of the runs, from a seed of its own. Returns how many answers were compared.
fn work(worker: u32) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let lab = runtime.block_on(Lab::start());
    let mut seed = [7_u8; 32];
    seed[0] = u8::try_from(worker).expect("few workers");
    let config = Config { cases: RUNS / WORKERS, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let compared = std::cell::Cell::new(0);
    let outcome = runner.run(&sequence(), |ops| {
        compared.set(compared.get() + runtime.block_on(compare(&lab, &ops))?);
        Ok(())
    });
    if let Err(difference) = outcome {
        panic!("the simulator and the model differ: {difference}");
    }
    compared.get()
}

#[test]
fn ten_thousand_random_sequences_agree_with_the_model() {
    let workers: Vec<_> = (0..WORKERS).map(|worker| std::thread::spawn(move || work(worker))).collect();
    let compared: usize = workers.into_iter().map(|w| w.join().expect("no difference")).sum();
    assert!(compared > RUNS as usize * 10, "only {compared} answers were compared");
}

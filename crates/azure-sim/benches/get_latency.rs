//! How long a GET takes while 200 clients ask, against the named limit of 5 ms at the 99th percentile. Each client has a
//! connection of its own and asks 5 times per second, a third of the time for a key, else for a vault or an account; the
//! load comes from the same machine, so the figure holds the clients' own share of the processors too. Prints one line
//! `S1 p50_ms=… p99_ms=… limit_ms=5 ratio=…`; a ratio above 1 misses the limit.
//!
//! `cargo bench -p azure-sim --bench get_latency`

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_sim::{Options, Propagation, Simulator};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::json;

const CLIENTS: usize = 200;
const SECONDS: u64 = 10;
const EVERY: Duration = Duration::from_millis(200);
const LIMIT_MILLIS: f64 = 5.0;

struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, _: Name) -> Resolving {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Box::pin(std::future::ready(Ok(Box::new(std::iter::once(address)) as Addrs)))
    }
}

fn client(ca: &str) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(ca.as_bytes()).expect("the CA is a certificate");
    reqwest::Client::builder().tls_certs_only([ca]).dns_resolver(Arc::new(Loopback)).build().expect("the client builds")
}

/// The URLs that are asked for, with the token each needs.
async fn prepare(sim: &Simulator) -> Vec<(String, String)> {
    let http = client(sim.ca_pem());
    let arm = sim.token_for(sim.object_id(), "https://management.azure.com").expect("a principal");
    let data = sim.token_for(sim.object_id(), "https://vault.azure.net").expect("a principal");
    let group = format!("{}/subscriptions/{}/resourceGroups/rg1", sim.arm_url(), sim.subscription_id());
    let put = async |path: &str, token: &str, body: serde_json::Value| {
        let url = format!("{path}?api-version=2026-02-01");
        let answer = http.put(url).bearer_auth(token).json(&body).send().await.expect("the simulator answers");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    };
    put(&group, &arm, json!({ "location": "uksouth" })).await;
    let vault = format!("{group}/providers/Microsoft.KeyVault/vaults/kv1");
    let sku = json!({ "family": "A", "name": "standard" });
    let properties = json!({ "tenantId": sim.tenant_id(), "sku": sku, "enableRbacAuthorization": true });
    put(&vault, &arm, json!({ "location": "uksouth", "properties": properties })).await;
    let role = "/providers/Microsoft.Authorization/roleDefinitions/00482a5a-887f-4fb3-b363-3b7fe8e74483";
    let grant = format!("{vault}/providers/Microsoft.Authorization/roleAssignments/{}", uuid::Uuid::nil());
    let properties = json!({ "roleDefinitionId": format!("/subscriptions/{}{role}", sim.subscription_id()),
        "principalId": sim.object_id(), "principalType": "ServicePrincipal" });
    put(&grant, &arm, json!({ "properties": properties })).await;
    let account = format!("{group}/providers/Microsoft.Storage/storageAccounts/sabench01");
    put(&account, &arm, json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } })).await;
    let key = format!("https://kv1.{}/keys/k1", sim.vault_suffix());
    let create = http.post(format!("{key}/create?api-version=7.4")).bearer_auth(&data).json(&json!({ "kty": "RSA" }));
    assert!(create.send().await.expect("the simulator answers").status().is_success());
    sim.clock().advance(Duration::from_secs(60));
    vec![
        (format!("{vault}?api-version=2026-02-01"), arm.clone()),
        (format!("{account}?api-version=2025-08-01"), arm),
        (format!("{key}?api-version=7.4"), data),
    ]
}

async fn ask(ca: String, targets: Arc<Vec<(String, String)>>, number: usize, start: Instant) -> Vec<Duration> {
    let http = client(&ca);
    let first = start + EVERY.mul_f64(number as f64 / CLIENTS as f64);
    let mut beat = tokio::time::interval_at(first.into(), EVERY);
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_secs(SECONDS) {
        beat.tick().await;
        let (url, token) = &targets[(number + times.len()) % targets.len()];
        let began = Instant::now();
        let answer = http.get(url).bearer_auth(token).send().await.expect("the simulator answers");
        assert_eq!(answer.status().as_u16(), 200);
        answer.bytes().await.expect("a body");
        times.push(began.elapsed());
    }
    // The first second is that of the 200 TLS handshakes.
    times.split_off(times.len().min(5))
}

#[tokio::main]
async fn main() {
    let options = Options { propagation: Propagation::instant(), fast_keys: true, ..Options::default() };
    let sim = Simulator::start(options).await.expect("the simulator starts");
    let targets = Arc::new(prepare(&sim).await);
    let start = Instant::now();
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(ask(sim.ca_pem().to_owned(), targets.clone(), number, start))).collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.expect("no client fails"));
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "S1 clients={CLIENTS} requests={} p50_ms={:.2} p99_ms={:.2} limit_ms={LIMIT_MILLIS} ratio={:.2}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.99) / LIMIT_MILLIS
    );
    sim.shutdown().await;
}

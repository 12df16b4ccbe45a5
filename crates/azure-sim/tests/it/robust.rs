//! Many clients at once, hostile input, limits, and a kept CA.

use std::sync::Arc;

use azure_sim::{Filter, Simulator};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Lab, http, options};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_make_one_of_everything() {
    let lab = Arc::new(Lab::start().await);
    lab.ground_with_key().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200u32 {
        let lab = lab.clone();
        tasks.spawn(async move {
            lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(200);
            let grant = lab.grant(100 + n, crate::client::ENCRYPTION_USER, lab.sim.object_id()).await.status;
            lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
            grant
        });
    }
    let mut granted = 0;
    while let Some(status) = tasks.join_next().await {
        match status.expect("no client panics") {
            201 => granted += 1,
            other => assert_eq!(other, 409),
        }
    }
    assert_eq!(granted, 1);
    assert_eq!(lab.sim.journal().count(&Filter { status: Some(500), ..Filter::default() }), 0);
}

#[tokio::test]
async fn hostile_paths_and_bodies_are_answered() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let long = "a".repeat(20_000);
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for path in [
        "/",
        "//",
        "/subscriptions/",
        "/subscriptions//resourceGroups",
        "/%00%ff%zz",
        "/subscriptions/x/y/z?api-version=2024-01-01",
        "/providers",
        "/providers/Microsoft.Authorization",
        "/providers/Microsoft.Authorization/roleDefinitions/x/y",
        &format!("{}/providers/Microsoft.KeyVault/vaults/%F0%9F%92%A9", lab.group()),
        &format!("{}/providers/Microsoft.KeyVault/vaults/{long}", lab.group()),
        &format!("{}/providers/Microsoft.Storage/storageAccounts//", lab.group()),
        &format!("{}/providers/Microsoft.Authorization/roleAssignments/%2e%2e/%2e%2e", lab.vault_id("kv1")),
    ] {
        for method in ["GET", "PUT", "PATCH", "DELETE", "POST", "OPTIONS"] {
            let answer = lab.arm(method, path, Some(json!({ "location": "uksouth" }))).await;
            assert!((200..505).contains(&answer.status), "{method} {path}");
            assert_ne!(answer.status, 500, "{method} {path}: {}", answer.body);
        }
    }
    let url = lab.arm_link(&lab.group());
    for body in ["{", "null", "\"\u{0}\"", deep.as_str(), "{\"location\":{\"a\":[]}}", ""] {
        let answer = lab.http.put(&url).bearer_auth(&lab.arm_token).body(body.to_owned()).send().await;
        assert_eq!(answer.expect("an answer").status(), 400, "{body:.40}");
    }
    let answer = lab.http.put(&url).bearer_auth(&lab.arm_token).body(vec![b' '; 5 << 20]).send().await;
    assert_eq!(answer.expect("an answer").status(), 413);
    for path in ["/", "/keys/", "/keys//create", "/keys/%00", "/keys/k1/a/b/c/d", "/deletedkeys//recover", "/secrets/x"]
    {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let answer = lab.keys(method, "kv1", path, Some(json!({ "kty": [] }))).await;
            assert_ne!(answer.status, 500, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn bytes_that_are_not_tls_close_the_connection() {
    let lab = Lab::start().await;
    let mut stream = tokio::net::TcpStream::connect(lab.sim.address()).await.expect("it accepts");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it takes bytes");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is closed");
    lab.arm("GET", "/subscriptions", None).await.expect(200);
}

#[tokio::test]
async fn ids_are_found_in_any_case_and_answered_in_one() {
    let lab = Lab::start().await;
    lab.ground().await;
    for id in [lab.group(), lab.vault_id("kv1"), lab.identity_id()] {
        for spelled in [id.to_uppercase(), id.to_lowercase()] {
            let shown = lab.arm("GET", &spelled, None).await.expect(200);
            assert_eq!(shown.body["id"], id.as_str());
        }
    }
    let url = format!("https://127.0.0.1:{}/subscriptions?API-Version=2022-12-01", lab.sim.address().port());
    let shown = lab.send("GET", &url, &lab.arm_token, None).await.expect(200);
    assert_eq!(shown.body["value"][0]["state"], "Enabled");
}

#[tokio::test]
async fn the_ca_outlives_a_restart_and_secrets_are_for_the_owner_only() {
    let dir = std::env::temp_dir().join(format!("azure-sim-{}", uuid::Uuid::new_v4()));
    let start = async || {
        let mut options = options();
        options.state_dir = Some(dir.clone());
        Simulator::start(options).await.expect("it starts")
    };
    let first = start().await;
    let trusted = http(first.ca_pem());
    first.shutdown().await;
    let second = start().await;
    let url = format!("{}/metadata/endpoints?api-version=2022-09-01", second.arm_url());
    let answer = trusted.get(url).send().await.expect("the old CA is still good");
    assert_eq!(answer.status(), 200);
    let env = std::fs::read_to_string(dir.join("azure-sim.env")).expect("it was written");
    assert!(env.contains(&format!("export AZURE_CLIENT_SECRET='{}'", second.client_secret())));
    #[cfg(unix)]
    for file in ["azure-sim.env", "ca-key.pem"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.join(file)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    second.shutdown().await;
    std::fs::remove_dir_all(dir).expect("it can go");
}

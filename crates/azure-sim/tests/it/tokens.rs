//! Tokens, their refusal, and the challenge.

use crate::client::Lab;

#[tokio::test]
async fn secrets_buy_tokens_and_wrong_ones_do_not() {
    let lab = Lab::start().await;
    let tenant = lab.sim.tenant_id().to_owned();
    let id = lab.sim.client_id().to_owned();
    let secret = lab.sim.client_secret().to_owned();
    let arm = "https://management.azure.com/.default";
    let good = lab.token_answer(&tenant, &id, &secret, arm).await.expect(200);
    assert!(good.body["expires_in"].is_u64() && good.body["token_type"] == "Bearer");
    for (t, i, s, scope, status, error, code) in [
        (tenant.as_str(), id.as_str(), "nope", arm, 401, "invalid_client", 7_000_215),
        (tenant.as_str(), id.as_str(), "", arm, 401, "invalid_client", 7_000_218),
        (tenant.as_str(), "nobody", secret.as_str(), arm, 400, "unauthorized_client", 700_016),
        ("99999999-0000-0000-0000-000000000000", id.as_str(), secret.as_str(), arm, 400, "invalid_request", 90002),
        (tenant.as_str(), id.as_str(), secret.as_str(), "https://management.azure.com", 400, "invalid_scope", 70011),
    ] {
        let bad = lab.token_answer(t, i, s, scope).await.expect(status);
        assert_eq!(bad.body["error"], error);
        assert_eq!(bad.body["error_codes"][0], code);
        assert!(bad.body["error_description"].as_str().is_some_and(|d| d.starts_with(&format!("AADSTS{code}: "))));
    }
}

#[tokio::test]
async fn discovery_needs_no_token() {
    let lab = Lab::start().await;
    let base = format!("{}/{}", lab.sim.login_url(), lab.sim.tenant_id());
    let config = lab.send("GET", &format!("{base}/v2.0/.well-known/openid-configuration"), "", None).await.expect(200);
    assert_eq!(config.body["token_endpoint"], format!("{base}/oauth2/v2.0/token"));
    let keys = config.body["jwks_uri"].as_str().expect("a URI").to_owned();
    let keys = lab.send("GET", &keys, "", None).await.expect(200);
    assert_eq!(keys.body["keys"][0]["e"], "AQAB");
    let cloud =
        lab.send("GET", &lab.arm_link("/metadata/endpoints?api-version=2022-09-01"), "", None).await.expect(200);
    assert_eq!(cloud.body["suffixes"]["keyVaultDns"], lab.sim.vault_suffix());
}

#[tokio::test]
async fn arm_refuses_missing_foreign_and_expired_tokens() {
    let lab = Lab::start().await;
    let path = lab.group();
    let none = lab.arm_as("", "GET", &path, None).await.refused(401, "AuthenticationFailed");
    let challenge = none.headers["www-authenticate"].to_str().expect("text").to_owned();
    assert!(challenge.contains(&format!("authorization_uri=\"{}/", lab.sim.login_url())), "{challenge}");
    lab.arm_as("a.b.c", "GET", &path, None).await.refused(401, "InvalidAuthenticationToken");
    let vault = lab.vault_token().await;
    lab.arm_as(&vault, "GET", &path, None).await.refused(401, "InvalidAuthenticationToken");
    for audience in ["https://management.core.windows.net//.default", &format!("{}/.default", lab.sim.arm_url())] {
        let token = lab.token(audience).await;
        lab.arm_as(&token, "GET", &path, None).await.refused(404, "ResourceGroupNotFound");
    }
    lab.advance(4000);
    lab.arm("GET", &path, None).await.refused(401, "ExpiredAuthenticationToken");
}

#[tokio::test]
async fn a_vault_challenges_with_its_parent_domain_and_port() {
    let lab = Lab::start().await;
    lab.ground().await;
    let answer = lab.keys_as("", "POST", "kv1", "/keys/k1/create", None).await.refused(401, "Unauthorized");
    assert_eq!(
        answer.headers["www-authenticate"].to_str().expect("text"),
        format!(
            "Bearer authorization=\"{}/{}\", resource=\"https://{}\"",
            lab.sim.login_url(),
            lab.sim.tenant_id(),
            lab.sim.vault_suffix()
        )
    );
    let foreign = lab.keys_as(&lab.arm_token, "GET", "kv1", "/keys", None).await.refused(401, "Unauthorized");
    assert!(foreign.message().starts_with("AKV10022"));
    let public = lab.token("https://vault.azure.net/.default").await;
    lab.keys_as(&public, "GET", "kv1", "/keys", None).await.refused(403, "Forbidden/ForbiddenByRbac");
}

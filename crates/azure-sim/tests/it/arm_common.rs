//! What holds for every type on ARM: registration, api-versions, lists and their pages, HEAD, odd paths.

use azure_sim::{Lag, Options, Propagation};
use serde_json::{Value, json};

use crate::client::{Answer, Lab, options};

fn names(list: &Answer) -> Vec<&str> {
    let items = list.body["value"].as_array().expect("a list");
    items.iter().map(|i| i["name"].as_str().expect("a name")).collect()
}

fn subscription(lab: &Lab) -> String {
    format!("/subscriptions/{}", lab.sim.subscription_id())
}

async fn control(lab: &Lab, method: &str, path: &str, body: Option<Value>) -> Answer {
    lab.send(method, &format!("{}/_sim/{path}", lab.sim.arm_url()), "", body.as_ref()).await
}

#[tokio::test]
async fn an_unregistered_namespace_takes_no_writes_until_it_is_registered() {
    let lab = Lab::with(Options {
        unregistered: vec!["microsoft.keyvault".into(), "Microsoft.Authorization".into()],
        propagation: Propagation { registration: Lag::seconds(5.0), ..Propagation::instant() },
        ..options()
    })
    .await;
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    let refused = lab.arm("PUT", &lab.vault_id("kv1"), Some(lab.vault_body())).await;
    assert_eq!(refused.body["error"]["details"][0]["target"], "Microsoft.KeyVault");
    refused.refused(409, "MissingSubscriptionRegistration");
    lab.arm("GET", &lab.vault_id("kv1"), None).await.refused(404, "ResourceNotFound");
    let provider = format!("{}/providers/Microsoft.KeyVault", subscription(&lab));
    let state = async || lab.arm("GET", &provider, None).await.expect(200).body["registrationState"].clone();
    assert_eq!(state().await, "NotRegistered");
    let answer = lab.arm("POST", &format!("{provider}/register"), None).await.expect(200);
    assert_eq!(answer.body["registrationState"], "Registering");
    assert_eq!(state().await, "Registering");
    lab.advance(6);
    assert_eq!(state().await, "Registered");
    lab.arm("PUT", &lab.vault_id("kv1"), Some(lab.vault_body())).await.expect(201);
    // In use, it stays; unused, it goes.
    lab.arm("POST", &format!("{provider}/unregister"), None).await.refused(409, "Conflict");
    let storage = format!("{}/providers/microsoft.storage", subscription(&lab));
    let answer = lab.arm("POST", &format!("{storage}/unregister"), None).await.expect(200);
    assert_eq!(answer.body["registrationState"], "Unregistering");
    lab.advance(6);
    let answer = lab.arm("GET", &storage, None).await.expect(200);
    assert_eq!(
        (&answer.body["namespace"], &answer.body["registrationState"]),
        (&json!("Microsoft.Storage"), &json!("NotRegistered"))
    );
    let free = format!("{}/providers/Microsoft.Authorization", subscription(&lab));
    let answer = lab.arm("GET", &free, None).await.expect(200);
    assert_eq!(
        (&answer.body["registrationPolicy"], &answer.body["registrationState"]),
        (&json!("RegistrationFree"), &json!("Registered"))
    );
}

#[tokio::test]
async fn the_provider_list_is_spelled_as_terraform_compares_it() {
    let lab = Lab::start().await;
    let path = format!("{}/providers?api-version=2022-09-01", subscription(&lab));
    let list = lab.arm("GET", &path, None).await.expect(200);
    let items = list.body["value"].as_array().expect("a list");
    for wanted in ["Microsoft.KeyVault", "Microsoft.ManagedIdentity", "Microsoft.Storage", "Microsoft.Authorization"] {
        let found = items.iter().find(|p| p["namespace"] == wanted).unwrap_or_else(|| panic!("{wanted} is listed"));
        assert_eq!(found["registrationState"], "Registered");
        for kind in found["resourceTypes"].as_array().expect("types") {
            assert!(kind["apiVersions"].as_array().is_some_and(|v| !v.is_empty()), "{kind}");
            assert!(kind["locations"].as_array().is_some_and(|v| !v.is_empty()), "{kind}");
        }
    }
    lab.arm("GET", &format!("{}/providers/Contoso.Things", subscription(&lab)), None)
        .await
        .refused(404, "InvalidResourceNamespace");
    lab.arm("POST", &format!("{}/providers/Contoso.Things/register", subscription(&lab)), None)
        .await
        .refused(404, "InvalidResourceNamespace");
}

#[tokio::test]
async fn the_control_api_registers_and_unregisters_at_once() {
    let lab = Lab::start().await;
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    let states = control(&lab, "PUT", "registrations", Some(json!({ "microsoft.storage": false }))).await.expect(200);
    assert_eq!(states.body["Microsoft.Storage"], "NotRegistered");
    let plain = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } });
    lab.arm("PUT", &lab.account_id("st1"), Some(plain.clone())).await.refused(409, "MissingSubscriptionRegistration");
    control(&lab, "PUT", "registrations", Some(json!({ "Microsoft.Storage": true }))).await.expect(200);
    lab.arm("PUT", &lab.account_id("st1"), Some(plain)).await.expect(202);
    let wrong = control(&lab, "PUT", "registrations", Some(json!({ "Microsoft.Authorization": false }))).await;
    wrong.refused(400, "BadControlRequest");
    assert_eq!(control(&lab, "GET", "registrations", None).await.expect(200).body["Microsoft.KeyVault"], "Registered");
}

#[tokio::test]
async fn api_versions_are_taken_from_a_types_first_on() {
    let lab = Lab::start().await;
    lab.ground().await;
    let (group, vault) = (lab.group(), lab.vault_id("kv1"));
    let role = format!("{vault}/providers/Microsoft.Authorization/roleDefinitions");
    for (path, version) in [
        (&group, "2023-07-01"),
        (&group, "2025-04-01"),
        (&vault, "2015-06-01"),
        (&vault, "2026-05-15"),
        (&vault, "2031-01-01"),
        (&vault, "2022-02-01-preview"),
        (&role, "2022-05-01-preview"),
        (&role, "2022-04-01"),
    ] {
        lab.arm("GET", &format!("{path}?api-version={version}"), None).await.expect(200);
    }
    for (path, version, code) in [
        (&group, "7.4", "InvalidApiVersionParameter"),
        (&vault, "7.4", "InvalidApiVersionParameter"),
        (&vault, "2026-02-30", "InvalidApiVersionParameter"),
        (&vault, "2014-06-01", "InvalidResourceType"),
        (&lab.identity_id(), "2015-01-01", "InvalidResourceType"),
    ] {
        let refused = lab.arm("GET", &format!("{path}?api-version={version}"), None).await.refused(400, code);
        assert!(refused.message().contains("2"), "the supported versions are named: {}", refused.message());
    }
    let old = format!("{}?api-version=2014-06-01", lab.vault_id("kv2"));
    let refused = lab.arm("PUT", &old, Some(lab.vault_body())).await.refused(400, "NoRegisteredProviderFound");
    for part in ["location 'uksouth'", "API version '2014-06-01'", "type 'vaults'", "2026-02-01"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
}

async fn tagged_vaults(lab: &Lab) {
    lab.ground().await;
    for (name, tags) in [("kv2", json!({ "team": "red" })), ("kv3", json!({ "team": "blue", "env": "dev" }))] {
        let mut body = lab.vault_body();
        body["tags"] = tags;
        lab.arm("PUT", &lab.vault_id(name), Some(body)).await.expect(201);
    }
}

#[tokio::test]
async fn generic_lists_filter_expand_and_page() {
    let lab = Lab::start().await;
    tagged_vaults(&lab).await;
    let base = format!("{}/resources?api-version=2021-04-01", subscription(&lab));
    let in_group =
        format!("{}/resources?api-version=2023-07-01", lab.group().replace("resourceGroups", "resourcegroups"));
    for (filter, expected) in [
        ("resourceType%20eq%20'microsoft.keyvault/VAULTS'", vec!["kv1", "kv2", "kv3"]),
        ("resourceType+eq+'Microsoft.KeyVault/vaults'+and+name+eq+'kv2'", vec!["kv2"]),
        ("tagName eq 'TEAM'", vec!["kv2", "kv3"]),
        ("tagName eq 'team' and tagValue eq 'blue'", vec!["kv3"]),
        ("name eq 'kv1' or name eq 'id1'", vec!["id1", "kv1"]),
        ("substringof('v', name) and name ne 'kv1'", vec!["kv2", "kv3"]),
        ("startswith(tagName, 'en')", vec!["kv3"]),
        (
            "resourceGroup eq 'RG1' and location eq 'UK South' and resourceType ne 'Microsoft.KeyVault/vaults'",
            vec!["id1"],
        ),
        ("resourceGroup eq 'other'", vec![]),
    ] {
        for base in [&base, &in_group] {
            let list = lab.arm("GET", &format!("{base}&$filter={filter}"), None).await.expect(200);
            let mut found = names(&list);
            found.sort_unstable();
            assert_eq!(found, expected, "{filter}");
        }
    }
    for wrong in ["colour eq 'red'", "name eq 'x", "name gt 'x'"] {
        let answer = lab.arm("GET", &format!("{base}&$filter={wrong}"), None).await;
        answer.refused(400, "InvalidFilterInQueryString");
    }
    let list =
        lab.arm("GET", &format!("{in_group}&$expand=provisioningState,createdTime&$top=10"), None).await.expect(200);
    let first = &list.body["value"][0];
    assert_eq!(first["provisioningState"], "Succeeded");
    assert!(
        first["createdTime"].is_string() && first.get("changedTime").is_none() && first.get("properties").is_none()
    );
    assert!(first["id"].as_str().is_some_and(|id| id.contains("/resourceGroups/rg1/")), "{first}");
    let missing = format!("{}/resourceGroups/none/resources?api-version=2021-04-01", subscription(&lab));
    lab.arm("GET", &missing, None).await.refused(404, "ResourceGroupNotFound");
}

#[tokio::test]
async fn pages_lose_and_repeat_nothing_while_the_list_changes() {
    let lab = Lab::start().await;
    tagged_vaults(&lab).await;
    let path = format!("{}/resources?api-version=2021-04-01&$top=2&$filter=resourceType ne 'x'", subscription(&lab));
    let first = lab.arm("GET", &path, None).await.expect(200);
    assert_eq!(names(&first).len(), 2);
    let link = first.body["nextLink"].as_str().expect("there is more").to_owned();
    assert!(link.starts_with(&lab.sim.arm_url()) && link.contains("skiptoken"), "{link}");
    let mut seen: Vec<String> = names(&first).into_iter().map(str::to_owned).collect();
    // What the first page showed last goes away before the second is asked for.
    let last = first.body["value"][1]["id"].as_str().expect("an id");
    lab.arm("DELETE", last, None).await.expect(200);
    let second = lab.send("GET", &link, &lab.arm_token, None).await.expect(200);
    assert!(second.body.get("nextLink").is_none(), "{}", second.body);
    seen.extend(names(&second).into_iter().map(str::to_owned));
    seen.sort_unstable();
    assert_eq!(seen, ["id1", "kv1", "kv2", "kv3"]);
    lab.arm("GET", &format!("{}/resources?api-version=2021-04-01&$skiptoken=%21", subscription(&lab)), None)
        .await
        .refused(400, "InvalidSkipToken");
    lab.arm("GET", &format!("{}/resources?api-version=2021-04-01&$top=x", subscription(&lab)), None)
        .await
        .refused(400, "InvalidTopQueryString");
}

#[tokio::test]
async fn every_list_is_paged_by_the_page_size() {
    let lab = Lab::with(Options { page_size: 2, ..options() }).await;
    tagged_vaults(&lab).await;
    let mut link = lab.arm_link(&format!("{}/providers/Microsoft.KeyVault/vaults", subscription(&lab)));
    let mut pages = Vec::new();
    loop {
        let page = lab.send("GET", &link, &lab.arm_token, None).await.expect(200);
        pages.push(names(&page).len());
        match page.body["nextLink"].as_str() {
            Some(next) => next.clone_into(&mut link),
            None => break,
        }
    }
    assert_eq!(pages, [2, 1]);
}

#[tokio::test]
async fn times_of_creation_and_change_are_kept() {
    let lab = Lab::start().await;
    lab.ground().await;
    let path = format!(
        "{}/resources?api-version=2021-04-01&$filter=name eq 'kv1'&$expand=createdTime,changedTime",
        lab.group()
    );
    let times = async || {
        let list = lab.arm("GET", &path, None).await.expect(200);
        (list.body["value"][0]["createdTime"].clone(), list.body["value"][0]["changedTime"].clone())
    };
    let before = times().await;
    assert_eq!(before.0, before.1);
    lab.advance(60);
    lab.arm("PUT", &lab.vault_id("kv1"), Some(lab.vault_body())).await.expect(200);
    assert_eq!(times().await, before, "a PUT without change changes nothing");
    lab.arm("PATCH", &lab.vault_id("KV1"), Some(json!({ "tags": { "a": "b" } }))).await.expect(200);
    let after = times().await;
    assert!(after.0 == before.0 && after.1 != before.1, "{after:?}");
}

#[tokio::test]
async fn groups_are_listed_by_tag_and_asked_for_by_head() {
    let lab = Lab::start().await;
    lab.ground().await;
    let other = format!("{}/resourceGroups/rg2", subscription(&lab));
    let body = json!({ "location": "uksouth", "tags": { "team": "red" } });
    lab.arm("PUT", &other, Some(body)).await.expect(201);
    let groups = format!("{}/resourcegroups?api-version=2024-11-01", subscription(&lab));
    let list =
        lab.arm("GET", &format!("{groups}&$filter=tagName eq 'team' and tagValue eq 'red'"), None).await.expect(200);
    assert_eq!(names(&list), ["rg2"]);
    let list = lab.arm("GET", &format!("{groups}&$top=1"), None).await.expect(200);
    assert!(names(&list) == ["rg1"] && list.body["nextLink"].is_string());
    lab.arm("GET", &format!("{groups}&$filter=name eq 'rg1'"), None).await.refused(400, "InvalidFilterInQueryString");
    for (path, status) in [
        (lab.group(), 204),
        (lab.group().to_uppercase(), 204),
        (format!("{}x", lab.group()), 404),
        (lab.vault_id("kv1"), 204),
        (lab.vault_id("KV1"), 204),
        (lab.vault_id("kv9"), 404),
        (lab.identity_id(), 204),
    ] {
        lab.arm("HEAD", &path, None).await.expect(status);
    }
}

#[tokio::test]
async fn paths_are_read_kindly_and_methods_strictly() {
    let lab = Lab::start().await;
    lab.ground().await;
    let id = lab.vault_id("kv1");
    for spelled in
        [format!("{id}/"), id.replace("/providers", "//providers"), id.to_lowercase(), id.replace("kv1", "k%761")]
    {
        let shown = lab.arm("GET", &spelled, None).await.expect(200);
        assert_eq!(shown.body["id"], id.as_str(), "{spelled}");
    }
    let grants = format!("{}/providers/Microsoft.Authorization", lab.group());
    for (method, path, status, code) in [
        ("POST", lab.vault_id("kv1"), 405, "MethodNotAllowed"),
        ("PATCH", format!("{grants}/locks/l1"), 405, "MethodNotAllowed"),
        ("POST", format!("{grants}/roleAssignments/x"), 405, "MethodNotAllowed"),
        ("DELETE", subscription(&lab), 404, "InvalidResourceType"),
        ("GET", format!("{}/nothing", subscription(&lab)), 404, "InvalidResourceType"),
        ("GET", format!("{grants}/things/x"), 404, "InvalidResourceType"),
        ("GET", format!("{}/providers/Microsoft.KeyVault/wells/w", lab.group()), 404, "InvalidResourceType"),
        ("GET", "/nowhere".to_owned(), 404, "InvalidResourceType"),
        ("GET", format!("{grants}/policySetDefinitions"), 501, "NotPlayedBySimulator"),
    ] {
        lab.arm(method, &path, None).await.refused(status, code);
    }
}

#[tokio::test]
async fn answers_carry_arms_headers() {
    let lab = Lab::start().await;
    lab.ground().await;
    let (client, correlation) = ("11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555");
    let ask = async |returns: &str| {
        let request = lab.http.get(lab.arm_link(&lab.group())).bearer_auth(&lab.arm_token);
        let request =
            request.header("x-ms-client-request-id", client).header("x-ms-correlation-request-id", correlation);
        request.header("x-ms-return-client-request-id", returns).send().await.expect("an answer").headers().clone()
    };
    let headers = ask("true").await;
    assert_eq!(
        (&headers["x-ms-client-request-id"], &headers["x-ms-correlation-request-id"]),
        (&client.parse().expect("text"), &correlation.parse().expect("text"))
    );
    let routing = headers["x-ms-routing-request-id"].to_str().expect("text").to_owned();
    assert_eq!(routing.split(':').count(), 3, "{routing}");
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("expires", "-1"),
        ("x-content-type-options", "nosniff"),
        ("x-ms-ratelimit-remaining-subscription-reads", "249"),
        ("x-ms-ratelimit-remaining-subscription-global-reads", "3749"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(!ask("false").await.contains_key("x-ms-client-request-id"));
    let wrong = lab
        .http
        .get(lab.arm_link(&lab.group()))
        .bearer_auth(&lab.arm_token)
        .header("x-ms-correlation-request-id", "no guid");
    let made = wrong.send().await.expect("an answer").headers()["x-ms-correlation-request-id"].clone();
    assert!(uuid::Uuid::try_parse(made.to_str().expect("text")).is_ok());
}

//! The identity endpoints on the plain port: the metadata service of a virtual machine and a web app's.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::client::{Lab, options};

async fn lab() -> Lab {
    let mut options = options();
    options.identity_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let lab = Lab::with(options).await;
    lab.ground().await;
    lab
}

async fn get(lab: &Lab, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let url = format!("{}{path}", lab.sim.identity_url().expect("there is a plain port"));
    let mut request = lab.http.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("it answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

const METADATA: &[(&str, &str)] = &[("Metadata", "true")];

fn imds(more: &str) -> String {
    format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net{more}")
}

#[tokio::test]
async fn the_metadata_service_gives_out_the_machines_identities() {
    let lab = lab().await;
    let identity = lab.arm("GET", &lab.identity_id(), None).await.expect(200);
    let text = |name: &str| identity.body["properties"][name].as_str().expect("an id").to_owned();
    let (client, principal) = (text("clientId"), text("principalId"));
    for by in [
        String::new(),
        format!("&client_id={client}"),
        format!("&object_id={principal}"),
        format!("&msi_res_id={}", lab.identity_id()),
    ] {
        let (status, token) = get(&lab, &imds(&by), METADATA).await;
        assert_eq!((status, &token["client_id"]), (200, &json!(client)), "{by}: {token}");
        assert_eq!(token["resource"], "https://vault.azure.net");
        for number in ["expires_in", "expires_on", "ext_expires_in", "not_before"] {
            assert!(token[number].as_str().is_some_and(|n| n.parse::<u64>().is_ok()), "{number} is a string: {token}");
        }
    }
    // The token is as good as any other.
    let (_, token) = get(&lab, &imds(""), METADATA).await;
    let token = token["access_token"].as_str().expect("a token").to_owned();
    lab.keys_as(&token, "GET", "kv1", "/keys", None).await.refused(403, "Forbidden/ForbiddenByRbac");

    let refused = |path: String, headers| {
        let lab = &lab;
        async move {
            let (status, body) = get(lab, &path, headers).await;
            assert_eq!((status, &body["error"]), (400, &json!("invalid_request")), "{path}: {body}");
        }
    };
    refused(imds(""), &[]).await;
    refused(imds(""), &[("Metadata", "true"), ("X-Forwarded-For", "1.2.3.4")]).await;
    refused(imds("&client_id=99999999-0000-4000-8000-000000000000"), METADATA).await;
    refused("/metadata/identity/oauth2/token?resource=x".to_owned(), METADATA).await;
    refused("/metadata/identity/oauth2/token?api-version=2018-02-01".to_owned(), METADATA).await;
    assert_eq!(get(&lab, "/metadata/instance?api-version=2021-02-01", METADATA).await.0, 200);
    assert_eq!(get(&lab, "/other", METADATA).await.0, 404);
}

#[tokio::test]
async fn which_identities_the_machine_has_can_be_told() {
    let lab = lab().await;
    let second = format!("{}2", lab.identity_id());
    lab.arm("PUT", &second, Some(json!({ "location": "uksouth" }))).await.expect(201);
    // Without a name there must be one only.
    let (status, body) = get(&lab, &imds(""), METADATA).await;
    assert_eq!(status, 400, "{body}");
    assert!(body["error_description"].as_str().is_some_and(|t| t.starts_with("Multiple user assigned identities")));
    let machine = lab.arm_link("/_sim/machine");
    lab.send("PUT", &machine, "", Some(&json!({ "userAssigned": [second] }))).await.expect(200);
    assert_eq!(get(&lab, &imds(""), METADATA).await.0, 200);
    assert_eq!(get(&lab, &imds(&format!("&msi_res_id={}", lab.identity_id())), METADATA).await.0, 400);
    lab.send("PUT", &machine, "", Some(&json!({ "userAssigned": [] }))).await.expect(200);
    assert_eq!(get(&lab, &imds(""), METADATA).await.1["error_description"], "Identity not found");
    lab.send("PUT", &machine, "", Some(&json!({ "systemAssigned": second }))).await.expect(200);
    assert_eq!(get(&lab, &imds(""), METADATA).await.0, 200);
    lab.send("PUT", &machine, "", Some(&json!({ "other": 1 }))).await.refused(400, "BadControlRequest");
}

#[tokio::test]
async fn a_web_apps_endpoint_wants_its_header() {
    let lab = lab().await;
    let path = "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net";
    let header = lab.sim.identity_header().to_owned();
    let good: &[(&str, &str)] = &[("X-IDENTITY-HEADER", &header)];
    let (status, token) = get(&lab, path, good).await;
    assert_eq!(status, 200, "{token}");
    assert!(token["expires_on"].is_string() && token.get("expires_in").is_none(), "{token}");
    for named in ["mi_res_id", "msi_res_id"] {
        let path = format!("{path}&{named}={}", lab.identity_id());
        assert_eq!(get(&lab, &path, good).await.0, 200, "{named}");
    }
    for (path, headers, status) in [
        (path, &[][..], 401),
        (path, &[("X-IDENTITY-HEADER", "wrong")], 401),
        ("/msi/token?resource=x", good, 400),
        ("/msi/token?api-version=2019-08-01", good, 400),
    ] {
        let (got, body) = get(&lab, path, headers).await;
        assert_eq!((got, &body["statusCode"]), (status, &json!(status)), "{path}: {body}");
    }
}

#[tokio::test]
async fn faults_and_the_journal_know_the_plain_port() {
    let lab = lab().await;
    let rule = azure_sim::Rule::once("GET", "/metadata/identity/*", azure_sim::faults::throttled(3));
    lab.sim.faults().add(rule).expect("there is room");
    assert_eq!(get(&lab, &imds(""), METADATA).await.0, 429);
    assert_eq!(get(&lab, &imds(""), METADATA).await.0, 200);
    let asked = azure_sim::Filter { surface: Some("identity".into()), ..azure_sim::Filter::default() };
    assert_eq!(lab.sim.journal().count(&asked), 2);
}

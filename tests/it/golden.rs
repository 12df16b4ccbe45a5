//! Files that are compared whole, and rewritten with `UPDATE_GOLDEN=1`: plans and the list of every wire string.

mod bodies;

use std::fs;
use std::path::PathBuf;

use cmk::domain::codes::Code;
use cmk::domain::job::{JobKind, JobState, StepState};
use cmk::domain::reader::FIELD_ERROR_CODES;
use cmk::plan::plan;
use cmk::services;
use cmk::steps::{StepSpec, WAIT_CODES};
use cmk::store::EventKind;
use serde_json::{Value, json};

use crate::support::world::parse;

const SUB: &str = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg-cmk-demo/providers";

fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(&path, text).expect("the file can be written");
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(stored, text, "tests/golden/{name} differs; `just golden` rewrites it if the change is meant");
}

fn check_plan(name: &str, body: &Value) {
    let request = parse(body);
    let (descriptor, faults) = services::rules::check(&request);
    assert!(faults.is_empty(), "{faults:?}");
    let plan = plan(&request, descriptor.expect("a known service"));
    let text = serde_json::to_string_pretty(&plan).expect("a plan is JSON");
    // A stored plan must be read back by this code, for ever.
    assert_eq!(serde_json::from_str::<cmk::plan::Plan>(&text).expect("a plan is read back"), plan);
    check(&format!("plans/{name}.json"), &(text + "\n"));
}

fn seed() -> Value {
    json!({
        "target": { "resourceId": format!("{SUB}/Microsoft.Storage/storageAccounts/stcmkdemo1"), "create": { "location": "uksouth" } },
        "keyStore": {
            "resourceId": format!("{SUB}/Microsoft.KeyVault/vaults/kvcmkdemo1"),
            "create": { "location": "uksouth", "network": { "allowedIps": ["203.0.113.0/24"] } }
        },
        "key": { "name": "sa-cmk-key" },
        "createResourceGroups": true
    })
}

#[test]
fn golden_plan_of_the_seed() {
    check_plan("storage-account-new", &seed());
}

#[test]
fn golden_plan_for_an_existing_account() {
    let mut body = seed();
    body["target"].as_object_mut().expect("an object").remove("create");
    check_plan("storage-account-existing", &body);
}

#[test]
fn golden_plan_with_the_accounts_own_identity() {
    let mut body = seed();
    body["target"].as_object_mut().expect("an object").remove("create");
    body["identity"] = json!({ "kind": "systemAssigned" });
    body["key"]["version"] = "pinned".into();
    body["key"]["rotation"] = json!({ "every": "P1Y" });
    body["acknowledge"] = json!(["enable-purge-protection"]);
    check_plan("storage-account-system-assigned", &body);
}

#[test]
fn golden_plan_of_an_account_that_is_created_with_its_own_identity() {
    let mut body = seed();
    body["identity"] = json!({ "kind": "systemAssigned" });
    check_plan("storage-account-new-system-assigned", &body);
}

#[test]
fn golden_plans_of_keys_whose_reader_the_service_makes() {
    for service in ["databricks-managed-disks", "databricks-dbfs-root"] {
        let body = json!({
            "target": { "resourceId": format!("{SUB}/Microsoft.Databricks/workspaces/dbw1"), "service": service },
            "keyStore": { "resourceId": format!("{SUB}/Microsoft.KeyVault/vaults/kvcmkdemo1") },
            "key": { "name": "dbw-key", "version": "pinned" },
            "identity": { "kind": "systemAssigned" },
        });
        check_plan(service, &body);
    }
}

#[test]
fn golden_list_of_wire_strings() {
    let mut lines = Vec::new();
    let mut section = |title: &str, words: Vec<&str>| {
        lines.push(format!("# {title}"));
        for word in &words {
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{word}");
        }
        lines.extend(words.into_iter().map(str::to_owned));
    };
    section("error codes", Code::ALL.iter().map(|c| c.as_str()).collect());
    section("field error codes", FIELD_ERROR_CODES.to_vec());
    section("job kinds", JobKind::ALL.iter().map(|k| k.as_str()).collect());
    section("job states", JobState::ALL.iter().map(|s| s.as_str()).collect());
    section("step states", StepState::ALL.iter().map(|s| s.as_str()).collect());
    section("steps", StepSpec::KINDS.to_vec());
    section("wait reasons", WAIT_CODES.to_vec());
    section("event kinds", EventKind::ALL.iter().map(|k| k.as_str()).collect());
    section("services", services::ALL.iter().map(|d| d.slug.as_str()).collect());
    check("wire-strings.txt", &(lines.join("\n") + "\n"));
}

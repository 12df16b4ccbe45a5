//! The committed contract is the one the code makes, and it is complete.

use std::collections::BTreeSet;
use std::path::Path;

use cmk::domain::codes::Code;
use serde_json::Value;

fn document() -> Value {
    serde_json::from_str(cmk::api::openapi::text()).expect("the contract is JSON")
}

/// Every operation with its address.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().expect("a path item").iter().map(move |(method, o)| (format!("{method} {path}"), o))
        })
        .collect()
}

#[test]
fn the_committed_contract_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let generated = cmk::api::openapi::text();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, generated).expect("the contract can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "openapi/openapi.json is stale; run the tests with UPDATE_GOLDEN=1 and look at the difference"
    );
}

#[test]
fn every_operation_and_every_answer_is_described_with_an_example() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let tags: BTreeSet<&str> =
        document["tags"].as_array().expect("tags").iter().filter_map(|t| t["name"].as_str()).collect();
    let mut ids = BTreeSet::new();
    let mut missing = Vec::new();
    for (address, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_default();
        if id.is_empty() || !ids.insert(id.to_owned()) {
            missing.push(format!("{address}: an operationId of its own"));
        }
        for member in ["summary", "description"] {
            if operation[member].as_str().is_none_or(str::is_empty) {
                missing.push(format!("{address}: {member}"));
            }
        }
        let own_tags = operation["tags"].as_array().cloned().unwrap_or_default();
        if own_tags.is_empty() || !own_tags.iter().all(|t| t.as_str().is_some_and(|t| tags.contains(t))) {
            missing.push(format!("{address}: a described tag"));
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["description"].as_str().is_none_or(str::is_empty) {
                missing.push(format!("{address}: description of {}", parameter["name"]));
            }
        }
        for (status, response) in operation["responses"].as_object().expect("responses") {
            if response["description"].as_str().is_none_or(str::is_empty) {
                missing.push(format!("{address} {status}: description"));
            }
            if response["headers"]["X-Request-Id"].is_null() {
                missing.push(format!("{address} {status}: X-Request-Id"));
            }
            let contents = response["content"].as_object();
            if contents.is_none_or(|c| c.is_empty()) && !matches!(status.as_str(), "204" | "304") {
                missing.push(format!("{address} {status}: content"));
            }
            for (kind, content) in contents.into_iter().flatten() {
                let examples = content["examples"].as_object().is_some_and(|e| !e.is_empty());
                if content["example"].is_null() && !examples {
                    missing.push(format!("{address} {status} {kind}: example"));
                }
                if content["schema"].is_null() {
                    missing.push(format!("{address} {status} {kind}: schema"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "the contract lacks:\n{}", missing.join("\n"));
    let wanted = [
        "cancel_job",
        "check_liveness",
        "check_readiness",
        "create_job",
        "create_plan",
        "get_error",
        "get_job",
        "get_openapi",
        "get_service",
        "list_errors",
        "list_job_events",
        "list_jobs",
        "list_services",
        "retry_job",
    ];
    assert_eq!(ids, wanted.map(str::to_owned).into(), "operationIds are names that clients are generated with");
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("references stay in the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn the_problem_schema_lists_every_code_that_is_answered() {
    let document = document();
    let listed = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone();
    let listed: Vec<&str> = listed.as_array().expect("an enum").iter().filter_map(Value::as_str).collect();
    let answered: Vec<&str> = Code::ALL.iter().filter(|c| c.info().status.is_some()).map(|c| c.as_str()).collect();
    assert_eq!(listed, answered);
    // And every one of them is the example of some answer.
    let text = cmk::api::openapi::text();
    for code in answered.iter().filter(|c| !matches!(**c, "method-not-allowed")) {
        assert!(text.contains(&format!("\"code\": \"{code}\"")), "{code} is no answer's example");
    }
}

#[test]
fn the_request_examples_are_the_files() {
    let document = document();
    let examples = &document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["examples"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/examples");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let body: Value = serde_json::from_str(&text).expect("the file is JSON");
        assert_eq!(examples[&name]["value"], body, "{name}");
        let (request, faults) = cmk::domain::request_parse::parse(&body);
        assert_eq!(faults, [], "{name}");
        let (descriptor, broken) = cmk::services::rules::check(&request.expect("a request"));
        assert!(descriptor.is_some() && broken.is_empty(), "{name}: {broken:?}");
        files += 1;
    }
    assert_eq!(Some(files), examples.as_object().map(serde_json::Map::len));
}

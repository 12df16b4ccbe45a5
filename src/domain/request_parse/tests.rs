//! Wrong requests and what is said about them; defaults; and that parser and published schema agree.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::parse;
use crate::domain::reader::FIELD_ERROR_CODES;
use crate::domain::request::{CmkRequest, IdentityKind, KeyOperation, KeyType, KeyVersion, VaultSku};

const GROUP: &str = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg/providers";

fn id(resource_type: &str, name: &str) -> String {
    format!("{GROUP}/{resource_type}/{name}")
}

fn minimal() -> Value {
    json!({
        "target": { "resourceId": id("Microsoft.Storage/storageAccounts", "st1") },
        "keyStore": { "resourceId": id("Microsoft.KeyVault/vaults", "kv-1") },
    })
}

/// A request with every member there is.
fn complete() -> Value {
    json!({
        "kind": "provision",
        "target": {
            "resourceId": id("Microsoft.Storage/storageAccounts", "st1"),
            "service": "storage-account",
            "create": {
                "location": "UK South", "sku": "Standard_ZRS", "kind": "StorageV2", "tags": { "a": "b" },
                "properties": { "accessTier": "Hot" },
            },
        },
        "keyStore": {
            "resourceId": id("Microsoft.KeyVault/vaults", "kv-1"),
            "create": {
                "location": "uksouth", "sku": "premium", "softDeleteRetentionDays": 7, "tags": { "c": "d" },
                "network": {
                    "allowedIps": ["203.0.113.0/24", "198.51.100.7"],
                    "allowedSubnets": [id("Microsoft.Network/virtualNetworks/vnet/subnets", "s1")],
                    "bypassTrustedServices": true,
                },
            },
            "onDeletedName": "recover",
            "grantOwnAccess": false,
        },
        "key": {
            "name": "k", "type": "RSA-HSM", "size": 3072, "operations": ["wrapKey", "unwrapKey"], "version": "pinned",
            "versionId": "0123456789ABCDEF0123456789abcdef", "expiresAfter": "P1Y",
            "rotation": { "every": "P90D", "notifyBeforeExpiry": "P1M" },
        },
        "identity": {
            "kind": "userAssigned",
            "resourceId": id("Microsoft.ManagedIdentity/userAssignedIdentities", "id-1"),
            "create": { "location": "uksouth" },
        },
        "createResourceGroups": true,
        "accessTimeout": "PT10M",
        "acknowledge": ["enable-purge-protection"],
        "labels": { "team": "payments" },
    })
}

/// `base` with the value at `pointer` replaced; missing objects on the way are made.
fn with(mut base: Value, pointer: &str, value: Value) -> Value {
    let mut place = &mut base;
    for name in pointer.split('/').skip(1) {
        place = match place {
            Value::Array(items) => &mut items[name.parse::<usize>().expect("an index")],
            other => &mut other[name],
        };
    }
    *place = value;
    base
}

fn without(mut base: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer below the root");
    base.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(name);
    base
}

fn faults(body: &Value) -> Vec<(String, String)> {
    parse(body).1.into_iter().map(|f| (f.pointer, f.code)).collect()
}

/// What to set where in a complete request, and the code of the one fault that follows at that place.
fn wrong_values() -> Vec<(&'static str, Value, &'static str)> {
    let long = "x".repeat(300);
    let many =
        |n: usize| -> Value { (0..n).map(|i| (format!("k{i}"), json!("v"))).collect::<serde_json::Map<_, _>>().into() };
    vec![
        ("/kind", json!("rotate"), "invalid-value"),
        ("/kind", json!(1), "wrong-type"),
        ("/target", json!("x"), "wrong-type"),
        ("/target", json!([]), "wrong-type"),
        ("/target/resourceId", json!(7), "wrong-type"),
        ("/target/resourceId", json!(""), "invalid-value"),
        ("/target/resourceId", json!("st1"), "invalid-value"),
        ("/target/resourceId", json!("/subscriptions/x/resourceGroups/rg/providers/A.B/c/d"), "invalid-value"),
        ("/target/resourceId", json!(format!("{GROUP}/Microsoft.Storage/storageAccounts/st1?x=1")), "invalid-value"),
        ("/target/resourceId", json!(format!("{GROUP}/Microsoft.Storage/storageAccounts/..")), "invalid-value"),
        ("/target/resourceId", json!(format!("/{}", "x".repeat(2048))), "too-long"),
        ("/target/service", json!(7), "wrong-type"),
        ("/target/service", json!("x".repeat(65)), "too-long"),
        ("/target/create", json!(true), "wrong-type"),
        ("/target/create/location", json!("uk-south"), "invalid-value"),
        ("/target/create/location", json!(""), "invalid-value"),
        ("/target/create/location", json!(null), "required"),
        ("/target/create/sku", json!(""), "invalid-value"),
        ("/target/create/sku", json!("x".repeat(65)), "too-long"),
        ("/target/create/kind", json!({}), "wrong-type"),
        ("/target/create/tags", json!({ "a": 1 }), "invalid-value"),
        ("/target/create/tags", json!({ "": "v" }), "invalid-value"),
        ("/target/create/tags", many(51), "too-many"),
        ("/target/create/properties", json!([]), "wrong-type"),
        ("/target/create/properties", json!({ "a": ["\u{0}"] }), "invalid-value"),
        ("/target/create/properties", json!({ "\u{0}": 1 }), "invalid-value"),
        ("/target/create/region", json!("uksouth"), "unknown-field"),
        ("/keyStore", json!(null), "required"),
        ("/keyStore/resourceId", json!(null), "required"),
        ("/keyStore/resourceId", json!(format!("{GROUP}/Microsoft.Storage/storageAccounts/st1")), "invalid-value"),
        ("/keyStore/resourceId", json!(format!("{GROUP}/Microsoft.KeyVault/vaults/kv")), "invalid-value"),
        ("/keyStore/resourceId", json!(format!("{GROUP}/Microsoft.KeyVault/vaults/1kv")), "invalid-value"),
        ("/keyStore/resourceId", json!(format!("{GROUP}/Microsoft.KeyVault/vaults/kv--1")), "invalid-value"),
        ("/keyStore/resourceId", json!(format!("{GROUP}/Microsoft.KeyVault/vaults/kv-")), "invalid-value"),
        (
            "/keyStore/resourceId",
            json!(format!("{GROUP}/Microsoft.KeyVault/vaults/{}", "k".repeat(25))),
            "invalid-value",
        ),
        ("/keyStore/create/location", json!(5), "wrong-type"),
        ("/keyStore/create/sku", json!("Premium"), "invalid-value"),
        ("/keyStore/create/softDeleteRetentionDays", json!(6), "out-of-range"),
        ("/keyStore/create/softDeleteRetentionDays", json!(91), "out-of-range"),
        ("/keyStore/create/softDeleteRetentionDays", json!(90.5), "wrong-type"),
        ("/keyStore/create/softDeleteRetentionDays", json!(-1), "wrong-type"),
        ("/keyStore/create/softDeleteRetentionDays", json!("90"), "wrong-type"),
        ("/keyStore/create/enablePurgeProtection", json!(false), "unknown-field"),
        ("/keyStore/create/tags", many(16), "too-many"),
        ("/keyStore/create/network/allowedIps", json!("203.0.113.0/24"), "wrong-type"),
        ("/keyStore/create/network/allowedIps/0", json!("203.0.113.0/33"), "invalid-value"),
        ("/keyStore/create/network/allowedIps/0", json!("203.0.113.1/24"), "invalid-value"),
        ("/keyStore/create/network/allowedIps/0", json!("10.0.0.0/8"), "not-allowed"),
        ("/keyStore/create/network/allowedIps/0", json!("127.0.0.1"), "not-allowed"),
        ("/keyStore/create/network/allowedIps/0", json!("169.254.169.254"), "not-allowed"),
        ("/keyStore/create/network/allowedIps/0", json!("2001:db8::/32"), "invalid-value"),
        ("/keyStore/create/network/allowedIps/1", json!(null), "wrong-type"),
        ("/keyStore/create/network/allowedIps", json!(vec!["203.0.113.7"; 1001]), "too-many"),
        (
            "/keyStore/create/network/allowedSubnets/0",
            json!(format!("{GROUP}/Microsoft.Network/virtualNetworks/v")),
            "invalid-value",
        ),
        ("/keyStore/create/network/bypassTrustedServices", json!("AzureServices"), "wrong-type"),
        ("/keyStore/create/network/defaultAction", json!("Allow"), "unknown-field"),
        ("/keyStore/onDeletedName", json!("purge"), "invalid-value"),
        ("/key", json!("k"), "wrong-type"),
        ("/key/name", json!(""), "invalid-value"),
        ("/key/name", json!("a_b"), "invalid-value"),
        ("/key/name", json!("ключ"), "invalid-value"),
        ("/key/name", json!("k".repeat(128)), "too-long"),
        ("/key/type", json!("rsa"), "invalid-value"),
        ("/key/type", json!("oct"), "invalid-value"),
        ("/key/size", json!(1024), "out-of-range"),
        ("/key/size", json!(4097), "out-of-range"),
        ("/key/size", json!(70_000), "out-of-range"),
        ("/key/size", json!("4096"), "wrong-type"),
        ("/key/operations", json!(["wrapKey"]), "invalid-value"),
        ("/key/operations/1", json!("import"), "invalid-value"),
        ("/key/operations", json!({}), "wrong-type"),
        ("/key/version", json!("0123456789abcdef0123456789abcdef"), "invalid-value"),
        ("/key/versionId", json!(7), "wrong-type"),
        ("/key/versionId", json!("0123456789abcdef0123456789abcde"), "invalid-value"),
        ("/key/versionId", json!("0123456789abcdef0123456789abcdeg"), "invalid-value"),
        ("/key/versionId", json!("0123456789abcdef0123456789abcdef0"), "too-long"),
        ("/key/expiresAfter", json!(365), "wrong-type"),
        ("/key/expiresAfter", json!("2027-01-01T00:00:00Z"), "invalid-value"),
        ("/key/expiresAfter", json!("P1YT1H"), "invalid-value"),
        ("/key/expiresAfter", json!("P27D"), "out-of-range"),
        ("/key/expiresAfter", json!("P11Y"), "out-of-range"),
        ("/key/rotation/every", json!("PT240H"), "invalid-value"),
        ("/key/rotation/every", json!("P359D"), "out-of-range"),
        ("/key/rotation/notifyBeforeExpiry", json!(true), "wrong-type"),
        ("/key/rotation/notifyBeforeExpiry", json!("PT12H"), "invalid-value"),
        ("/key/rotation/notifyBeforeExpiry", json!("P0D"), "out-of-range"),
        ("/key/rotation/notifyBeforeExpiry", json!("P1Y"), "out-of-range"),
        ("/key/rotation", json!("P1Y"), "wrong-type"),
        ("/key/rotation/every", json!("1 year"), "invalid-value"),
        ("/key/rotation/every", json!("P6D"), "out-of-range"),
        ("/key/rotation/every", json!("P11Y"), "out-of-range"),
        ("/key/rotation/every", json!(null), "required"),
        ("/key/rotation/before", json!("P1D"), "unknown-field"),
        ("/key/exportable", json!(true), "unknown-field"),
        ("/identity", json!("systemAssigned"), "wrong-type"),
        ("/identity/kind", json!("SystemAssigned"), "invalid-value"),
        ("/identity/resourceId", json!(format!("{GROUP}/Microsoft.KeyVault/vaults/kv1")), "invalid-value"),
        (
            "/identity/resourceId",
            json!(format!("{GROUP}/Microsoft.ManagedIdentity/userAssignedIdentities/ab")),
            "invalid-value",
        ),
        ("/identity/create/location", json!("!"), "invalid-value"),
        ("/identity/create/name", json!("x"), "unknown-field"),
        ("/identity/clientId", json!("x"), "unknown-field"),
        ("/createResourceGroups", json!("yes"), "wrong-type"),
        ("/accessTimeout", json!(1200), "wrong-type"),
        ("/accessTimeout", json!("20m"), "invalid-value"),
        ("/accessTimeout", json!("PT9S"), "out-of-range"),
        ("/accessTimeout", json!("P2D"), "out-of-range"),
        ("/accessTimeout", json!("P1M"), "out-of-range"),
        ("/accessTimeout", json!("PT99999999999999999999H"), "invalid-value"),
        ("/acknowledge", json!(true), "wrong-type"),
        ("/acknowledge/0", json!("purge"), "invalid-value"),
        ("/labels", json!([]), "wrong-type"),
        ("/labels", json!({ "team": null }), "invalid-value"),
        ("/labels", json!({ "team": long }), "invalid-value"),
        ("/labels", json!({ "team": "a\nb" }), "invalid-value"),
        ("/labels", many(21), "too-many"),
        ("/dryRun", json!(true), "unknown-field"),
    ]
}

#[test]
fn each_wrong_value_is_one_fault_at_its_place() {
    for (pointer, value, code) in wrong_values() {
        let body = with(complete(), pointer, value.clone());
        let shown: String = value.to_string().chars().take(60).collect();
        assert_eq!(faults(&body), [(pointer.to_owned(), code.to_owned())], "{pointer} = {shown}");
        assert!(FIELD_ERROR_CODES.contains(&code), "{code}");
    }
}

#[test]
fn every_single_fault_of_a_body_is_found() {
    let mut body = complete();
    for (pointer, value) in [
        ("/target/resourceId", json!("st1")),
        ("/keyStore/create/sku", json!("gold")),
        ("/keyStore/create/network/allowedIps", json!(["10.0.0.1", "203.0.113.1/24"])),
        ("/key/size", json!(1)),
        ("/identity/resourceId", json!("x")),
        ("/accessTimeout", json!("soon")),
        ("/extra", json!(1)),
    ] {
        body = with(body, pointer, value);
    }
    let found: BTreeSet<String> = faults(&body).into_iter().map(|(pointer, _)| pointer).collect();
    let want = [
        "/extra",
        "/target/resourceId",
        "/keyStore/create/sku",
        "/keyStore/create/network/allowedIps/0",
        "/keyStore/create/network/allowedIps/1",
        "/key/size",
        "/identity/resourceId",
        "/accessTimeout",
    ];
    assert_eq!(found, want.map(str::to_owned).into());
}

#[test]
fn bodies_of_another_shape_are_refused() {
    for body in [json!(null), json!([]), json!("x"), json!(1), json!(true)] {
        assert_eq!(faults(&body), [(String::new(), "wrong-type".to_owned())], "{body}");
    }
    let missing = [("/target".to_owned(), "required".to_owned()), ("/keyStore".to_owned(), "required".to_owned())];
    assert_eq!(faults(&json!({})), missing);
    let deep = (0..20).fold(json!(1), |inner, _| json!([inner]));
    let body = with(complete(), "/target/create/properties/deep", deep);
    assert_eq!(faults(&body), [(String::new(), "invalid-value".to_owned())]);
}

#[test]
fn fields_that_exclude_each_other_are_refused() {
    for kind in ["systemAssigned", "platform"] {
        let body = with(complete(), "/identity/kind", json!(kind));
        let want = [("/identity/resourceId", "not-allowed"), ("/identity/create", "not-allowed")];
        assert_eq!(faults(&body), want.map(|(p, c)| (p.to_owned(), c.to_owned())));
    }
    let hsm = id("Microsoft.KeyVault/managedHSMs", "hsm1");
    let body = with(complete(), "/keyStore/resourceId", json!(hsm));
    assert_eq!(faults(&body), [("/keyStore/create".to_owned(), "not-allowed".to_owned())]);
    let body = with(minimal(), "/keyStore/resourceId", json!(id("Microsoft.KeyVault/managedHSMs", "hsm-1")));
    assert_eq!(faults(&body), [("/keyStore/resourceId".to_owned(), "invalid-value".to_owned())]);

    let conflict = |body: &Value, pointer: &str| {
        assert_eq!(faults(body), [(pointer.to_owned(), "conflict".to_owned())], "{body}");
    };
    conflict(&with(complete(), "/key/version", json!("latest")), "/key/versionId");
    conflict(&with(complete(), "/keyStore/onDeletedName", json!("fail")), "/key/versionId");
    conflict(&without(complete(), "/key/expiresAfter"), "/key/rotation/notifyBeforeExpiry");
    // A Managed HSM rotates less often.
    let hsm = with(minimal(), "/keyStore/resourceId", json!(hsm));
    let often = |every: &str| faults(&with(hsm.clone(), "/key", json!({ "rotation": { "every": every } })));
    assert_eq!(often("P27D"), [("/key/rotation/every".to_owned(), "out-of-range".to_owned())]);
    assert_eq!(often("P28D"), []);
}

#[test]
fn an_exact_version_is_a_pinned_one_in_azures_spelling() {
    let body = with(minimal(), "/key", json!({ "versionId": "0123456789ABCDEF0123456789abcdef" }));
    let (request, found) = parse(&body);
    assert_eq!(found, []);
    let key = request.expect("a request").key;
    assert_eq!(
        (key.version, key.version_id.as_deref()),
        (KeyVersion::Pinned, Some("0123456789abcdef0123456789abcdef"))
    );
}

#[test]
fn what_is_left_out_has_the_seeds_defaults() {
    let (request, found) = parse(&minimal());
    assert_eq!(found, []);
    let request = request.expect("a request");
    assert_eq!(request.key.name, "st1-cmk");
    assert_eq!((request.key.key_type, request.key.size), (KeyType::Rsa, 4096));
    assert_eq!(request.key.operations, KeyOperation::all());
    assert_eq!((request.key.version, &request.key.rotation), (KeyVersion::Latest, &None));
    assert_eq!(request.identity.kind, IdentityKind::UserAssigned);
    let identity = request.identity.resource_id.as_ref().map(|id| id.name());
    assert_eq!((identity, request.identity.create.is_some()), (Some("id-st1"), true));
    assert_eq!(request.access_timeout.as_str(), "PT20M");
    assert!(!request.create_resource_groups && request.acknowledge.is_empty() && request.labels.is_empty());
    assert!(request.target.create.is_none() && request.key_store.create.is_none());

    let body = with(minimal(), "/keyStore/create", json!({ "location": "uksouth" }));
    let create = parse(&body).0.and_then(|r| r.key_store.create).expect("a vault to create");
    assert_eq!((create.sku, create.soft_delete_retention_days), (VaultSku::Standard, 90));
    assert!(create.network.bypass_trusted_services && create.network.allowed_ips.is_empty());

    // On a Managed HSM the default key is one that it can hold.
    let body = with(minimal(), "/keyStore/resourceId", json!(id("Microsoft.KeyVault/managedHSMs", "hsm1")));
    assert_eq!(parse(&body).0.map(|r| r.key.key_type), Some(KeyType::RsaHsm));
}

#[test]
fn the_normal_form_reads_back_as_the_same_request() {
    for body in [minimal(), complete(), with(minimal(), "/identity", json!({ "kind": "systemAssigned" }))] {
        let (request, found) = parse(&body);
        assert_eq!(found, []);
        let request = request.expect("a request");
        let written = serde_json::to_value(&request).expect("JSON");
        assert_eq!(parse(&written), (Some(request.clone()), Vec::new()), "{written}");
        assert_eq!(serde_json::from_value::<CmkRequest>(written).ok(), Some(request));
    }
}

/// The members of an object by name.
type Members = Vec<(String, RefOr<Schema>)>;

/// The published schema of requests with everything it refers to.
struct Published(Vec<(String, RefOr<Schema>)>);

impl Published {
    /// Follows references and `oneOf [it, null]` to the members of an object and those that are required.
    fn object(&self, schema: &RefOr<Schema>) -> Option<(Members, Vec<String>)> {
        match schema {
            RefOr::Ref(reference) => {
                let name = reference.ref_location.rsplit('/').next()?;
                self.object(&self.0.iter().find(|(n, _)| n == name)?.1)
            }
            RefOr::T(Schema::OneOf(one)) => one.items.iter().find_map(|s| self.object(s)),
            RefOr::T(Schema::Object(object)) if !object.properties.is_empty() => {
                let members = object.properties.iter().map(|(n, s)| (n.clone(), s.clone())).collect();
                Some((members, object.required.clone()))
            }
            RefOr::T(_) => None,
        }
    }

    /// Compares the schema with what the parser says about `complete()` around `pointer`.
    fn check(&self, schema: &RefOr<Schema>, pointer: &str, seen: &mut usize) {
        let Some((members, required)) = self.object(schema) else { return };
        *seen += 1;
        let body = complete();
        let there: BTreeSet<String> =
            body.pointer(pointer).and_then(Value::as_object).expect("an object").keys().cloned().collect();
        let published: BTreeSet<String> = members.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(published, there, "{pointer}: the complete request has every published member");
        let stranger = format!("{pointer}/stranger");
        assert_eq!(faults(&with(complete(), &stranger, json!(1))), [(stranger.clone(), "unknown-field".to_owned())]);
        for (name, schema) in &members {
            let member = format!("{pointer}/{name}");
            let missed = faults(&without(complete(), &member)).contains(&(member.clone(), "required".to_owned()));
            assert_eq!(missed, required.contains(name), "{member}: required");
            self.check(schema, &member, seen);
        }
    }
}

#[test]
fn parser_and_published_schema_agree() {
    assert_eq!(faults(&complete()), []);
    let mut schemas = Vec::new();
    CmkRequest::schemas(&mut schemas);
    let mut seen = 0;
    Published(schemas).check(&CmkRequest::schema(), "", &mut seen);
    assert_eq!(seen, 10, "objects of a request");
}

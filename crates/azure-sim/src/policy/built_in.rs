//! The built-in definitions that concern customer-managed keys. Ids, names, effects and rules by Azure/azure-policy
//! (`built-in-policies/policyDefinitions`); what is left out of a rule is said at it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::policy::Definition;

fn field(name: &str, op: &str, value: Value) -> Value {
    json!({ "field": name, op: value })
}

fn all(conditions: Vec<Value>) -> Value {
    json!({ "allOf": conditions })
}

fn any(conditions: Vec<Value>) -> Value {
    json!({ "anyOf": conditions })
}

fn kind(name: &str) -> Value {
    field("type", "equals", name.into())
}

fn not_recovered() -> Value {
    json!({ "not": field("Microsoft.KeyVault/vaults/createMode", "equals", "recover".into()) })
}

fn off(name: &str) -> Value {
    any(vec![field(name, "exists", "false".into()), field(name, "equals", "false".into())])
}

/// A definition with an `effect` parameter and, maybe, more.
fn definition(guid: &str, name: &str, mode: &str, effects: [&str; 3], more: Value, condition: Value) -> Definition {
    let effects: Vec<&str> = effects.into_iter().filter(|e| !e.is_empty()).collect();
    let mut parameters = Map::new();
    parameters
        .insert("effect".into(), json!({ "type": "String", "allowedValues": effects, "defaultValue": effects[0] }));
    if let Value::Object(more) = more {
        parameters.extend(more);
    }
    let properties = json!({
        "displayName": name,
        "policyType": "BuiltIn",
        "mode": mode,
        "description": name,
        "parameters": parameters,
        "policyRule": { "if": condition, "then": { "effect": "[parameters('effect')]" } },
    });
    Definition {
        id: format!("/providers/Microsoft.Authorization/policyDefinitions/{guid}"),
        name: guid.to_owned(),
        built_in: true,
        properties: properties.as_object().cloned().unwrap_or_default(),
    }
}

const USUAL: [&str; 3] = ["Audit", "Deny", "Disabled"];
const DATA: &str = "Microsoft.KeyVault.Data";
const KEYS: &str = "Microsoft.KeyVault.Data/vaults/keys";

fn list() -> Vec<Definition> {
    let nothing = Value::Null;
    let vault = |path: &str| format!("Microsoft.KeyVault/vaults/{path}");
    let hsm = |path: &str| format!("Microsoft.KeyVault/managedHsms/{path}");
    let key = |path: &str| format!("{KEYS}/{path}");
    vec![
        // Azure offers no Deny for this one: to deny, its rule is copied into a custom definition.
        definition(
            "6fac406b-40ca-413b-bf8e-0bf964659c25",
            "Storage accounts should use customer-managed key for encryption",
            "Indexed",
            ["Audit", "Disabled", ""],
            nothing.clone(),
            all(vec![
                kind("Microsoft.Storage/storageAccounts"),
                json!({ "not": field("Microsoft.Storage/storageAccounts/encryption.keySource", "equals", "Microsoft.Keyvault".into()) }),
            ]),
        ),
        // The branch for api-versions before 2019-09-01 is left out.
        definition(
            "0b60c0b2-2dc2-4e1c-b5c9-abbed971de53",
            "Key vaults should have deletion protection enabled",
            "Indexed",
            USUAL,
            nothing.clone(),
            all(vec![
                kind("Microsoft.KeyVault/vaults"),
                field(&vault("createMode"), "notEquals", "recover".into()),
                any(vec![
                    field(&vault("enableSoftDelete"), "equals", "false".into()),
                    off(&vault("enablePurgeProtection")),
                ]),
            ]),
        ),
        definition(
            "1e66c121-a66a-4b1f-9b83-0fd99bf0fc2d",
            "Key vaults should have soft delete enabled",
            "Indexed",
            USUAL,
            nothing.clone(),
            all(vec![kind("Microsoft.KeyVault/vaults"), not_recovered(), off(&vault("enableSoftDelete"))]),
        ),
        definition(
            "12d4fa5e-1f9f-4c21-97a9-b99b3c6611b5",
            "Azure Key Vault should use RBAC permission model",
            "Indexed",
            USUAL,
            nothing.clone(),
            all(vec![kind("Microsoft.KeyVault/vaults"), not_recovered(), off(&vault("enableRbacAuthorization"))]),
        ),
        definition(
            "c39ba22d-4428-4149-b981-70acb31fc383",
            "Azure Key Vault Managed HSM should have purge protection enabled",
            "Indexed",
            USUAL,
            nothing.clone(),
            all(vec![
                kind("Microsoft.KeyVault/managedHsms"),
                any(vec![
                    field(&hsm("enableSoftDelete"), "notEquals", "true".into()),
                    field(&hsm("enablePurgeProtection"), "notEquals", "true".into()),
                ]),
            ]),
        ),
        definition(
            "1f905d99-2ab7-462c-a6b0-f709acca6c8f",
            "Azure Cosmos DB accounts should use customer-managed keys to encrypt data at rest",
            "Indexed",
            ["audit", "deny", "disabled"],
            nothing.clone(),
            all(vec![
                field("Microsoft.DocumentDB/databaseAccounts/keyVaultKeyUri", "exists", false.into()),
                kind("Microsoft.DocumentDB/databaseAccounts"),
            ]),
        ),
        // Azure's rule also counts the account's capabilities, which only the service knows; left out.
        definition(
            "67121cc7-ff39-4ab8-b7e3-95b84dab487d",
            "Cognitive Services accounts should enable data encryption with a customer-managed key",
            "Indexed",
            USUAL,
            nothing.clone(),
            all(vec![
                kind("Microsoft.CognitiveServices/accounts"),
                field(
                    "Microsoft.CognitiveServices/accounts/encryption.keySource",
                    "notEquals",
                    "Microsoft.KeyVault".into(),
                ),
            ]),
        ),
        definition(
            "82067dbb-e53b-4e06-b631-546d197452d9",
            "Keys using RSA cryptography should have a specified minimum key size",
            DATA,
            USUAL,
            json!({ "minimumRSAKeySize": { "type": "Integer", "allowedValues": [2048, 3072, 4096] } }),
            all(vec![
                kind(KEYS),
                field(&key("keyType"), "in", json!(["RSA", "RSA-HSM"])),
                field(&key("keySize"), "less", "[parameters('minimumRSAKeySize')]".into()),
            ]),
        ),
        definition(
            "152b15f7-8e1f-4c1f-ab71-8c010ba5dbc0",
            "Key Vault keys should have an expiration date",
            DATA,
            USUAL,
            nothing,
            all(vec![kind(KEYS), field(&key("attributes.expiresOn"), "exists", false.into())]),
        ),
    ]
}

/// All of them by lower-case id.
pub(crate) fn all_by_id() -> BTreeMap<String, Definition> {
    list().into_iter().map(|d| (d.id.to_lowercase(), d)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rule::Rule;

    #[test]
    fn every_built_in_rule_can_be_read() {
        for definition in list() {
            Rule::read(&definition.properties).unwrap_or_else(|e| panic!("{}: {e}", definition.display_name()));
        }
    }
}

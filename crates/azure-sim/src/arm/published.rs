//! Azure's published ARM types, read from the descriptions in `types/` (their format: `types/from-schemas.py`). A description
//! is read when it is first asked for and then kept for the life of the process. What the simulator does with a type is not
//! decided here.

mod read;
#[cfg(test)]
mod services_tests;

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::{Map, Value};

use crate::arm::shape::{Member, Mode, Shape, accept, find};
use crate::http::Failure;

/// What may be written to resources of one type, and what is only shown.
#[derive(Debug)]
pub(crate) struct Published {
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare casings with it"))]
    /// As Azure spells it: `Microsoft.Storage/storageAccounts/encryptionScopes`.
    pub resource_type: &'static str,
    /// The version that the description was made from.
    pub api_version: &'static str,
    pub members: &'static [Member],
}

impl Published {
    /// A body in canonical form without what is only read, or ARM's refusal.
    pub fn accept(&self, body: Map<String, Value>, mode: Mode) -> Result<Map<String, Value>, Failure> {
        accept(self.members, body, mode)
    }

    /// A kept body without what is never shown: passwords, modes of creation.
    pub fn shown(&self, body: &Map<String, Value>) -> Map<String, Value> {
        visible(&[self.members], body)
    }
}

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        /// File name without its ending, and text.
        const SOURCES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/types/", $name, ".json")))),*];
    };
}

sources![
    "Dell.Storage_filesystems",
    "Microsoft.AVS_privateClouds",
    "Microsoft.AppConfiguration_configurationStores",
    "Microsoft.Authorization_roleAssignments",
    "Microsoft.Automation_automationAccounts",
    "Microsoft.Batch_batchAccounts",
    "Microsoft.BotService_botServices",
    "Microsoft.Cache_redisEnterprise",
    "Microsoft.CognitiveServices_accounts",
    "Microsoft.CognitiveServices_accounts_encryptionScopes",
    "Microsoft.Compute_diskEncryptionSets",
    "Microsoft.Compute_disks",
    "Microsoft.ContainerInstance_containerGroups",
    "Microsoft.ContainerRegistry_registries",
    "Microsoft.ContainerService_managedClusters",
    "Microsoft.DBforMySQL_flexibleServers",
    "Microsoft.DBforPostgreSQL_flexibleServers",
    "Microsoft.DataBox_jobs",
    "Microsoft.DataFactory_factories",
    "Microsoft.DataProtection_backupVaults",
    "Microsoft.Databricks_workspaces",
    "Microsoft.DevCenter_devcenters",
    "Microsoft.DeviceUpdate_accounts",
    "Microsoft.Discovery_bookshelves",
    "Microsoft.Discovery_workspaces",
    "Microsoft.DocumentDB_cassandraClusters",
    "Microsoft.DocumentDB_cassandraClusters_dataCenters",
    "Microsoft.DocumentDB_databaseAccounts",
    "Microsoft.DocumentDB_mongoClusters",
    "Microsoft.ElasticSan_elasticSans_volumegroups",
    "Microsoft.EventHub_namespaces",
    "Microsoft.FluidRelay_fluidRelayServers",
    "Microsoft.HDInsight_clusters",
    "Microsoft.HealthBot_healthBots",
    "Microsoft.HealthcareApis_services",
    "Microsoft.HealthcareApis_workspaces_dicomservices",
    "Microsoft.HealthcareApis_workspaces_fhirservices",
    "Microsoft.ImportExport_jobs",
    "Microsoft.KeyVault_managedHSMs",
    "Microsoft.KeyVault_vaults",
    "Microsoft.Kusto_clusters",
    "Microsoft.LoadTestService_loadTests",
    "Microsoft.Logic_integrationServiceEnvironments",
    "Microsoft.MachineLearningServices_workspaces",
    "Microsoft.ManagedIdentity_userAssignedIdentities",
    "Microsoft.ManufacturingPlatform_manufacturingDataServices",
    "Microsoft.Maps_accounts",
    "Microsoft.NetApp_netAppAccounts",
    "Microsoft.OnlineExperimentation_workspaces",
    "Microsoft.OperationalInsights_clusters",
    "Microsoft.RecoveryServices_vaults",
    "Microsoft.Resources_resourceGroups",
    "Microsoft.Search_searchServices",
    "Microsoft.SecurityInsights_onboardingStates",
    "Microsoft.ServiceBus_namespaces",
    "Microsoft.Sql_managedInstances",
    "Microsoft.Sql_managedInstances_encryptionProtector",
    "Microsoft.Sql_managedInstances_keys",
    "Microsoft.Sql_servers",
    "Microsoft.Sql_servers_databases",
    "Microsoft.Sql_servers_encryptionProtector",
    "Microsoft.Sql_servers_keys",
    "Microsoft.StorageCache_amlFilesystems",
    "Microsoft.StorageCache_caches",
    "Microsoft.Storage_storageAccounts",
    "Microsoft.Storage_storageAccounts_encryptionScopes",
    "Microsoft.Synapse_workspaces",
    "Microsoft.Synapse_workspaces_keys",
];

struct Slot {
    text: &'static str,
    read: OnceLock<Published>,
}

/// By type in lower case.
static TYPES: LazyLock<BTreeMap<String, Slot>> = LazyLock::new(|| {
    let slot = |&(name, text): &(&str, &'static str)| {
        (name.replace('_', "/").to_lowercase(), Slot { text, read: OnceLock::new() })
    };
    SOURCES.iter().map(slot).collect()
});

/// The description of a type, named in lower case (`microsoft.maps/accounts`); `None` where there is none.
pub(crate) fn published(type_lower: &str) -> Option<&'static Published> {
    let slot = TYPES.get(type_lower)?;
    Some(slot.read.get_or_init(|| {
        read::described(slot.text).expect("the embedded descriptions are well-formed: a test reads all")
    }))
}

/// The types that have a description, in lower case.
#[cfg(test)]
pub(crate) fn types() -> impl Iterator<Item = &'static str> {
    TYPES.keys().map(String::as_str)
}

fn visible(groups: &[&'static [Member]], body: &Map<String, Value>) -> Map<String, Value> {
    let kept = body.iter().filter_map(|(name, value)| match find(groups, name) {
        Some(member) if member.hidden => None,
        Some(member) => Some((name.clone(), seen(&member.shape, value))),
        None => Some((name.clone(), value.clone())),
    });
    kept.collect()
}

fn seen(shape: &'static Shape, value: &Value) -> Value {
    match (shape, value) {
        (Shape::Object(members), Value::Object(map)) => Value::Object(visible(&[members], map)),
        (Shape::Tagged(union), Value::Object(map)) => {
            let tag = map.get(union.by).and_then(Value::as_str).unwrap_or_default();
            let case = union.cases.iter().find(|(name, _)| *name == tag).map_or(&[] as &'static [_], |(_, m)| m);
            Value::Object(visible(&[union.common, case], map))
        }
        (Shape::Dictionary(inner), Value::Object(map)) => {
            map.iter().map(|(k, v)| (k.clone(), seen(inner, v))).collect::<Map<_, _>>().into()
        }
        (Shape::List(inner), Value::Array(items)) => items.iter().map(|v| seen(inner, v)).collect(),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    /// The canonical body, or the path refused.
    fn whole(type_lower: &str, body: Value) -> Result<Value, String> {
        let described = published(type_lower).expect("a published type");
        described.accept(object(body), Mode::Whole).map(Value::Object).map_err(|f| f.target.clone().unwrap_or_default())
    }

    #[test]
    fn every_description_is_embedded_under_its_name_and_can_be_read() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/types")).expect("the folder is there");
        let files = folder.map(|f| f.expect("an entry").file_name().into_string().expect("text"));
        let files: BTreeSet<String> = files.filter_map(|f| f.strip_suffix(".json").map(str::to_owned)).collect();
        let listed: BTreeSet<String> = SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed, files);
        for (name, text) in SOURCES {
            let described = read::described(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(described.resource_type.replace('/', "_"), *name);
            assert!(described.api_version.starts_with("20"), "{name}");
            assert!(described.members.iter().any(|m| m.name == "properties" || m.name == "location"), "{name}");
        }
        assert_eq!(types().count(), SOURCES.len());
        assert!(published("microsoft.maps/nothing").is_none());
    }

    #[test]
    fn a_body_gets_canonical_names_and_values_and_loses_what_is_only_read() {
        let sent = json!({
            "LOCATION": "uksouth",
            "sku": { "name": "g2", "tier": "Standard" },
            "identity": { "type": "userassigned", "userAssignedIdentities": { "/x": { "clientId": "c" } } },
            "properties": { "uniqueId": "u", "encryption": { "infrastructureEncryption": "sometimes" } },
        });
        let kept = json!({
            "location": "uksouth",
            "sku": { "name": "G2" },
            "identity": { "type": "UserAssigned", "userAssignedIdentities": { "/x": {} } },
            "properties": { "encryption": { "infrastructureEncryption": "sometimes" } },
        });
        assert_eq!(whole("microsoft.maps/accounts", sent), Ok(kept));
    }

    #[test]
    fn refusals_name_the_member() {
        let maps = |properties: Value| json!({ "location": "x", "sku": { "name": "G2" }, "properties": properties });
        for (body, at) in [
            (json!({ "location": "x" }), "sku"),
            (maps(json!({ "nope": 1 })), "properties.nope"),
            (maps(json!({ "disableLocalAuth": "true" })), "properties.disableLocalAuth"),
            (maps(json!({ "linkedResources": [{ "uniqueName": "a" }] })), "properties.linkedResources[0].id"),
            (
                maps(json!({ "encryption": { "customerManagedKeyEncryption": { "keyEncryptionKeyIdentity": {
                    "delegatedIdentityClientId": "11111111111141118111111111111111",
                } } } })),
                "properties.encryption.customerManagedKeyEncryption.keyEncryptionKeyIdentity.delegatedIdentityClientId",
            ),
        ] {
            assert_eq!(whole("microsoft.maps/accounts", body.clone()), Err(at.to_owned()), "{body}");
        }
        // A closed enumeration.
        let bot = json!({ "location": "x", "sku": { "name": "C9" } });
        assert_eq!(whole("microsoft.healthbot/healthbots", bot), Err("sku.name".to_owned()));
    }

    #[test]
    fn a_union_follows_its_tag() {
        let factory = |repository: Value| json!({ "properties": { "repoConfiguration": repository } });
        let common =
            json!({ "accountName": "a", "repositoryName": "r", "collaborationBranch": "main", "rootFolder": "/" });
        let with = |more: Value| {
            let mut all = object(common.clone());
            all.extend(object(more));
            factory(Value::Object(all))
        };
        let run = |body: Value| whole("microsoft.datafactory/factories", body);
        let done = run(with(json!({ "TYPE": "factorygithubconfiguration", "hostName": "h" }))).expect("it fits");
        assert_eq!(done["properties"]["repoConfiguration"]["type"], "FactoryGitHubConfiguration");
        assert_eq!(done["properties"]["repoConfiguration"]["hostName"], "h");
        for (more, at) in [
            (json!({}), "type"),
            (json!({ "type": "Elsewhere" }), "type"),
            (json!({ "type": "FactoryGitHubConfiguration", "projectName": "p" }), "projectName"),
            (json!({ "type": "FactoryVSTSConfiguration" }), "projectName"),
        ] {
            assert_eq!(run(with(more)), Err(format!("properties.repoConfiguration.{at}")));
        }
        let described = published("microsoft.datafactory/factories").expect("published");
        let patch = factory(json!({ "hostName": "h" }));
        assert_eq!(described.accept(object(patch.clone()), Mode::Partial).map(Value::Object).ok(), Some(patch));
    }

    #[test]
    fn what_is_only_written_is_not_shown() {
        let described = published("microsoft.documentdb/mongoclusters").expect("published");
        let body =
            json!({ "properties": { "createMode": "Default", "administrator": { "userName": "u", "password": "p" } } });
        let shown = Value::Object(described.shown(&object(body)));
        assert_eq!(shown["properties"]["administrator"], json!({ "userName": "u" }));
    }
}

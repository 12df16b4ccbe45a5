//! The service principals of Azure's own applications that read customers' keys. They are in every tenant here from the
//! start, with object ids that are the same in every run; in Azure they come with the registration of their provider.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::entra::principals::Principal;
use crate::state::World;

/// Azure Cosmos DB.
pub(crate) const COSMOS: &str = "a232010e-820c-4083-83bb-3ace5fc29d0b";
/// AzureDatabricks.
pub(crate) const DATABRICKS: &str = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d";
/// Azure Container Instance Service.
pub(crate) const CONTAINER_INSTANCE: &str = "6bb8e274-af5d-4df2-98a3-4fd78b4cafd9";
/// Bot Service CMEK Prod; the application id is from public lists of Microsoft's applications, and UNVERIFIED.
pub(crate) const BOT_SERVICE: &str = "27a762be-14e7-4f92-899c-151877d6d497";

const ALL: &[(&str, &str)] = &[
    (COSMOS, "Azure Cosmos DB"),
    (DATABRICKS, "AzureDatabricks"),
    (CONTAINER_INSTANCE, "Azure Container Instance Service"),
    (BOT_SERVICE, "Bot Service CMEK Prod"),
];

/// All of them, for a new world.
pub(crate) fn principals(tenant: &str, now: OffsetDateTime) -> Vec<Principal> {
    ALL.iter()
        .map(|(app, name)| {
            let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("first-party:{tenant}:{app}").as_bytes());
            Principal::new(&id.to_string(), app, name, Some(now))
        })
        .collect()
}

/// The object id of an application's service principal.
pub(crate) fn object_id(w: &World, app: &str) -> Option<String> {
    w.principals.values().find(|p| p.app_id == app).map(|p| p.object_id.clone())
}

/// The object id of a principal that a service makes for itself, from a text that no other has.
pub(crate) fn made_for(what: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("made:{what}").as_bytes()).to_string()
}

/// Puts such a principal into the directory, unless it is there.
pub(crate) fn introduce(w: &mut World, object_id: &str, name: &str, resource: &str, now: OffsetDateTime) {
    if w.principals.contains_key(object_id) {
        return;
    }
    let known_from = w.due(|p| &p.principal, now);
    let mut principal = Principal::new(object_id, &made_for(&format!("app:{object_id}")), name, known_from);
    principal.resource_id = Some(resource.to_owned());
    w.principals.insert(object_id.to_owned(), principal);
}

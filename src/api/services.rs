//! The catalogue of services.
//!
//! What belongs here: descriptors in wire form. What does not: the descriptors (`crate::services`).

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::Name;
use super::openapi::problems;
use super::problem::Problem;
use crate::domain::codes::Code;
use crate::domain::request::{IdentityKind, KeyType, KeyVersion};
use crate::services::{ALL, ServiceDescriptor, find};

problems!(ListServicesProblems: InvalidParameter);
problems!(GetServiceProblems: InvalidParameter, NotFound);

/// How one Azure service takes a customer-managed key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Service)]
pub(super) struct ServiceView {
    /// The service's name in this API; never renamed.
    #[schema(example = "storage-account")]
    slug: String,
    /// The service's name in Azure's words.
    display_name: String,
    /// The ARM type of a target.
    #[schema(example = "Microsoft.Storage/storageAccounts")]
    arm_type: String,
    /// The api-version used for it.
    api_version: String,
    /// The rule for a target's name.
    name_rule: String,
    /// Whether a target that exists can be changed in place.
    changes_existing: bool,
    /// Whether a target can be created: with its key in the first PUT or, with its own identity, in two.
    creates: bool,
    /// Identity kinds for a target that exists.
    identity_kinds: Vec<IdentityKind>,
    /// Identity kinds for a target that is created.
    identity_kinds_at_creation: Vec<IdentityKind>,
    /// Key types.
    key_types: Vec<KeyType>,
    /// Sizes of RSA keys, in bits.
    key_sizes: Vec<u16>,
    /// Whether the target can follow new versions of the key, be pinned to one, or both.
    key_versions: Vec<KeyVersion>,
    /// Whether, with a reference to the latest version, it goes over to newer ones by itself.
    follows_versions: bool,
    /// Whether it takes keys that have an expiration date.
    keys_may_expire: bool,
    /// The fewest days that the key store has to keep deleted keys; absent: what every store does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 7, maximum = 90)]
    store_retention_days: Option<u8>,
    /// Whether it takes keys of a Managed HSM.
    managed_hsm: bool,
    /// Whether key store and target must be in one region.
    same_region: bool,
    /// Whether the key store must let trusted Microsoft services pass.
    needs_trusted_bypass: bool,
    /// Whether the target can go back to a key that Microsoft manages.
    reversible: bool,
    /// The role its identity gets on the key store.
    role: RoleView,
    /// What a created target is where the request does not say.
    create_defaults: CreateDefaultsView,
    /// Members of `target.create.properties` that a request may not set.
    reserved_properties: Vec<String>,
    /// What it asks of target, key and key store beside what every service asks, in sentences. Each is checked.
    requirements: Vec<String>,
    /// What a caller should know.
    notes: Vec<String>,
    /// What Azure's documentation leaves open.
    unverified: Vec<String>,
}

/// A role of Azure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Role)]
pub(super) struct RoleView {
    /// Its name.
    name: String,
    /// The role definition's GUID, the same in every tenant.
    id: Uuid,
}

/// What a created target is where the request does not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CreateDefaults)]
pub(super) struct CreateDefaultsView {
    /// The SKU's name; absent where the type has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<String>,
    /// The kind; absent where the type has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

/// Every service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct ServiceList {
    /// The services.
    pub(super) items: Vec<ServiceView>,
}

/// List the services
///
/// What each Azure service allows and needs.
#[utoipa::path(get, path = "/v1/services", tag = "catalogue",
    responses((status = 200, description = "Every service.", body = ServiceList), ListServicesProblems))]
pub(super) async fn list_services() -> Json<ServiceList> {
    Json(list())
}

/// The catalogue.
pub(super) fn list() -> ServiceList {
    ServiceList { items: ALL.iter().map(ServiceView::from).collect() }
}

/// Get a service
///
/// What one Azure service allows and needs.
#[utoipa::path(get, path = "/v1/services/{slug}", tag = "catalogue",
    params(("slug" = String, Path, description = "The service's name in this API.", example = "storage-account")),
    responses((status = 200, description = "The service.", body = ServiceView), GetServiceProblems))]
pub(super) async fn get_service(Name(slug): Name) -> Result<Json<ServiceView>, Problem> {
    let no_such =
        || Problem::new(Code::NotFound).detail("there is no service of this name").link("services", "/v1/services");
    find(&slug).map(|d| Json(d.into())).ok_or_else(no_such)
}

impl From<&ServiceDescriptor> for ServiceView {
    fn from(d: &ServiceDescriptor) -> Self {
        Self {
            slug: d.slug.clone(),
            display_name: d.display_name.clone(),
            arm_type: d.arm_type.clone(),
            api_version: d.api_version.clone(),
            name_rule: d.name_rule.words.clone(),
            changes_existing: d.changes_existing,
            creates: d.create.is_some(),
            identity_kinds: d.identity_kinds.clone(),
            identity_kinds_at_creation: d.identity_kinds_at_creation.clone(),
            key_types: d.key_types.clone(),
            key_sizes: d.key_sizes.clone(),
            key_versions: d.key_versions.clone(),
            follows_versions: d.follows_versions && d.key_versions.contains(&KeyVersion::Latest),
            keys_may_expire: d.keys_may_expire,
            store_retention_days: d.store_retention_days,
            managed_hsm: d.managed_hsm,
            same_region: d.same_region,
            needs_trusted_bypass: d.needs_trusted_bypass,
            reversible: d.reversible,
            role: RoleView { name: d.vault_role.name.clone().into_owned(), id: d.vault_role.id },
            create_defaults: CreateDefaultsView {
                sku: d.create_defaults.sku.clone(),
                kind: d.create_defaults.kind.clone(),
            },
            reserved_properties: d.reserved_properties.clone(),
            requirements: d.asks(),
            notes: d.notes.clone(),
            unverified: d.unverified.clone(),
        }
    }
}

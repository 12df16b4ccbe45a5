//! What a step would leave a resource as: what a policy would look at.
//!
//! What belongs here: bodies, made of what is known so far. What does not: asking about them (`survey`), and writing
//! them.

use serde_json::Value;

use super::binding::{Wanted, descriptor};
use super::spec::{ConfigureService, EnsureIdentity, EnsureKey, EnsureKeyStore};
use super::{StepContext, StepError, StepSpec};
use crate::azure::{AzureError, resources, vaults};
use crate::domain::facts::{Facts, IdentityFact, KeyFact, KeyStoreFact};
use crate::domain::ids::{ArmId, ClientId, KeyId, PrincipalId};
use crate::domain::request::MANAGED_HSM_TYPE;
use crate::services::template::laid_over;

/// Stands for ids that are known only when something is there.
const UNKNOWN: uuid::Uuid = uuid::Uuid::nil();

/// A resource as a step would leave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    /// The resource.
    pub id: ArmId,
    /// The api-version of the content.
    pub api_version: String,
    /// Its whole content.
    pub content: Value,
}

/// The resource that a step would write whole, or create; `None` for a step that writes none, where that cannot be told, or
/// where it is in place.
pub async fn proposed(spec: &StepSpec, cx: &StepContext<'_>) -> Result<Option<Proposed>, StepError> {
    match spec {
        StepSpec::EnsureKeyStore(step) => Ok(vault(step, cx).await?),
        StepSpec::ConfigureService(step) => target(step, cx).await,
        _ => Ok(None),
    }
}

/// Fills in what the steps of a plan will learn, as far as names tell it: addresses of stores follow from their names, and
/// which version a key gets is no matter to a policy.
pub fn foreseen<'s>(specs: impl Iterator<Item = &'s StepSpec>, cx: &StepContext<'_>) -> Facts {
    let mut facts = cx.facts.clone();
    for spec in specs {
        match spec {
            StepSpec::EnsureKeyStore(EnsureKeyStore { store, .. }) if facts.key_store.is_none() => {
                let cloud = cx.azure.cloud();
                let hsm = store.is_type(MANAGED_HSM_TYPE);
                let uri = if hsm { cloud.hsm_uri(store.name()) } else { cloud.vault_uri(store.name()) };
                facts.key_store =
                    Some(KeyStoreFact { uri, location: String::new(), tenant_id: UNKNOWN, created: false });
            }
            StepSpec::EnsureIdentity(EnsureIdentity { identity, .. }) if facts.identity.is_none() => {
                facts.identity = Some(IdentityFact {
                    resource_id: Some(identity.clone()),
                    principal_id: PrincipalId(UNKNOWN),
                    client_id: Some(ClientId(UNKNOWN)),
                });
            }
            StepSpec::EnsureKey(EnsureKey { name, version, .. }) if facts.key.is_none() => {
                let Some(store) = &facts.key_store else { continue };
                let version = version.clone().unwrap_or_else(|| UNKNOWN.simple().to_string());
                let id = KeyId { store_uri: store.uri.clone(), name: name.clone(), version: Some(version) };
                facts.key = Some(KeyFact { id, created: false });
            }
            _ => {}
        }
    }
    facts
}

async fn vault(step: &EnsureKeyStore, cx: &StepContext<'_>) -> Result<Option<Proposed>, AzureError> {
    let Some(create) = step.create.as_ref() else { return Ok(None) };
    if vaults::get(&cx.azure.arm, &cx.call, &step.store).await?.is_some() {
        return Ok(None);
    }
    let tenant_id = cx.azure.own_principal(&cx.call).await?.tenant_id;
    let spec = super::ensure_key_store::vault_spec(create, tenant_id, cx.job_id);
    let api_version = vaults::API_VERSION.to_owned();
    Ok(Some(Proposed { id: step.store.clone(), api_version, content: vaults::create_body(&spec) }))
}

/// A target that is created, or changed by one write to itself.
async fn target(step: &ConfigureService, cx: &StepContext<'_>) -> Result<Option<Proposed>, StepError> {
    let descriptor = descriptor(&step.service)?;
    let wanted = Wanted::new(step.identity_kind, step.version, cx.facts)?;
    let store = step.store.clone().unwrap_or_else(|| step.target.clone());
    let found = resources::get(&cx.azure.arm, &cx.call, &step.target, &descriptor.api_version).await?;
    let content = match (found, &step.create) {
        (None, Some(create)) => descriptor.create_body(&wanted.binding(descriptor, &store, None), &step.target, create),
        (Some(found), _) => match &descriptor.configure[..] {
            [write] if write.at.is_empty() => {
                let binding = wanted.binding(descriptor, &store, found.body.get("identity"));
                let body = descriptor.write_body(write, &binding, &step.target, &found.body);
                Some(laid_over(found.body, body))
            }
            _ => None,
        },
        (None, None) => None,
    };
    let (id, api_version) = (step.target.clone(), descriptor.api_version.clone());
    Ok(content.map(|content| Proposed { id, api_version, content }))
}

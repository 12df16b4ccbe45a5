//! The tenant's directory, asked through Microsoft Graph (`v1.0/servicePrincipals`).
//!
//! What belongs here: finding the service principal of one of Azure's own applications, whose object id differs from tenant
//! to tenant. What does not: the service's own principal, which its token names, and managed identities, which ARM shows.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, Method};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::arm::{Arm, list_of};
use super::cloud::Cloud;
use super::context::CallContext;
use super::error::{AzureError, AzureErrorKind};
use super::limits::Limits;
use crate::domain::ids::PrincipalId;

/// A client of the directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory {
    client: Arm,
    graph: Option<Url>,
}

impl Directory {
    pub(super) fn new(
        cloud: Cloud,
        credential: Arc<dyn TokenCredential>,
        options: ClientOptions,
        call_timeout: Duration,
        limits: Arc<Limits>,
    ) -> Self {
        let graph = cloud.graph.clone();
        let scope = graph.as_ref().map(|g| format!("{}/.default", g.as_str().trim_end_matches('/')));
        let cloud = Cloud { arm_scope: scope.unwrap_or_default(), ..cloud };
        Self { client: Arm::new(cloud, credential, options, call_timeout, limits), graph }
    }

    /// The service principal of an application in the tenant; `None` if there is none. Needs `Application.Read.All` of
    /// Microsoft Graph or the directory role Directory Readers, otherwise `Forbidden`.
    pub async fn service_principal(
        &self,
        cx: &CallContext,
        application: Uuid,
    ) -> Result<Option<PrincipalId>, AzureError> {
        let mut url = self.graph.clone().ok_or_else(|| {
            AzureError::new(AzureErrorKind::Rejected, "no address of Microsoft Graph is configured for this cloud")
        })?;
        url.set_path("/v1.0/servicePrincipals");
        url.query_pairs_mut().append_pair("$filter", &format!("appId eq '{application}'"));
        let answer = self.client.at(cx, Method::Get, url, None).await?;
        match list_of(&answer)?.first().and_then(|found| found.get("id")).map(Value::as_str) {
            None => Ok(None),
            Some(id) => match id.and_then(|id| id.parse().ok()) {
                Some(id) => Ok(Some(PrincipalId(id))),
                None => Err(answer.unexpected("a service principal without an object id")),
            },
        }
    }
}

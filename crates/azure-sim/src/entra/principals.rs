//! The service principals of the tenant and what each can show to get a token. How that is checked is `assertions` and
//! `tokens`; what a principal may do is `rbac`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::entra::certificates::Certificate;
use crate::propagation::Due;

/// A service principal of the tenant.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Principal {
    pub object_id: String,
    pub app_id: String,
    pub name: String,
    /// From when the directory that role assignments ask knows it.
    pub known_from: Due,
    /// The ARM id behind a managed identity.
    pub resource_id: Option<String>,
    /// None for managed identities, which have none that a client could use.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// By lower-case name.
    #[serde(default)]
    pub federated: BTreeMap<String, Federated>,
}

/// A client secret.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub value: String,
    /// When it ends; absent is never.
    pub expires: Option<OffsetDateTime>,
}

/// A federated credential: whose word, about whom, is taken for this principal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Federated {
    pub name: String,
    pub issuer: String,
    pub subject: String,
    pub audiences: Vec<String>,
    /// From when the login host knows it.
    pub known_from: Due,
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Principal")
            .field("object_id", &self.object_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Principal {
    /// One without credentials. Ids compare in lower case everywhere.
    pub fn new(object_id: &str, app_id: &str, name: &str, known_from: Due) -> Self {
        Self {
            object_id: object_id.to_lowercase(),
            app_id: app_id.to_lowercase(),
            name: name.to_owned(),
            known_from,
            resource_id: None,
            secrets: Vec::new(),
            certificates: Vec::new(),
            federated: BTreeMap::new(),
        }
    }

    /// Whether a client can sign in as it: managed identities only in so far as they are federated, Azure's own
    /// applications not at all.
    pub fn signs_in(&self) -> bool {
        !(self.secrets.is_empty() && self.certificates.is_empty() && self.federated.is_empty())
    }
}

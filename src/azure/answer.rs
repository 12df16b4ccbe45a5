//! What Azure Resource Manager answers, before anybody knows the resource's shape.
//!
//! What belongs here: status, body, headers that matter, absence. What does not: calls (`arm`) and operations
//! (`operation`).

use std::time::Duration;

use azure_core::http::headers::Headers;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::classify::Origin;
use super::error::{self, AzureError, AzureErrorKind};
use super::operation::Operation;

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status: 2xx.
    pub status: u16,
    /// The body; `Null` where there was none.
    pub body: Value,
    /// Azure's request id.
    pub request_id: Option<String>,
    /// The operation that Azure started, where it says how to follow it.
    pub operation: Option<Operation>,
    /// How long Azure asks to wait before looking again.
    pub retry_after: Option<Duration>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The resource.
    Found(Answer),
    /// The resource, its parent or its resource group does not exist.
    Absent(Absence),
}

/// Azure's words for "does not exist".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absence {
    /// Azure's code: `ResourceNotFound`, `ResourceGroupNotFound`, `ParentResourceNotFound`, …
    pub code: Option<String>,
    /// Azure's request id.
    pub request_id: Option<String>,
}

impl Answer {
    /// The body as `T`; `Unexpected` if it has another shape. `what` names it in the error.
    pub fn parse<T: DeserializeOwned>(&self, what: &str) -> Result<T, AzureError> {
        T::deserialize(&self.body).map_err(|e| self.unexpected(&format!("{what}: {e}")))
    }

    /// An error about the answer's shape.
    pub(super) fn unexpected(&self, message: &str) -> AzureError {
        AzureError { status: Some(self.status), ..AzureError::new(AzureErrorKind::Unexpected, message) }
            .with_request_id(self.request_id.clone())
    }

    pub(super) fn new(raw: Raw) -> Result<Self, AzureError> {
        Ok(Self {
            body: raw.json()?,
            status: raw.status,
            request_id: error::request_id(&raw.headers),
            operation: Operation::of(&raw.headers),
            retry_after: error::retry_after(&raw.headers),
        })
    }
}

/// An answer before anything is made of it.
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
}

impl Raw {
    pub(super) fn json(&self) -> Result<Value, AzureError> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            let error = AzureError::new(AzureErrorKind::Unexpected, format!("the answer is not JSON: {e}"));
            AzureError { status: Some(self.status), ..error }.with_request_id(error::request_id(&self.headers))
        })
    }

    pub(super) fn error(&self) -> AzureError {
        AzureError::from_answer(Origin::Arm, self.status, &self.headers, &self.body)
    }
}

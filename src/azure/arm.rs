//! Azure Resource Manager on azure_core's pipeline: one call, one answer, no retries.
//!
//! What belongs here: addresses, headers, statuses and paging common to all resource types. What does not: the shapes of
//! particular resources, which have a module each. Nothing here deletes.

use std::time::Duration;

use serde_json::Value;

use super::context::CallContext;
use super::error::AzureError;

/// A client of Azure Resource Manager.
#[derive(Clone, Debug)]
pub struct Arm {}

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

/// A long-running operation: where to ask about it. Safe to store; the address is checked again before it is called.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Operation {
    /// `Azure-AsyncOperation`, else `Location`.
    pub url: String,
}

/// What an operation's status says. The resource's own state stays the truth; this is a hint.
#[derive(Clone, Debug, PartialEq)]
pub enum OperationState {
    /// Still at work.
    Running {
        /// How long Azure asks to wait before looking again.
        retry_after: Option<Duration>,
    },
    /// Ended well.
    Succeeded,
    /// Ended in failure, or was cancelled. The error's kind is told from Azure's code as for an answered call.
    Failed(AzureError),
    /// Azure no longer knows the operation (404): look at the resource.
    Forgotten,
}

impl Arm {
    /// Reads what `path` names; `None` if it does not exist.
    pub async fn get(&self, cx: &CallContext, path: &str, api_version: &str) -> Result<Option<Answer>, AzureError> {
        todo!()
    }

    /// Reads what `path` names, with Azure's words where it does not exist.
    pub async fn look(&self, cx: &CallContext, path: &str, api_version: &str) -> Result<Lookup, AzureError> {
        todo!()
    }

    /// Creates or replaces.
    pub async fn put(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        todo!()
    }

    /// Changes the given properties.
    pub async fn patch(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        todo!()
    }

    /// Runs an action.
    pub async fn post(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        todo!()
    }

    /// All items of a list, following pages on the same host, bounded.
    pub async fn list(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<Value>, AzureError> {
        todo!()
    }

    /// Asks about an operation. The address must be on the configured ARM host: otherwise `UntrustedUrl`, and nothing is sent.
    pub async fn poll(&self, cx: &CallContext, operation: &Operation) -> Result<OperationState, AzureError> {
        todo!()
    }
}

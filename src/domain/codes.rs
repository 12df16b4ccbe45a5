//! The error catalogue: every code the service can answer or store, with its class, meaning and remedy.
//!
//! What belongs here: codes, which are only ever added and never renamed, because clients branch on them. What does
//! not: Azure's own codes; those are mapped to these in `azure::classify` and kept beside them verbatim.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::failure::FailureClass;

/// What the catalogue says about one code.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// The wire form, kebab-case.
    pub code: &'static str,
    /// What kind of trouble it is; decides whether a retry can help.
    pub class: FailureClass,
    /// The HTTP status when the API answers with it; `None` for codes that only jobs fail with.
    pub status: Option<u16>,
    /// One short line.
    pub title: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What the reader can do.
    pub remedy: &'static str,
}

macro_rules! codes {
    ($( $name:ident = $code:literal, $class:ident, $status:expr, $title:literal, $meaning:literal, $remedy:literal; )*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( #[doc = $title] $name, )* }

        impl Code {
            /// Every code, in the catalogue's order.
            pub const ALL: &[Code] = &[ $( Code::$name, )* ];

            /// The catalogue's entry.
            pub const fn info(self) -> &'static CodeInfo {
                match self { $( Code::$name => &CodeInfo {
                    code: $code, class: FailureClass::$class, status: $status, title: $title, meaning: $meaning, remedy: $remedy,
                }, )* }
            }
        }
    };
}

codes! {
    // Answers of the API.
    MalformedBody = "malformed-body", Invalid, Some(400), "The body is not JSON",
        "The request's body could not be read as JSON.",
        "Send one JSON object; the detail says at which line and column reading stopped.";
    InvalidParameter = "invalid-parameter", Invalid, Some(400), "A parameter is wrong",
        "A path, query or header parameter has a value that is not allowed.",
        "Correct the parameter that the detail names.";
    InvalidRequest = "invalid-request", Invalid, Some(422), "Some fields are wrong",
        "The body is JSON, but one or more fields are missing, unknown, out of range or not allowed together.",
        "Correct every field listed in `errors`; each entry has a JSON pointer and says what is expected.";
    IdempotencyKeyReused = "idempotency-key-reused", Conflict, Some(422), "The idempotency key belongs to another body",
        "This Idempotency-Key was used before, within 30 days, with a different body.",
        "Use a new key for a new request, or send the first body again to get the first answer.";
    TargetBusy = "target-busy", Conflict, Some(409), "The target has an unfinished job",
        "Another job for the same target is queued, running or waiting; there is one unfinished job per target.",
        "Follow the linked job; submit again when it has ended, or cancel it.";
    JobNotCancellable = "job-not-cancellable", Conflict, Some(409), "The job has ended",
        "Only a job that is queued, running or waiting can be cancelled.",
        "Nothing to do: look at the job's state.";
    JobNotRetryable = "job-not-retryable", Conflict, Some(409), "The job has not failed",
        "Only a failed job can be retried.",
        "Look at the job's state; submit a new job if the last one was cancelled.";
    NotFound = "not-found", Invalid, Some(404), "There is nothing here",
        "No such route, job, service or code.",
        "Check the address; GET /openapi.json lists every route.";
    MethodNotAllowed = "method-not-allowed", Invalid, Some(405), "The route does not take this method",
        "The address exists, but not with this method.",
        "Use one of the methods in the Allow header.";
    NotAcceptable = "not-acceptable", Invalid, Some(406), "None of the accepted types can be answered",
        "The Accept header names no type this route answers.",
        "Accept application/json, or text/event-stream for a job's events.";
    PayloadTooLarge = "payload-too-large", Invalid, Some(413), "The body is too large",
        "A body may have at most 64 KiB.",
        "Send a smaller body.";
    UnsupportedMediaType = "unsupported-media-type", Invalid, Some(415), "The body is not declared as JSON",
        "The Content-Type header must be application/json.",
        "Send `Content-Type: application/json`.";
    RequestTimeout = "request-timeout", Transient, Some(408), "The request took too long to arrive",
        "The body did not arrive in time.",
        "Send the request again.";
    TooManyRequests = "too-many-requests", Transient, Some(429), "Too many requests at once",
        "The service handles a bounded number of requests at the same time and this one was over it.",
        "Send the request again after the time in Retry-After.";
    Internal = "internal", Bug, Some(500), "Something went wrong inside the service",
        "A defect in the service; the cause is in its log under the trace id.",
        "Try again; if it stays, report the trace id to whoever runs the service.";
    Unavailable = "unavailable", Transient, Some(503), "The service cannot reach its database",
        "The database did not answer; nothing was accepted.",
        "Send the request again after the time in Retry-After; with an Idempotency-Key it is safe to repeat.";

    // What jobs fail with: the request and what exists do not fit.
    TargetNotFound = "target-not-found", Invalid, None, "The target does not exist",
        "The request has no `target.create`, so the resource must exist, and Azure says it does not.",
        "Check `target.resourceId`, or add `target.create` to have it created with the key.";
    TargetExists = "target-exists", Conflict, None, "The target exists already, without this key",
        "`target.create` asks for a new resource, but one of this name exists and does not use this key. It is never replaced.",
        "Leave out `target.create` to change the existing resource in place, or choose another name.";
    TargetNotReady = "target-not-ready", Conflict, None, "The target is in a state that cannot be changed",
        "The resource's provisioning state is Failed or Deleting.",
        "Repair or remove the resource in Azure, then retry the job.";
    TargetUnsuitable = "target-unsuitable", Invalid, None, "The target cannot take a key as it is",
        "The service takes a key only on resources of a certain SKU or setting, and the target has another one; the message names it.",
        "Change the target as the message says, then retry the job.";
    TargetNotEmpty = "target-not-empty", Conflict, None, "The target is not empty",
        "The service takes its first customer-managed key only while nothing is in the target, and something is. Nothing is deleted here.",
        "Create a new target with the key and move what is in this one.";
    ResourceGroupNotFound = "resource-group-not-found", Invalid, None, "A resource group does not exist",
        "Something is to be created in a resource group that does not exist, and `createResourceGroups` is false.",
        "Create the group, or set `createResourceGroups` to true.";
    KeyStoreNotFound = "key-store-not-found", Invalid, None, "The key store does not exist",
        "The request has no `keyStore.create`, so the vault must exist, and Azure says it does not.",
        "Check `keyStore.resourceId`, or add `keyStore.create`.";
    KeyStoreSoftDeleted = "key-store-soft-deleted", Conflict, None, "A deleted key store holds the name",
        "A vault of this name was deleted and is kept by soft delete; the name is not free and nothing here purges.",
        "Set `keyStore.onDeletedName` to `recover` to bring the vault back with its keys, or choose another name.";
    KeyStoreNameTaken = "key-store-name-taken", Conflict, None, "The key store's name is taken",
        "Vault names are unique across Azure and somebody has this one.",
        "Choose another name.";
    KeyStoreUnsuitable = "key-store-unsuitable", Invalid, None, "The key store does not fit the service",
        "The service asks something of the key store that this one lacks: a private endpoint, no firewall, or one that lists addresses; the message names it.",
        "Use another key store, or change this one as the message says, then retry the job.";
    KeyStoreAccessPolicies = "key-store-access-policies", Invalid, None, "The vault uses access policies",
        "The vault is not in RBAC mode, so role assignments would have no effect.",
        "Switch the vault to Azure role-based access control, then retry the job.";
    KeyStoreNotActivated = "key-store-not-activated", Invalid, None, "The Managed HSM is not activated",
        "A Managed HSM works only after its owner has downloaded its security domain, which is the root of trust of every \
         key in it. This service never does that for anybody.",
        "Activate the Managed HSM (`az keyvault security-domain download`), then retry the job.";
    KeyStoreOtherRegion = "key-store-other-region", Invalid, None, "The key store is in another region",
        "This Azure service takes keys of its own region only.",
        "Name a key store in the target's region; `GET /v1/services` says which services need that.";
    OwnAccessMissing = "own-access-missing", Denied, None, "The worker may not make keys in the key store",
        "The request forbids that the worker gives itself a role on the key store, and it holds none that suffices.",
        "Assign the worker Key Vault Crypto Officer (Managed HSM Crypto User on a Managed HSM), or leave \
         `keyStore.grantOwnAccess` out, then retry the job.";
    KeyStoreUnprotected = "key-store-unprotected", Invalid, None, "The vault has no purge protection",
        "Azure services refuse keys of a vault without soft delete and purge protection. Turning it on cannot be undone.",
        "Send the request again with `\"acknowledge\": [\"enable-purge-protection\"]`, or turn it on yourself and retry.";
    KeyStoreShortRetention = "key-store-short-retention", Invalid, None, "The key store keeps deleted keys for too short a time",
        "This Azure service takes keys of a store only that keeps deleted keys for longer, and a store's retention cannot be \
         changed.",
        "Name another key store; `GET /v1/services` says which services need how many days.";
    KeyStoreClosed = "key-store-closed", Denied, None, "The key store's firewall keeps the service out",
        "The vault denies by default and does not let trusted Azure services pass, so the target could not reach its key.",
        "Allow trusted Microsoft services on the vault's firewall, then retry the job.";
    KeyStoreUnreachable = "key-store-unreachable", Denied, None, "The worker cannot reach the key store",
        "The vault's firewall, or its disabled public access, keeps the worker out.",
        "Add the worker's address to `keyStore.create.network.allowedIps` or the vault's firewall, then retry the job.";
    IdentityNotFound = "identity-not-found", Invalid, None, "The identity does not exist",
        "The request has no `identity.create`, so the managed identity must exist, and Azure says it does not.",
        "Check `identity.resourceId`, or add `identity.create`.";
    PlatformPrincipalMissing = "platform-principal-missing", Invalid, None, "The tenant has no principal of the Azure service",
        "The Azure service reads the key with a principal of its own, which comes into a tenant when the resource provider is \
         registered.",
        "Register the provider in the subscription, or run `az ad sp create --id` with the application id, then retry the job.";
    KeyMismatch = "key-mismatch", Conflict, None, "A key of this name exists and does not fit",
        "The key differs from the request in type, size or whether it expires, or lacks an operation. It is never replaced.",
        "Choose another `key.name`, or ask for the key as it is.";
    KeyDisabled = "key-disabled", Conflict, None, "The key is disabled or outside its validity",
        "A key of this name exists, but it is disabled, expired or not yet valid.",
        "Enable the key or choose another `key.name`, then retry the job.";
    KeyVersionNotFound = "key-version-not-found", Invalid, None, "The key has no such version",
        "The request names an exact version of a key, so it must exist, and the key store says it does not. No key is created.",
        "Check `key.name` and `key.versionId` (`az keyvault key list-versions`), or leave `key.versionId` out.";
    KeySoftDeleted = "key-soft-deleted", Conflict, None, "A deleted key holds the name",
        "A key of this name was deleted and is kept by soft delete; nothing here purges or silently revives it.",
        "Recover the key, or choose another `key.name`, then retry the job.";
    IdentityConflict = "identity-conflict", Conflict, None, "The target already uses another identity for its key",
        "The resource takes one identity for its key and has another one.",
        "Ask for the identity it has, or remove that one in Azure first.";

    // What jobs fail with: access and time.
    AccessTimeout = "access-timeout", NotYet, None, "Access did not arrive in time",
        "The role assignments exist, but Azure went on refusing access until `accessTimeout` had passed.",
        "Retry the job: it goes on from what exists. If it fails again, look for deny assignments and the vault's firewall.";
    AzureForbidden = "azure-forbidden", Denied, None, "Azure refuses the service a right it needs",
        "The identity the service runs as lacks the action that Azure names.",
        "Grant the action (docs/operations.md lists the role), then retry the job.";
    AzureAuthentication = "azure-authentication", Denied, None, "The service cannot sign in to Azure",
        "Microsoft Entra refused the service's credential.",
        "Check the credential's settings and expiry, then retry the job.";
    OtherTenant = "other-tenant", Denied, None, "Something belongs to another tenant",
        "The target, its identity and its key store have to be in the tenant that the service signs in to; keys of another \
         tenant are not offered. A vault that came along when its subscription was moved trusts the old tenant until that is changed.",
        "Name a key store of the target's tenant, or let the moved vault trust it (`az keyvault update --set properties.tenantId`).";
    PolicyDenied = "policy-denied", Denied, None, "An Azure Policy refuses the change",
        "A policy assignment denies this request.",
        "Ask the policy's owner, or change the request to satisfy it, then retry the job.";
    ScopeLocked = "scope-locked", Denied, None, "A lock refuses the change",
        "A management lock on the resource, its group or subscription refuses writes.",
        "Remove the lock for the time of the job, then retry it.";
    ProviderNotRegistered = "provider-not-registered", Invalid, None, "The subscription is not registered for this resource type",
        "The resource provider's namespace is not registered in the subscription.",
        "Register the provider (`az provider register`), then retry the job.";
    AzureRejected = "azure-rejected", Invalid, None, "Azure rejected the request",
        "Azure says the request is wrong; its own code and text are in `azure`.",
        "Read Azure's text; correct the request and submit it again.";
    AzureConflict = "azure-conflict", Conflict, None, "Azure reports a conflict that did not go away",
        "Something else changes the resource, or what exists is in the way; Azure's own code and text are in `azure`.",
        "Look at the resource in Azure, then retry the job.";
    AzureUnavailable = "azure-unavailable", Transient, None, "Azure did not answer well within the allowed attempts",
        "Azure was throttling, failing or not reachable again and again.",
        "Retry the job later; it goes on from what exists.";
    OperationFailed = "operation-failed", Invalid, None, "An Azure operation ended in failure",
        "Azure accepted the change and then reported it as failed; its own code and text are in `azure`.",
        "Read Azure's text, repair what it names, then retry the job.";
    OperationTimeout = "operation-timeout", Transient, None, "An Azure operation did not end in time",
        "Azure accepted the change but did not finish it within the time a step may take.",
        "Look at the resource in Azure; retry the job when it is no longer being changed.";
    BindingNotProven = "binding-not-proven", Conflict, None, "The read-back does not show the key in use",
        "Everything was set, but reading the target back shows another key, store or identity.",
        "Look for somebody else changing the resource, then retry the job.";
    UntrustedOperationUrl = "untrusted-operation-url", Bug, None, "An operation's address is not Azure's",
        "A stored operation address points to another host than the configured Azure Resource Manager; it was not called.",
        "Check the configured cloud; report it if the cloud is right.";
    UnexpectedAnswer = "unexpected-answer", Bug, None, "Azure answered something the service does not understand",
        "The answer lacks a field the service needs.",
        "Report it with the Azure request id in `azure`; retrying may help.";
    StepDefect = "step-defect", Bug, None, "A step went wrong inside the service",
        "A defect in the service; the cause is in its log under the trace id.",
        "Report the trace id to whoever runs the service, then retry the job.";
}

impl Code {
    /// The wire form, kebab-case.
    pub const fn as_str(self) -> &'static str {
        self.info().code
    }

    /// The code of this wire form.
    pub fn find(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.as_str() == code)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::find(&code).ok_or_else(|| serde::de::Error::custom(format!("unknown code {code}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_kebab_case_and_explained() {
        let mut seen = std::collections::HashSet::new();
        for info in Code::ALL.iter().map(|c| c.info()) {
            assert!(seen.insert(info.code), "{} twice", info.code);
            assert!(info.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", info.code);
            assert!(info.meaning.ends_with('.') && info.remedy.ends_with('.'), "{}", info.code);
        }
    }
}

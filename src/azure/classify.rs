//! From Azure's status, codes and text to our kinds of trouble.
//!
//! What belongs here: one pure function and its table. What does not: reading bodies (`body`), and what to do about a
//! kind. The sources of each code are in the protocol notes; those marked UNVERIFIED there are read leniently here.

use super::error::AzureErrorKind::{self, *};

/// Who answered: the same code means different things from different parts of Azure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Azure Resource Manager: a vault's refusal in its answers is about the service that tried to use its key.
    Arm,
    /// The data plane of a vault or managed HSM: a refusal is about our own call.
    Store,
}

/// The kind of an error answer, or of an operation that ended in failure (`status` 200).
///
/// The most precise code decides, then the outer one, then the status.
pub(super) fn classify(
    origin: Origin,
    status: u16,
    code: Option<&str>,
    inner_code: Option<&str>,
    message: &str,
) -> AzureErrorKind {
    if status == 429 {
        return Throttled;
    }
    by_text(status, message)
        .or_else(|| by_code(origin, status, inner_code?, message))
        .or_else(|| by_code(origin, status, code?, message))
        .unwrap_or_else(|| by_status(status))
}

/// Azure's text, where the code says nothing.
fn by_text(status: u16, message: &str) -> Option<AzureErrorKind> {
    // Cosmos answers this with 503 whenever it cannot use the key: a missing grant as well as a wrong address.
    if status == 503 && message.contains("Error contacting the Azure Key Vault") {
        return Some(KeyVaultAccess);
    }
    // Key Vault's code is the plain `Unauthorized`; a new token is on its way.
    if status == 401 && message.contains("[TokenExpired]") {
        return Some(Transient);
    }
    // Key Vault's inner code for a policy on keys is that of access policies too, UNVERIFIED; the text tells them apart.
    if status == 403 && message.contains("disallowed by policy") {
        return Some(PolicyDenied);
    }
    // Terraform's provider matches this text too, whatever the code.
    if status == 400 && message.contains("PrincipalNotFound") {
        return Some(PrincipalNotFound);
    }
    None
}

fn by_code(origin: Origin, status: u16, code: &str, message: &str) -> Option<AzureErrorKind> {
    let from_arm = origin == Origin::Arm;
    Some(match code.to_ascii_lowercase().as_str() {
        "resourcenotfound"
        | "resourcegroupnotfound"
        | "parentresourcenotfound"
        | "roleassignmentnotfound"
        | "keynotfound"
        | "notfound" => NotFound,
        // Nothing a caller could wait for or create: the request names a world that does not exist.
        "subscriptionnotfound"
        | "invalidsubscriptionid"
        | "invalidresourcenamespace"
        | "invalidresourcetype"
        | "noregisteredproviderfound"
        | "locationnotavailableforresourcetype"
        | "missingapiversionparameter"
        | "invalidapiversionparameter"
        | "roledefinitiondoesnotexist"
        | "readonlydisabledsubscription"
        | "disallowedoperation" => Rejected,

        "subscriptionrequeststhrottled" | "toomanyrequests" | "throttled" => Throttled,
        "internalservererror"
        | "retryableerror"
        | "servertimeout"
        | "gatewaytimeout"
        | "serviceunavailable"
        | "temporarily_unavailable"
        | "expiredauthenticationtoken" => Transient,

        "authenticationfailed" | "invalidauthenticationtoken" | "invalidauthenticationtokentenant" | "unauthorized" => {
            Authentication
        }
        "authorizationfailed" | "linkedauthorizationfailed" => Forbidden,
        "forbiddenbyrbac" | "accessdenied" | "forbiddenbypolicy" if from_arm => KeyVaultAccess,
        "forbiddenbyrbac" | "accessdenied" | "forbiddenbypolicy" => Forbidden,
        "forbiddenbyfirewall" | "forbiddenbyconnection" if from_arm => KeyVaultClosed,
        "forbiddenbyfirewall" => FirewallClosed,
        "forbiddenbyconnection" => ConnectionRefusedByNetwork,
        "requestdisallowedbypolicy" => PolicyDenied,
        "scopelocked" => Locked,
        "missingsubscriptionregistration" | "subscriptionnotregistered" => ProviderNotRegistered,

        // Also the resource group's deletion: the group goes away or stays, and then the answer is another one.
        "anotheroperationinprogress"
        | "resourcegroupbeingdeleted"
        | "resourcegroupdeletionblocked"
        | "requestconflict"
        | "accountprovisioningstateinvalid"
        | "storageaccountoperationinprogress"
        | "concurrentfederatedidentitycredentialswritesforsinglemanagedidentity"
        | "objectisbeingdeleted"
        | "objectisbeingrecovered" => Busy,
        "conflict" | "operationnotallowed" if status == 409 => Busy,
        "objectisdeletedbutrecoverable" | "flagmustbesetforrestore" => SoftDeleted,
        "conflicterror" if is_about_a_deleted_vault(message) => SoftDeleted,
        // The same code also answers parallel changes of one vault.
        "conflicterror" => Busy,
        "vaultalreadyexists" | "storageaccountalreadytaken" | "storageaccountalreadyexists" | "customdomaininuse" => {
            NameTaken
        }
        // The second is a Managed HSM's, UNVERIFIED.
        "roleassignmentexists" | "roleassignmentalreadyexists" => RoleAssignmentExists,
        "roleassignmentupdatenotpermitted" | "roleassignmentlimitexceeded" => Conflict,
        "principalnotfound" => PrincipalNotFound,

        "keyvaultauthenticationfailure"
        | "accesspolicynotconfiguredforkeyvault"
        | "keyvaultaccesstokencannotbeacquired" => KeyVaultAccess,
        "keyvaultpolicyerror" => KeyVaultPolicy,
        "keydisabled" | "keynotyetvalid" | "keyexpired" | "keyoperationforbidden" => KeyUnusable,
        _ => return None,
    })
}

fn is_about_a_deleted_vault(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("deleted state") || message.contains("recover or purge")
}

fn by_status(status: u16) -> AzureErrorKind {
    match status {
        404 => NotFound,
        401 => Authentication,
        403 => Forbidden,
        408 | 500..=599 => Transient,
        409 => Conflict,
        // A write with `If-Match`: somebody wrote since the look, so look again.
        412 => Busy,
        429 => Throttled,
        // 2xx: an operation that was accepted and then failed for a reason not in the table.
        200..=299 | 400..=499 => Rejected,
        _ => Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM: Origin = Origin::Arm;
    const STORE: Origin = Origin::Store;

    #[test]
    fn every_code_of_the_protocol_has_its_kind() {
        for (origin, status, code, inner, kind) in [
            // Entra and tokens.
            (ARM, 401, "AuthenticationFailed", "", Authentication),
            (ARM, 401, "InvalidAuthenticationToken", "", Authentication),
            (ARM, 401, "InvalidAuthenticationTokenTenant", "", Authentication),
            (ARM, 401, "ExpiredAuthenticationToken", "", Transient),
            (STORE, 401, "Unauthorized", "", Authentication),
            // ARM: requests, versions, types.
            (ARM, 400, "MissingApiVersionParameter", "", Rejected),
            (ARM, 400, "InvalidApiVersionParameter", "", Rejected),
            (ARM, 400, "NoRegisteredProviderFound", "", Rejected),
            (ARM, 404, "NoRegisteredProviderFound", "", Rejected),
            (ARM, 404, "InvalidResourceNamespace", "", Rejected),
            (ARM, 404, "InvalidResourceType", "", Rejected),
            (ARM, 400, "LocationNotAvailableForResourceType", "", Rejected),
            (ARM, 400, "InvalidRequestContent", "", Rejected),
            (ARM, 400, "InvalidRequestFormat", "", Rejected),
            (ARM, 400, "BadRequest", "", Rejected),
            (ARM, 400, "InvalidParameter", "", Rejected),
            (ARM, 400, "LinkedInvalidPropertyId", "", Rejected),
            (ARM, 400, "InvalidResourceLocation", "", Rejected),
            (ARM, 409, "InvalidResourceLocation", "", Conflict),
            (ARM, 409, "InvalidResourceGroupLocation", "", Conflict),
            (ARM, 405, "MethodNotAllowed", "", Rejected),
            (ARM, 412, "PreconditionFailed", "", Busy),
            // ARM: rights and governance.
            (ARM, 403, "AuthorizationFailed", "", Forbidden),
            (ARM, 403, "LinkedAuthorizationFailed", "", Forbidden),
            (ARM, 403, "RequestDisallowedByPolicy", "", PolicyDenied),
            (ARM, 403, "ReadOnlyDisabledSubscription", "", Rejected),
            (ARM, 403, "DisallowedOperation", "", Rejected),
            (ARM, 409, "ScopeLocked", "", Locked),
            (ARM, 409, "MissingSubscriptionRegistration", "", ProviderNotRegistered),
            (ARM, 409, "missingsubscriptionregistration", "", ProviderNotRegistered),
            (ARM, 400, "SubscriptionNotRegistered", "", ProviderNotRegistered),
            (ARM, 400, "VirtualNetworkNotValid", "", Rejected),
            (ARM, 400, "SubnetsHaveNoServiceEndpointsConfigured", "", Rejected),
            // ARM: absent.
            (ARM, 404, "ResourceNotFound", "", NotFound),
            (ARM, 404, "ResourceGroupNotFound", "", NotFound),
            (ARM, 404, "ParentResourceNotFound", "", NotFound),
            (ARM, 404, "SubscriptionNotFound", "", Rejected),
            (ARM, 403, "SubscriptionNotFound", "", Rejected),
            // ARM: throttling and outages.
            (ARM, 429, "SubscriptionRequestsThrottled", "", Throttled),
            (ARM, 429, "TooManyRequests", "", Throttled),
            (ARM, 429, "OperationNotAllowed", "", Throttled),
            (ARM, 429, "", "", Throttled),
            (ARM, 408, "", "", Transient),
            (ARM, 500, "InternalServerError", "", Transient),
            (ARM, 500, "RetryableError", "", Transient),
            (ARM, 409, "RetryableError", "", Transient),
            (ARM, 502, "", "", Transient),
            (ARM, 503, "ServiceUnavailable", "", Transient),
            (ARM, 503, "ServerTimeout", "", Transient),
            (ARM, 504, "GatewayTimeout", "", Transient),
            // ARM: conflicts.
            (ARM, 409, "AnotherOperationInProgress", "", Busy),
            (ARM, 409, "Conflict", "", Busy),
            (ARM, 409, "OperationNotAllowed", "", Busy),
            (ARM, 400, "OperationNotAllowed", "", Rejected),
            (ARM, 409, "ResourceGroupBeingDeleted", "", Busy),
            (ARM, 409, "ResourceGroupDeletionBlocked", "", Busy),
            (ARM, 409, "RequestConflict", "", Busy),
            (ARM, 409, "AccountProvisioningStateInvalid", "", Busy),
            (ARM, 409, "StorageAccountOperationInProgress", "", Busy),
            (ARM, 409, "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity", "", Busy),
            (ARM, 409, "ServiceError", "", Conflict),
            (ARM, 409, "VaultAlreadyExists", "", NameTaken),
            (ARM, 409, "StorageAccountAlreadyTaken", "", NameTaken),
            (ARM, 409, "StorageAccountAlreadyExists", "", NameTaken),
            (ARM, 409, "CustomDomainInUse", "", NameTaken),
            (ARM, 409, "FlagMustBeSetForRestore", "", SoftDeleted),
            // Roles and principals.
            (ARM, 409, "RoleAssignmentExists", "", RoleAssignmentExists),
            (ARM, 409, "RoleAssignmentAlreadyExists", "", RoleAssignmentExists),
            (ARM, 409, "RoleAssignmentUpdateNotPermitted", "", Conflict),
            (ARM, 400, "RoleAssignmentLimitExceeded", "", Conflict),
            (ARM, 404, "RoleAssignmentNotFound", "", NotFound),
            (ARM, 404, "RoleDefinitionDoesNotExist", "", Rejected),
            (ARM, 400, "PrincipalNotFound", "", PrincipalNotFound),
            (ARM, 400, "UnmatchedPrincipalType", "", Rejected),
            (ARM, 400, "InvalidPrincipalId", "", Rejected),
            (ARM, 400, "FailedIdentityOperation", "", Rejected),
            (ARM, 400, "InvalidResourceIdentity", "", Rejected),
            // Services that use a key.
            (ARM, 400, "KeyVaultAuthenticationFailure", "", KeyVaultAccess),
            (ARM, 403, "KeyVaultAuthenticationFailure", "", KeyVaultAccess),
            (ARM, 200, "KeyVaultAuthenticationFailure", "", KeyVaultAccess),
            (ARM, 400, "AccessPolicyNotConfiguredForKeyVault", "", KeyVaultAccess),
            (ARM, 403, "KeyVaultAccessTokenCannotBeAcquired", "", KeyVaultAccess),
            (ARM, 400, "KeyVaultPolicyError", "", KeyVaultPolicy),
            (ARM, 400, "KeyVaultUriInvalid", "", Rejected),
            (ARM, 400, "KeyVaultVaultNotFound", "", Rejected),
            (ARM, 400, "KeyVaultEncryptionKeyNotFound", "", Rejected),
            (ARM, 400, "BadRequest", "ForbiddenByRbac", KeyVaultAccess),
            (ARM, 400, "ForbiddenByRbac", "", KeyVaultAccess),
            (ARM, 200, "BadRequest", "ForbiddenByFirewall", KeyVaultClosed),
            (ARM, 403, "Forbidden", "ForbiddenByConnection", KeyVaultClosed),
            (ARM, 403, "Forbidden", "KeyDisabled", KeyUnusable),
            (ARM, 200, "SomethingElse", "", Rejected),
            // Key Vault's data plane.
            (STORE, 403, "Forbidden", "ForbiddenByRbac", Forbidden),
            (STORE, 403, "Forbidden", "AccessDenied", Forbidden),
            (STORE, 403, "Forbidden", "ForbiddenByPolicy", Forbidden),
            (STORE, 403, "AccessDenied", "", Forbidden),
            (STORE, 403, "Forbidden", "", Forbidden),
            (STORE, 403, "Forbidden", "ForbiddenByFirewall", FirewallClosed),
            (STORE, 403, "Forbidden", "ForbiddenByConnection", ConnectionRefusedByNetwork),
            (STORE, 403, "Forbidden", "KeyDisabled", KeyUnusable),
            (STORE, 403, "Forbidden", "KeyNotYetValid", KeyUnusable),
            (STORE, 403, "Forbidden", "KeyExpired", KeyUnusable),
            (STORE, 403, "KeyOperationForbidden", "", KeyUnusable),
            (STORE, 404, "KeyNotFound", "", NotFound),
            (STORE, 404, "", "", NotFound),
            (STORE, 409, "Conflict", "ObjectIsDeletedButRecoverable", SoftDeleted),
            (STORE, 409, "Conflict", "ObjectIsBeingDeleted", Busy),
            (STORE, 409, "Conflict", "ObjectIsBeingRecovered", Busy),
            (STORE, 409, "Conflict", "", Busy),
            (STORE, 400, "BadParameter", "", Rejected),
            (STORE, 400, "BadParameter", "KeySizeNotSupported", Rejected),
            (STORE, 405, "MethodNotAllowed", "", Rejected),
            (STORE, 429, "Throttled", "", Throttled),
            (STORE, 500, "InternalServerError", "", Transient),
            (STORE, 503, "ServiceUnavailable", "", Transient),
            // Nothing known.
            (ARM, 418, "", "", Rejected),
            (ARM, 302, "", "", Unexpected),
            (ARM, 599, "Anything", "", Transient),
        ] {
            let some = |text: &'static str| (!text.is_empty()).then_some(text);
            assert_eq!(
                classify(origin, status, some(code), some(inner), "text"),
                kind,
                "{origin:?} {status} {code} {inner}"
            );
        }
    }

    #[test]
    fn texts_decide_where_codes_say_too_little() {
        for (status, code, message, kind) in [
            (409, "ConflictError", "A vault with the same name already exists in deleted state.", SoftDeleted),
            (409, "ConflictError", "You need to either recover or purge the existing vault.", SoftDeleted),
            (409, "ConflictError", "the Key Vault changed from the point the operation began", Busy),
            (
                503,
                "ServiceUnavailable",
                "Error contacting the Azure Key Vault resource. Please try again.",
                KeyVaultAccess,
            ),
            (503, "ServiceUnavailable", "high demand in this region", Transient),
            (400, "BadRequest", "PrincipalNotFound: Principal x does not exist in the directory", PrincipalNotFound),
        ] {
            assert_eq!(classify(ARM, status, Some(code), None, message), kind, "{message}");
        }
        let expired = "[TokenExpired] Error validating token: 'S2S12086'.";
        assert_eq!(classify(STORE, 401, Some("Unauthorized"), None, expired), Transient);
    }
}

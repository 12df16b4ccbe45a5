//! The words in which a service without its own says what is wrong with a key, and the shape of a service's errors.
//! All common codes are UNVERIFIED per service: they are the ones that several services use.

use serde_json::json;

use crate::arm::generic::kind::Kind;
use crate::arm::generic::rule::{Cmk, Said, Trouble};
use crate::cmk::Refusal;
use crate::http::{Call, Failure};

/// The rule's own words, else the common ones.
pub(crate) fn said(rule: &Cmk, trouble: &Trouble) -> Said {
    (rule.words)(trouble).unwrap_or_else(|| common(trouble))
}

fn common(trouble: &Trouble) -> Said {
    let bad = |code, message: &str| Said::now(400, code, message);
    match trouble {
        Trouble::Key(refusal) => {
            let (code, message) = refused(*refusal);
            bad(code, message)
        }
        Trouble::Missing(at) => bad(
            "InvalidEncryptionSettings",
            &format!(
                "The encryption settings are incomplete: '{}' is missing.",
                at.trim_start_matches('/').replace('/', ".")
            ),
        ),
        Trouble::VersionMissing => {
            bad("InvalidKeyVersion", "The identifier of the customer-managed key must have a version.")
        }
        Trouble::VersionNamed => {
            bad("InvalidKeyVersion", "The identifier of the customer-managed key must not have a version.")
        }
        Trouble::Nobody => bad(
            "InvalidEncryptionIdentity",
            "The identity for the customer-managed key is not assigned to the resource.",
        ),
        Trouble::TooLate => bad(
            "EncryptionNotSupportedOnExistingResource",
            "Customer-managed key encryption can be set at creation only.",
        ),
        Trouble::NotEmpty => bad(
            "EncryptionNotSupportedOnExistingResource",
            "Customer-managed key encryption can be enabled on an empty resource only.",
        ),
        Trouble::NoWayBack => {
            bad("EncryptionCannotBeDisabled", "Customer-managed key encryption cannot be disabled once it is enabled.")
        }
        Trouble::OtherVault => bad("InvalidKeyVault", "The customer-managed key must stay in its key vault."),
        Trouble::TooLong => {
            bad("InvalidKeyIdentifier", "The names of the key vault and the key are too long together.")
        }
    }
}

/// Code and text for a key that cannot be used.
pub(crate) fn refused(refusal: Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::BadUri => ("InvalidKeyVaultUri", "The key vault URI is not valid."),
        Refusal::HsmNotTaken => ("InvalidKeyVaultUri", "Keys of a managed HSM are not supported."),
        Refusal::VaultMissing => ("KeyVaultNotFound", "The key vault was not found."),
        Refusal::NotProtected => {
            ("KeyVaultPolicyError", "The key vault must have soft delete and purge protection enabled.")
        }
        Refusal::ShortRetention => ("KeyVaultPolicyError", "The key vault keeps deleted keys for too short a time."),
        Refusal::OtherRegion => ("KeyVaultRegionMismatch", "The key vault must be in the region of the resource."),
        Refusal::Firewall | Refusal::NoAccess | Refusal::IdentityGone => (
            "KeyVaultAuthenticationFailure",
            "The identity has no access to the key vault key: get, wrap key and unwrap key are needed, and the key vault must let trusted services in.",
        ),
        Refusal::KeyMissing => ("KeyVaultKeyNotFound", "The key was not found in the key vault."),
        Refusal::KeyDisabled => ("KeyVaultKeyDisabled", "The key is disabled."),
        Refusal::KeyNotYetValid | Refusal::KeyExpired => ("KeyVaultKeyExpired", "The key is outside of its dates."),
        Refusal::HasExpiry => ("KeyVaultKeyHasExpiry", "The key must not have an expiry date."),
        Refusal::WrongKey => ("KeyVaultKeyInvalid", "The key must be RSA and allow the operations of the service."),
        Refusal::WrongSize => ("KeyVaultKeyInvalid", "The service does not take keys of this size."),
    }
}

/// The error in the service's own shape.
pub(crate) fn failure(kind: &Kind, call: &Call, said: Said) -> Failure {
    shaped(kind, call, Failure::new(said.status, said.code, said.message))
}

/// Cosmos DB's form is flat, and its message ends in an activity id.
pub(crate) fn shaped(kind: &Kind, call: &Call, mut failure: Failure) -> Failure {
    if kind.flat_errors && failure.body.is_none() && failure.status != 501 {
        let message = format!(
            "{}\r\nActivityId: {}, Microsoft.Azure.Documents.Common/2.14.0",
            failure.message, call.correlation_id
        );
        failure.body = Some(json!({ "code": failure.code, "message": message }));
    }
    failure
}

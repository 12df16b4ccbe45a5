//! What a caller may write about a storage account.

use crate::arm::identity_block;
use crate::arm::shape::{Member, Shape, TAGS, may, must};

const SERVICE: Shape = Shape::Object(&[
    may("enabled", Shape::Bool),
    may("keyType", Shape::OneOf(&["Account", "Service"])),
    may("lastEnabledTime", Shape::ReadOnly),
]);

const ENCRYPTION: &[Member] = &[
    may("keySource", Shape::OneOf(&["Microsoft.Storage", "Microsoft.Keyvault"])),
    may("requireInfrastructureEncryption", Shape::Bool),
    may(
        "services",
        Shape::Object(&[may("blob", SERVICE), may("file", SERVICE), may("queue", SERVICE), may("table", SERVICE)]),
    ),
    may(
        "keyvaultproperties",
        Shape::Object(&[
            may("keyname", Shape::Text),
            may("keyversion", Shape::Text),
            may("keyvaulturi", Shape::Text),
            may("currentVersionedKeyIdentifier", Shape::ReadOnly),
            may("lastKeyRotationTimestamp", Shape::ReadOnly),
            may("currentVersionedKeyExpirationTimestamp", Shape::ReadOnly),
        ]),
    ),
    may(
        "identity",
        Shape::Object(&[may("userAssignedIdentity", Shape::Text), may("federatedIdentityClientId", Shape::Text)]),
    ),
];

const RULE: &[Member] = &[must("value", Shape::Text), may("action", Shape::OneOf(&["Allow"]))];

const NETWORK: &[Member] = &[
    must("defaultAction", Shape::OneOf(&["Allow", "Deny"])),
    may("bypass", Shape::Text),
    may("ipRules", Shape::List(&Shape::Object(RULE))),
    may("ipv6Rules", Shape::List(&Shape::Object(RULE))),
    may("virtualNetworkRules", Shape::List(&Shape::Any)),
    may("resourceAccessRules", Shape::List(&Shape::Any)),
];

const PROPERTIES: &[Member] = &[
    may("encryption", Shape::Object(ENCRYPTION)),
    may("accessTier", Shape::OneOf(&["Hot", "Cool", "Premium", "Cold", "Smart"])),
    may("allowBlobPublicAccess", Shape::Bool),
    may("allowCrossTenantReplication", Shape::Bool),
    may("allowSharedKeyAccess", Shape::Bool),
    may("allowedCopyScope", Shape::OneOf(&["PrivateLink", "AAD", "All"])),
    may("defaultToOAuthAuthentication", Shape::Bool),
    may("dnsEndpointType", Shape::OneOf(&["Standard", "AzureDnsZone"])),
    may("dualStackEndpointPreference", Shape::Any),
    may("enableExtendedGroups", Shape::Bool),
    may("isHnsEnabled", Shape::Bool),
    may("isLocalUserEnabled", Shape::Bool),
    may("isNfsV3Enabled", Shape::Bool),
    may("isSftpEnabled", Shape::Bool),
    may("largeFileSharesState", Shape::OneOf(&["Disabled", "Enabled"])),
    may("minimumTlsVersion", Shape::OneOf(&["TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"])),
    may("networkAcls", Shape::Object(NETWORK)),
    may("publicNetworkAccess", Shape::OneOf(&["Enabled", "Disabled", "SecuredByPerimeter"])),
    may("supportsHttpsTrafficOnly", Shape::Bool),
    may("routingPreference", Shape::Any),
    may("sasPolicy", Shape::Any),
    may("keyPolicy", Shape::Any),
    may("customDomain", Shape::Any),
    may("azureFilesIdentityBasedAuthentication", Shape::Any),
    may("immutableStorageWithVersioning", Shape::Any),
    may("geoPriorityReplicationStatus", Shape::Any),
    may("allowSharedKeyAccessForServices", Shape::Any),
    may("dataCollaborationPolicyProperties", Shape::Any),
    // What reads show besides.
    may("provisioningState", Shape::ReadOnly),
    may("primaryEndpoints", Shape::ReadOnly),
    may("primaryLocation", Shape::ReadOnly),
    may("secondaryLocation", Shape::ReadOnly),
    may("secondaryEndpoints", Shape::ReadOnly),
    may("statusOfPrimary", Shape::ReadOnly),
    may("statusOfSecondary", Shape::ReadOnly),
    may("geoReplicationStats", Shape::ReadOnly),
    may("lastGeoFailoverTime", Shape::ReadOnly),
    may("failoverInProgress", Shape::ReadOnly),
    may("blobRestoreStatus", Shape::ReadOnly),
    may("storageAccountSkuConversionStatus", Shape::ReadOnly),
    may("isSkuConversionBlocked", Shape::ReadOnly),
    may("accountMigrationInProgress", Shape::ReadOnly),
    may("creationTime", Shape::ReadOnly),
    may("keyCreationTime", Shape::ReadOnly),
    may("privateEndpointConnections", Shape::ReadOnly),
];

/// Body of a PUT or PATCH.
pub(crate) const BODY: &[Member] = &[
    must(
        "sku",
        Shape::Object(&[
            must(
                "name",
                Shape::OneOf(&[
                    "Standard_LRS",
                    "Standard_GRS",
                    "Standard_RAGRS",
                    "Standard_ZRS",
                    "Standard_GZRS",
                    "Standard_RAGZRS",
                    "Premium_LRS",
                    "Premium_ZRS",
                ]),
            ),
            may("tier", Shape::ReadOnly),
        ]),
    ),
    must("kind", Shape::OneOf(&["Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage"])),
    must("location", Shape::Text),
    may("tags", TAGS),
    may("identity", Shape::Object(identity_block::SHAPE)),
    may("properties", Shape::Object(PROPERTIES)),
    may("extendedLocation", Shape::Any),
    may("zones", Shape::List(&Shape::Text)),
    may("placement", Shape::Any),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

//! The checks that ARM makes before any provider sees a request, and the refusals that all providers share.

use serde_json::{Map, Value};

use crate::entra::tokens::{BadToken, Claims};
use crate::http::{Call, Failure, region};
use crate::state::{Shared, World};

/// The regions the simulator knows.
pub(crate) const REGIONS: &[&str] = &[
    "australiaeast",
    "australiasoutheast",
    "austriaeast",
    "belgiumcentral",
    "brazilsouth",
    "canadacentral",
    "canadaeast",
    "centralindia",
    "centralus",
    "chilecentral",
    "chinaeast2",
    "chinanorth3",
    "eastasia",
    "eastus",
    "eastus2",
    "francecentral",
    "germanywestcentral",
    "israelcentral",
    "italynorth",
    "japaneast",
    "japanwest",
    "koreacentral",
    "malaysiawest",
    "mexicocentral",
    "newzealandnorth",
    "northcentralus",
    "northeurope",
    "norwayeast",
    "polandcentral",
    "qatarcentral",
    "southafricanorth",
    "southcentralus",
    "southeastasia",
    "southindia",
    "spaincentral",
    "swedencentral",
    "switzerlandnorth",
    "uaenorth",
    "uksouth",
    "ukwest",
    "usgovarizona",
    "usgovtexas",
    "usgovvirginia",
    "westcentralus",
    "westeurope",
    "westindia",
    "westus",
    "westus2",
    "westus3",
];

/// The caller, or ARM's 401.
pub(crate) fn authenticate(shared: &Shared, call: &Call) -> Result<Claims, Failure> {
    let challenge = |code: &str, message: &str| {
        let authority = format!("{}/{}", shared.addresses.url("login"), shared.options.tenant_id);
        Failure::new(401, code, message).with(
            "www-authenticate",
            format!(
                "Bearer authorization_uri=\"{authority}\", error=\"invalid_token\", error_description=\"{message}\""
            ),
        )
    };
    let Some(token) = call.bearer() else {
        return Err(challenge("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."));
    };
    let claims = shared.signer.verify(token, call.now).map_err(|bad| match bad {
        BadToken::Expired => challenge("ExpiredAuthenticationToken", "The access token expiry is in the past."),
        BadToken::Malformed | BadToken::Signature => {
            challenge("InvalidAuthenticationToken", "The access token is invalid.")
        }
    })?;
    if !claims.tid.eq_ignore_ascii_case(&shared.options.tenant_id) {
        return Err(challenge("InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer."));
    }
    if !is_arm(shared, &claims.aud) {
        return Err(challenge(
            "InvalidAuthenticationToken",
            "The access token has been obtained for wrong audience or resource.",
        ));
    }
    let _ = call.principal.set(claims.oid.clone());
    Ok(claims)
}

/// Whether a token for this audience is one for ARM: the two public names and the simulator's own, with or without slash.
fn is_arm(shared: &Shared, audience: &str) -> bool {
    let audience = audience.trim_end_matches('/');
    let port = shared.addresses.port;
    ["https://management.azure.com", "https://management.core.windows.net"].contains(&audience)
        || audience == shared.addresses.url("management")
        || ["localhost", "127.0.0.1"].iter().any(|host| audience == format!("https://{host}:{port}"))
        || audience == format!("https://{}:{port}", shared.addresses.suffix)
}

/// The subscription that a path names, in canonical spelling; the first one where it names none of the tenant's.
pub(crate) fn named_subscription<'s>(shared: &'s Shared, segments: &[String]) -> &'s str {
    let named = match segments {
        [head, id, ..] if head.eq_ignore_ascii_case("subscriptions") => {
            shared.options.subscriptions().find(|known| known.eq_ignore_ascii_case(id))
        }
        _ => None,
    };
    named.unwrap_or(&shared.options.subscription_id)
}

/// A subscription of the tenant, or 404; or 401 where it is another tenant's. Text UNVERIFIED.
pub(crate) fn subscription_of(shared: &Shared, segments: &[String]) -> Result<(), Failure> {
    match segments {
        [head, id, ..] if head.eq_ignore_ascii_case("subscriptions") => {
            let is = |known: &String| known.eq_ignore_ascii_case(id);
            if shared.options.subscriptions().any(is) {
                return Ok(());
            }
            if shared.options.foreign_subscriptions.iter().any(is) {
                return Err(Failure::new(
                    401,
                    "InvalidAuthenticationTokenTenant",
                    format!(
                        "The access token is from the wrong issuer. It must match the tenant associated with this subscription. (Token of tenant '{}'.)",
                        shared.options.tenant_id
                    ),
                ));
            }
            if uuid::Uuid::try_parse(id).is_err() {
                return Err(Failure::new(
                    400,
                    "InvalidSubscriptionId",
                    format!("The provided subscription identifier '{id}' is malformed or invalid."),
                ));
            }
            Err(Failure::new(404, "SubscriptionNotFound", format!("The subscription '{id}' could not be found.")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn no_route(call: &Call) -> Failure {
    Failure::new(
        404,
        "InvalidResourceType",
        format!("The resource type could not be found for the path '{}'.", call.path),
    )
}

/// A namespace that is not played, or a type that a played one does not have.
pub(crate) fn unknown(namespace: &str, kind: &str) -> Failure {
    let played = [
        "microsoft.keyvault",
        "microsoft.managedidentity",
        "microsoft.network",
        "microsoft.storage",
        "microsoft.resources",
    ];
    if played.contains(&namespace) {
        return unknown_type(namespace, kind);
    }
    if namespace.starts_with("microsoft.") || crate::arm::generic::plays(namespace) {
        return Failure::not_played(&format!("{namespace}/{kind}"));
    }
    Failure::new(404, "InvalidResourceNamespace", format!("The resource namespace '{namespace}' is invalid."))
}

pub(crate) fn unknown_type(namespace: &str, kind: &str) -> Failure {
    Failure::new(
        404,
        "InvalidResourceType",
        format!("The resource type '{kind}' could not be found in the namespace '{namespace}'."),
    )
}

/// 404 of a resource that is not there.
pub(crate) fn not_found(kind: &str, name: &str, group: &str) -> Failure {
    Failure::new(
        404,
        "ResourceNotFound",
        format!(
            "The Resource '{kind}/{name}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        ),
    )
}

/// The canonical name of a group that takes new resources: it exists and is not being deleted.
pub(crate) fn open_group(world: &World, id: &str, name: &str) -> Result<String, Failure> {
    let Some(group) = world.groups.get(&id.to_lowercase()) else {
        return Err(no_group(name));
    };
    if group.deleting {
        return Err(Failure::new(
            409,
            "ResourceGroupBeingDeleted",
            format!("The resource group '{name}' is in deprovisioning state and cannot perform this operation."),
        ));
    }
    Ok(group.name.clone())
}

pub(crate) fn no_group(name: &str) -> Failure {
    Failure::new(404, "ResourceGroupNotFound", format!("Resource group '{name}' could not be found."))
}

/// The region of a body, in canonical spelling.
pub(crate) fn location(body: &Map<String, Value>, kind: &str) -> Result<String, Failure> {
    let asked = body.get("location").and_then(Value::as_str).unwrap_or_default();
    let name = region(asked);
    if REGIONS.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(Failure::new(
        400,
        "LocationNotAvailableForResourceType",
        format!(
            "The provided location '{asked}' is not available for resource type '{kind}'. List of available regions for the resource type is '{}'.",
            REGIONS.join(",")
        ),
    ))
}

/// An existing resource stays in its region.
pub(crate) fn same_location(have: &str, asked: &str, name: &str, kind: &str) -> Result<(), Failure> {
    if have == asked {
        return Ok(());
    }
    Err(Failure::new(
        409,
        "InvalidResourceLocation",
        format!(
            "The resource '{name}' already exists in location '{have}'. A resource with the same name cannot be created in location '{asked}'. Please select a new resource name. (Type {kind}.)"
        ),
    ))
}

/// At most 50 tags, names up to 512 characters, values up to 256.
pub(crate) fn tags(body: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let tags = body.get("tags").and_then(Value::as_object).cloned().unwrap_or_default();
    if tags.len() > 50 {
        return Err(Failure::new(400, "InvalidTags", "The maximum number of tags is 50."));
    }
    for (name, value) in &tags {
        let length = value.as_str().map_or(0, |v| v.chars().count());
        if name.is_empty() || name.chars().count() > 512 || length > 256 {
            return Err(Failure::new(
                400,
                "InvalidTagNameOrValue",
                format!("The tag '{name}' has a wrong name or too long a value."),
            ));
        }
    }
    Ok(tags)
}

"""Bodies of the services that the product puts under a key, as their documentation has them."""

from .cloud import LOCATION


def user_assigned(identity_id):
    return {"type": "UserAssigned", "userAssignedIdentities": {identity_id: {}}}


def storage_account(identity_id, vault_uri, key_name, key_version):
    """`key_version` may be empty: the account then follows the key. None leaves the member out."""
    key = {"keyvaulturi": vault_uri, "keyname": key_name}
    if key_version is not None:
        key["keyversion"] = key_version
    return {
        "location": LOCATION,
        "kind": "StorageV2",
        "sku": {"name": "Standard_LRS"},
        "identity": user_assigned(identity_id),
        "properties": {
            "encryption": {
                "keySource": "Microsoft.Keyvault",
                "identity": {"userAssignedIdentity": identity_id},
                "keyvaultproperties": key,
                "services": {
                    "blob": {"enabled": True, "keyType": "Account"},
                    "file": {"enabled": True, "keyType": "Account"},
                },
            }
        },
    }


def cosmos_account(identity_id, key_url):
    """`key_url` has no version; with None for both the account is under Microsoft's key."""
    body = {
        "location": LOCATION,
        "kind": "GlobalDocumentDB",
        "properties": {
            "databaseAccountOfferType": "Standard",
            "locations": [{"locationName": LOCATION, "failoverPriority": 0, "isZoneRedundant": False}],
        },
    }
    if identity_id:
        body["identity"] = user_assigned(identity_id)
        body["properties"]["defaultIdentity"] = f"UserAssignedIdentity={identity_id}"
    if key_url:
        body["properties"]["keyVaultKeyUri"] = key_url
    return body


def ai_account(name, identity, vault_uri, key_name, key_version):
    """`identity` is the whole identity: the body needs its id and, for the key, its client id."""
    body = {
        "location": LOCATION,
        "kind": "CognitiveServices",
        "sku": {"name": "S0"},
        "properties": {"customSubDomainName": name},
    }
    if identity is not None:
        body["identity"] = user_assigned(identity.id)
        body["properties"]["encryption"] = {
            "keySource": "Microsoft.KeyVault",
            "keyVaultProperties": {
                "keyVaultUri": vault_uri,
                "keyName": key_name,
                "keyVersion": key_version,
                "identityClientId": identity.client_id,
            },
        }
    return body

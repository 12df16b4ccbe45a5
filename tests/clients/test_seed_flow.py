"""The seed's whole flow as an operator's script would do it, and the same key under the three services of the product."""

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage.models import StorageAccountUpdateParameters

from support.bodies import ai_account, cosmos_account, storage_account
from support.cloud import CRYPTO_OFFICER, ENCRYPTION_USER, LOCATION, all_codes, unique

ALLOWED = "203.0.113.10/32"
"""The address under which the simulator's callers from loopback appear."""


def test_the_seed_from_nothing_under_lags(fresh):
    fresh.sim.lags(grant=45, principal=20, grantRead=3, firewall=10)
    group = fresh.group().name
    assert not fresh.resources.resource_groups.check_existence(unique("none"))
    assert fresh.resources.resource_groups.check_existence(group)

    identity = fresh.identity(group)
    assert identity.principal_id != identity.client_id
    assert identity.tenant_id == fresh.sim.tenant

    name = unique("kv")
    vault = fresh.vault(
        group,
        name,
        softDeleteRetentionInDays=90,
        networkAcls={
            "bypass": "AzureServices",
            "defaultAction": "Deny",
            "ipRules": [{"value": ALLOWED}],
            "virtualNetworkRules": [],
        },
        publicNetworkAccess="Enabled",
    )
    shown = vault.properties
    assert shown.vault_uri == f"https://{name}.vault.{fresh.sim.domain}/"
    assert (shown.enable_soft_delete, shown.enable_purge_protection, shown.enable_rbac_authorization) == (True,) * 3
    assert shown.soft_delete_retention_in_days == 90
    assert shown.network_acls.default_action == "Deny" and shown.network_acls.bypass == "AzureServices"
    assert [rule.value for rule in shown.network_acls.ip_rules] == [ALLOWED]

    fresh.grant(vault.id, fresh.me.object_id, CRYPTO_OFFICER)
    # Without the principal's type RBAC looks the principal up, and does not find one so young.
    granted, refused = fresh.until(
        lambda: fresh.grant(vault.id, identity.principal_id, ENCRYPTION_USER, principal_type=None), "PrincipalNotFound"
    )
    assert refused > 0
    shown, _ = fresh.until(
        lambda: fresh.authorization.role_assignments.get(vault.id, granted.name), "RoleAssignmentNotFound", step=1
    )
    assert shown.principal_id == identity.principal_id
    assert shown.role_definition_id.endswith(ENCRYPTION_USER)
    assert shown.role_definition_id.startswith(f"/subscriptions/{fresh.sim.subscription}/providers/")
    assert shown.scope == vault.id
    definition = fresh.authorization.role_definitions.get_by_id(shown.role_definition_id)
    assert definition.role_name == "Key Vault Crypto Service Encryption User"
    assert definition.role_type == "BuiltInRole"

    keys = fresh.keys(vault.properties.vault_uri)
    key, _ = fresh.until(
        lambda: keys.create_rsa_key("sa-cmk-key", size=4096), "ForbiddenByRbac", "ForbiddenByFirewall"
    )
    assert key.key_type == "RSA" and len(key.key.n) == 512 and key.key.e == b"\x01\x00\x01"
    assert set(key.key_operations) == {"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
    assert key.properties.recovery_level == "Recoverable" and key.properties.recoverable_days == 90
    assert keys.get_key_rotation_policy("sa-cmk-key") is not None

    account = unique("st")
    body = storage_account(identity.id, vault.properties.vault_uri.rstrip("/"), key.name, key.properties.version)
    made, refused = fresh.until(
        lambda: fresh.storage.storage_accounts.begin_create(group, account, body).result(),
        "KeyVaultAuthenticationFailure",
    )
    assert made.provisioning_state == "Succeeded"
    shown = fresh.storage.storage_accounts.get_properties(group, account)
    assert_under_key(shown, key, identity.id, pinned=True)
    assert fresh.storage.storage_accounts.list_keys(group, account).keys_property[0].permissions.upper() == "FULL"
    assert fresh.storage.blob_services.get_service_properties(group, account).name == "default"
    creates = fresh.sim.count(method="POST", path="/keys/sa-cmk-key/create", changed="true")
    assert creates == 1


def assert_under_key(account, key, identity_id, pinned):
    encryption = account.encryption
    assert encryption.key_source == "Microsoft.Keyvault"
    assert encryption.key_vault_properties.key_name == key.name
    assert encryption.key_vault_properties.key_vault_uri.rstrip("/") == key.properties.vault_url.rstrip("/")
    assert (encryption.key_vault_properties.key_version or "") == (key.properties.version if pinned else "")
    assert encryption.key_vault_properties.current_versioned_key_identifier == key.id
    assert encryption.key_vault_properties.last_key_rotation_timestamp is not None
    assert encryption.encryption_identity.encryption_user_assigned_identity.lower() == identity_id.lower()
    held = {name.lower() for name in account.identity.user_assigned_identities}
    assert held == {identity_id.lower()}


def test_storage_follows_patch_from_microsofts_key_to_ones_own_and_back(place, cloud):
    key = place.keys.create_rsa_key("k1", size=2048)
    account = unique("st")
    plain = {"location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
    made = cloud.storage.storage_accounts.begin_create(place.group, account, plain).result()
    assert made.encryption.key_source == "Microsoft.Storage"
    assert made.primary_endpoints.blob == f"https://{account}.blob.{cloud.sim.domain}/"

    body = storage_account(place.identity.id, place.uri, "k1", "")
    patch = {"identity": body["identity"], "properties": {"encryption": body["properties"]["encryption"]}}
    shown = cloud.storage.storage_accounts.update(place.group, account, patch)
    assert_under_key(shown, key, place.identity.id, pinned=False)

    pinned = storage_account(place.identity.id, place.uri, "k1", key.properties.version)["properties"]
    shown = cloud.storage.storage_accounts.update(place.group, account, {"properties": pinned})
    assert_under_key(shown, key, place.identity.id, pinned=True)

    back = {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}
    shown = cloud.storage.storage_accounts.update(place.group, account, back)
    assert shown.encryption.key_source == "Microsoft.Storage"
    assert not shown.encryption.key_vault_properties or not shown.encryption.key_vault_properties.key_name


def test_storage_patch_leaves_what_it_does_not_name(place, cloud):
    account = unique("st")
    plain = {
        "location": LOCATION,
        "kind": "StorageV2",
        "sku": {"name": "Standard_LRS"},
        "tags": {"owner": "finance"},
        "properties": {"minimumTlsVersion": "TLS1_2", "allowBlobPublicAccess": False},
    }
    cloud.storage.storage_accounts.begin_create(place.group, account, plain).result()
    cloud.storage.storage_accounts.update(
        place.group, account, StorageAccountUpdateParameters(tags={"owner": "finance", "cmk": "yes"})
    )
    shown = cloud.storage.storage_accounts.get_properties(place.group, account)
    assert shown.tags == {"owner": "finance", "cmk": "yes"}
    assert shown.minimum_tls_version == "TLS1_2" and shown.allow_blob_public_access is False


def test_storage_without_a_pinned_version_follows_the_key_within_a_day(fresh_place, fresh):
    place = fresh_place
    old = place.keys.create_rsa_key("k1", size=2048)
    following, pinned = unique("st"), unique("st")
    for account, version in ((following, ""), (pinned, old.properties.version)):
        body = storage_account(place.identity.id, place.uri, "k1", version)
        fresh.storage.storage_accounts.begin_create(place.group, account, body).result()
    new = place.keys.rotate_key("k1")
    assert new.properties.version != old.properties.version
    fresh.advance(25 * 3600)
    current = {
        account: fresh.storage.storage_accounts.get_properties(
            place.group, account
        ).encryption.key_vault_properties.current_versioned_key_identifier
        for account in (following, pinned)
    }
    assert current == {following: new.id, pinned: old.id}


def test_cosmos_account_created_under_a_key(place, cloud):
    place.keys.create_rsa_key("k1", size=3072)
    name = unique("cosmos")
    body = cosmos_account(place.identity.id, place.uri + "keys/k1")
    made = cloud.cosmos.database_accounts.begin_create_or_update(place.group, name, body).result()
    assert made.provisioning_state == "Succeeded"
    assert_cosmos_under_key(cloud, place, name)
    assert made.document_endpoint


def assert_cosmos_under_key(cloud, place, name):
    shown = cloud.cosmos.database_accounts.get(place.group, name)
    assert shown.key_vault_key_uri == place.uri + "keys/k1"
    assert shown.default_identity.lower() == f"UserAssignedIdentity={place.identity.id}".lower()
    assert shown.customer_managed_key_status.startswith("Access to the configured customer managed key confirmed.")
    return shown


def test_cosmos_account_takes_a_key_in_three_patches(place, cloud):
    place.keys.create_rsa_key("k1", size=3072)
    name = unique("cosmos")
    plain = cosmos_account(None, None)
    cloud.cosmos.database_accounts.begin_create_or_update(place.group, name, plain).result()
    assert not cloud.cosmos.database_accounts.get(place.group, name).key_vault_key_uri
    whole = cosmos_account(place.identity.id, place.uri + "keys/k1")
    for patch in (
        # Sent together with the identity, the default identity would be dropped.
        {"identity": whole["identity"]},
        {"properties": {"defaultIdentity": whole["properties"]["defaultIdentity"]}},
        {"properties": {"keyVaultKeyUri": place.uri + "keys/k1"}},
    ):
        cloud.cosmos.database_accounts.begin_update(place.group, name, patch).result()
    assert_cosmos_under_key(cloud, place, name)


def test_cosmos_says_when_its_key_is_disabled_and_when_it_is_back(fresh_place, fresh):
    place = fresh_place
    key = place.keys.create_rsa_key("k1", size=3072)
    name = unique("cosmos")
    body = cosmos_account(place.identity.id, place.uri + "keys/k1")
    fresh.cosmos.database_accounts.begin_create_or_update(place.group, name, body).result()
    place.keys.update_key_properties("k1", key.properties.version, enabled=False)
    fresh.advance(2 * 3600)
    revoked = fresh.cosmos.database_accounts.get(place.group, name).customer_managed_key_status
    assert "4018" in revoked, revoked
    with pytest.raises(HttpResponseError) as refusal:
        patch = {"properties": {"minimalTlsVersion": "Tls12"}}
        fresh.cosmos.database_accounts.begin_update(place.group, name, patch).result()
    assert refusal.value.status_code == 400 and "Revoked" in refusal.value.message
    fresh.keys(place.uri).update_key_properties("k1", key.properties.version, enabled=True)
    fresh.advance(2 * 3600)
    shown = fresh.cosmos.database_accounts.get(place.group, name)
    assert shown.customer_managed_key_status.startswith("Access to the configured customer managed key confirmed.")


def test_ai_services_account_created_under_a_key(place, cloud):
    key = place.keys.create_rsa_key("k1", size=2048)
    name = unique("ai")
    body = ai_account(name, place.identity, place.uri, "k1", key.properties.version)
    made = cloud.cognitive.accounts.begin_create(place.group, name, body).result()
    assert made.properties.provisioning_state == "Succeeded"
    assert_ai_under_key(cloud, place, name, key)


def assert_ai_under_key(cloud, place, name, key):
    shown = cloud.cognitive.accounts.get(place.group, name).properties.encryption
    assert shown.key_source == "Microsoft.KeyVault"
    assert shown.key_vault_properties.key_name == "k1"
    assert shown.key_vault_properties.key_version == key.properties.version
    assert shown.key_vault_properties.key_vault_uri.rstrip("/") == place.uri.rstrip("/")
    assert shown.key_vault_properties.identity_client_id == place.identity.client_id


def test_ai_services_account_takes_a_key_and_gives_it_back(place, cloud):
    key = place.keys.create_rsa_key("k1", size=2048)
    name = unique("ai")
    plain = ai_account(name, None, None, None, None)
    cloud.cognitive.accounts.begin_create(place.group, name, plain).result()
    shown = cloud.cognitive.accounts.get(place.group, name).properties
    assert shown.encryption is None, "absent while no key was ever set"
    whole = ai_account(name, place.identity, place.uri, "k1", key.properties.version)
    for patch in ({"identity": whole["identity"]}, {"properties": {"encryption": whole["properties"]["encryption"]}}):
        cloud.cognitive.accounts.begin_update(place.group, name, patch).result()
    assert_ai_under_key(cloud, place, name, key)
    back = {"properties": {"encryption": {"keySource": "Microsoft.CognitiveServices"}}}
    cloud.cognitive.accounts.begin_update(place.group, name, back).result()
    shown = cloud.cognitive.accounts.get(place.group, name).properties.encryption
    assert shown.key_source == "Microsoft.CognitiveServices"


def test_ai_services_refuse_the_principal_id_in_place_of_the_client_id(place, cloud):
    key = place.keys.create_rsa_key("k1", size=2048)
    name = unique("ai")
    body = ai_account(name, place.identity, place.uri, "k1", key.properties.version)
    body["properties"]["encryption"]["keyVaultProperties"]["identityClientId"] = place.identity.principal_id
    # In Azure such a creation is refused or ends as Failed; either is an error for the client, none is a success.
    with pytest.raises(HttpResponseError) as refusal:
        cloud.cognitive.accounts.begin_create(place.group, name, body).result()
    assert all_codes(refusal.value), refusal.value

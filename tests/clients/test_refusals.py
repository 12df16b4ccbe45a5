"""What Azure refuses, as the SDKs raise it: status, error code, inner codes, and a word of the message where clients look at it.

Each row of the table is a function that does the refused thing. The statuses and codes are those of Azure's published
protocol; where that is silent or its sources differ, a row names every answer that a client has to expect.
"""

import re
import uuid

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.resource.resources import ResourceManagementClient

from support.bodies import ai_account, cosmos_account, storage_account, user_assigned
from support.cloud import (
    CRYPTO_OFFICER,
    ENCRYPTION_USER,
    LOCATION,
    READER,
    all_codes,
    object_id_of,
    unique,
)
from support.place import Place

TABLE = []
VAULTS = "2026-02-01"


def refusal(status, *codes, says=""):
    """Adds a row: the statuses (one or several) and the codes (each a string, or a tuple of those possible) expected."""

    def add(do):
        TABLE.append(pytest.param(do, status, codes, says, id=do.__name__.replace("_", "-")))
        return do

    return add


def vault_body(cloud, **properties):
    wanted = {"tenantId": cloud.sim.tenant, "sku": {"family": "A", "name": "standard"}, **properties}
    return {"location": LOCATION, "properties": wanted}


def put_vault(place, name=None, location=LOCATION, **properties):
    body = {**vault_body(place.cloud, **properties), "location": location}
    name = name or unique("kv")
    path = f"{place.cloud.subscription_path}/resourceGroups/{place.group}/providers/Microsoft.KeyVault/vaults/{name}"
    place.cloud.arm("PUT", path, VAULTS, body)


def create_account(place, body, name=None):
    place.cloud.storage.storage_accounts.begin_create(place.group, name or unique("st"), body).result()


def under_key(place, key="k1", version="", uri=None, identity=None):
    """A storage account's body under a key of the place; the key is made if it is `k1`."""
    if key == "k1":
        place.keys.create_rsa_key("k1", size=2048)
    return storage_account((identity or place.identity).id, uri or place.uri, key, version)


# Entra


@refusal(401, says="AADSTS7000215")
def wrong_secret(place):
    place.cloud.secret_credential(place.cloud.me.client_id, "wrong").get_token(place.cloud.sim.arm + "/.default")


@refusal(400, says="AADSTS700016")
def unknown_application(place):
    place.cloud.secret_credential(str(uuid.uuid4()), "any").get_token(place.cloud.sim.arm + "/.default")


@refusal(400, says="AADSTS90002|Unable to get authority configuration")
def unknown_tenant(place):
    me = place.cloud.me
    credential = place.cloud.secret_credential(me.client_id, me.secret, tenant=str(uuid.uuid4()))
    credential.get_token(place.cloud.sim.arm + "/.default")


@refusal(400, says="AADSTS70011")
def malformed_scope(place):
    place.cloud.credential.get_token("not-a-scope")


# The common contract of ARM


class OtherAudience:
    """A credential that brings a token for another audience than it is asked for."""

    def __init__(self, credential, scope):
        self.credential, self.scope = credential, scope

    def get_token(self, *scopes, **options):
        return self.credential.get_token(self.scope)

    def get_token_info(self, *scopes, options=None):
        return self.credential.get_token_info(self.scope)


@refusal(401, ("InvalidAuthenticationToken", "AuthenticationFailed", "InvalidAuthenticationTokenAudience"))
def a_vault_token_for_arm(place):
    vault = f"https://vault.{place.cloud.sim.domain}/.default"
    place.cloud.as_credential(OtherAudience(place.cloud.credential, vault)).read(place.vault.id, VAULTS)


@refusal(400, "MissingApiVersionParameter")
def no_api_version(place):
    place.cloud.arm("GET", place.vault.id, "")


@refusal(400, ("InvalidApiVersionParameter", "NoRegisteredProviderFound", "InvalidResourceType"))
def malformed_api_version(place):
    place.cloud.read(place.vault.id, "latest")


@refusal(404, "InvalidResourceNamespace")
def unknown_namespace(place):
    place.cloud.read(f"{place.cloud.subscription_path}/resourceGroups/{place.group}/providers/Contoso.Safe/safes/s1", VAULTS)


@refusal((400, 404), "InvalidResourceType")
def unknown_type(place):
    group = f"{place.cloud.subscription_path}/resourceGroups/{place.group}"
    place.cloud.read(f"{group}/providers/Microsoft.KeyVault/safes/s1", VAULTS)


@refusal(404, "ResourceGroupNotFound")
def group_not_there(place):
    place.cloud.keyvault.vaults.get(unique("none"), place.vault.name)


@refusal(404, "ResourceNotFound")
def resource_not_there(place):
    place.cloud.identities.user_assigned_identities.get(place.group, unique("none"))


@refusal(404, "SubscriptionNotFound")
def subscription_not_there(place):
    place.cloud.read(f"/subscriptions/{uuid.uuid4()}/resourceGroups/{place.group}", "2025-04-01")


@refusal(403, "AuthorizationFailed", says="does not have authorization to perform action")
def no_role_at_all(place):
    place.cloud.as_outsider().keyvault.vaults.get(place.group, place.vault.name)


@refusal(403, "AuthorizationFailed", says="roleAssignments/write")
def a_reader_grants_nothing(place):
    outsider = place.cloud.as_outsider()
    place.cloud.grant(place.vault.id, object_id_of(outsider), READER)
    assert outsider.keyvault.vaults.get(place.group, place.vault.name).name == place.vault.name
    outsider.grant(place.vault.id, outsider.me.object_id or object_id_of(outsider), CRYPTO_OFFICER)


@refusal(403, "LinkedAuthorizationFailed", says="assign/action")
def attaching_an_identity_of_others(place):
    cloud = place.cloud
    outsider, own = cloud.as_outsider(), cloud.group().name
    contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c"
    cloud.grant(f"{cloud.subscription_path}/resourceGroups/{own}", object_id_of(outsider), contributor)
    outsider.storage.storage_accounts.begin_create(own, unique("st"), under_key(place)).result()


@refusal(409, ("InvalidResourceGroupLocation", "InvalidResourceLocation"))
def group_moved_elsewhere(place):
    place.cloud.group(place.group, location="northeurope")


@refusal(400, ("LocationNotAvailableForResourceType", "InvalidLocation"))
def no_such_region(place):
    put_vault(place, location="atlantis")


@refusal(400, ("InvalidRequestContent", "InvalidRequestFormat", "BadRequest", "InvalidParameter"))
def malformed_json(place):
    from azure.core.rest import HttpRequest

    cloud = place.cloud
    request = HttpRequest(
        "PUT",
        cloud.sim.arm + place.vault.id,
        params={"api-version": VAULTS},
        content=b'{"location": ',
        headers={"Content-Type": "application/json"},
    )
    answer = cloud.resources.send_request(request)
    if answer.status_code >= 400:
        raise HttpResponseError(response=answer)


# Vaults


@refusal(400, ("BadRequest", "InvalidRequestContent", "InvalidRequestFormat", "InvalidParameter"))
def unknown_member_of_a_vault(place):
    put_vault(place, enableTimeTravel=True)


@refusal(400, ("BadRequest", "InvalidRequestContent", "InvalidRequestFormat", "InvalidParameter"))
def wrong_enum_of_a_vault(place):
    put_vault(place, networkAcls={"bypass": "Everything", "defaultAction": "Deny"})


@refusal(400, ("VaultNameNotValid", "BadRequest", "InvalidResourceName", "InvalidParameter", "InvalidRequestContent"))
def malformed_vault_name(place):
    put_vault(place, name="1-starts-with-digit")


@refusal(400, "BadRequest", says="enablePurgeProtection")
def purge_protection_off(place):
    place.cloud.keyvault.vaults.update(place.group, place.vault.name, {"properties": {"enablePurgeProtection": False}})


@refusal(400, "BadRequest", says="enablePurgeProtection")
def purge_protection_off_from_the_start(place):
    put_vault(place, enablePurgeProtection=False)


@refusal(400, "BadRequest")
def soft_delete_off(place):
    put_vault(place, enableSoftDelete=False)


@refusal(400, "BadRequest", says="softDeleteRetentionInDays")
def retention_changed(place):
    put_vault(place, name=place.vault.name, softDeleteRetentionInDays=7)


@refusal(400, "BadRequest")
def retention_out_of_range(place):
    put_vault(place, softDeleteRetentionInDays=6)


@refusal(400, "BadRequest")
def vault_of_another_tenant(place):
    put_vault(place, tenantId=str(uuid.uuid4()))


@refusal(400, "BadRequest")
def private_addresses_in_a_firewall(place):
    put_vault(place, networkAcls={"bypass": "None", "defaultAction": "Deny", "ipRules": [{"value": "10.0.0.0/8"}]})


@refusal(409, "VaultAlreadyExists", says="already in use")
def vault_name_of_another_group(place):
    other = Place(place.cloud)
    put_vault(other, name=place.vault.name)


@refusal(409, "ConflictError", says="deleted state")
def vault_name_of_a_deleted_vault(place):
    place.cloud.keyvault.vaults.delete(place.group, place.vault.name)
    put_vault(place, name=place.vault.name)


@refusal(405, "MethodNotAllowed", says="DeletedVaultPurge")
def purge_of_a_protected_vault(place):
    place.cloud.keyvault.vaults.delete(place.group, place.vault.name)
    place.cloud.keyvault.vaults.begin_purge_deleted(place.vault.name, LOCATION).result()


@refusal((404, 409), ("DeletedVaultNotFound", "ConflictError", "ResourceNotFound", "VaultNotFound", "NotFound"))
def recovery_of_a_vault_that_never_was(place):
    put_vault(place, createMode="recover")


# Role assignments


@refusal(409, "RoleAssignmentExists")
def the_same_grant_under_another_name(place):
    place.cloud.grant(place.vault.id, place.identity.principal_id, ENCRYPTION_USER)


@refusal((400, 409), "RoleAssignmentUpdateNotPermitted", says="not allowed to be updated")
def another_grant_under_the_same_name(place):
    place.cloud.grant(place.vault.id, place.cloud.me.object_id, ENCRYPTION_USER, name=place.grant.name)


@refusal(400, "PrincipalNotFound", says="does not exist in the directory")
def grant_to_nobody(place):
    place.cloud.grant(place.vault.id, str(uuid.uuid4()), ENCRYPTION_USER, principal_type=None)


@refusal((400, 404), "RoleDefinitionDoesNotExist")
def grant_of_an_unknown_role(place):
    place.cloud.grant(place.vault.id, place.identity.principal_id, str(uuid.uuid4()))


@refusal(400, ("UnmatchedPrincipalType", "InvalidPrincipalType"))
def grant_to_an_identity_said_to_be_a_user(place):
    other = place.cloud.identity(place.group)
    place.cloud.grant(place.vault.id, other.principal_id, ENCRYPTION_USER, principal_type="User")


@refusal(404, "RoleAssignmentNotFound")
def grant_not_there(place):
    place.cloud.authorization.role_assignments.get(place.vault.id, str(uuid.uuid4()))


# Keys


@refusal(401, "Unauthorized", says="AKV10022")
def an_arm_token_for_a_vault(place):
    arm = OtherAudience(place.cloud.credential, place.cloud.sim.arm + "/.default")
    place.cloud.as_credential(arm).keys(place.uri).get_key("k1")


@refusal(403, "Forbidden", "ForbiddenByRbac", says="DeniedWithNoValidRBAC")
def no_vault_role(place):
    place.cloud.as_outsider().keys(place.uri).get_key("k1")


@refusal(403, "Forbidden", "ForbiddenByRbac", says="Microsoft.KeyVault/vaults/keys/create/action")
def owner_of_the_subscription_without_vault_role(place):
    vault = place.cloud.vault(place.group)
    place.cloud.keys(vault.properties.vault_uri).create_rsa_key("k1", size=2048)


@refusal(403, "Forbidden", "ForbiddenByFirewall", says="Client address is not authorized")
def firewall_closed(place):
    acls = {"networkAcls": {"bypass": "AzureServices", "defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}]}}
    place.cloud.keyvault.vaults.update(place.group, place.vault.name, {"properties": acls})
    place.keys.get_key("k1")


@refusal(403, "Forbidden", "ForbiddenByConnection", says="Public network access is disabled|private link")
def public_access_disabled(place):
    closed = {"properties": {"publicNetworkAccess": "Disabled"}}
    place.cloud.keyvault.vaults.update(place.group, place.vault.name, closed)
    place.keys.get_key("k1")


@refusal(404, "KeyNotFound", says="was not found in this key vault")
def key_not_there(place):
    place.keys.get_key("none")


@refusal(404, "KeyNotFound")
def version_not_there(place):
    place.keys.create_ec_key("e1")
    place.keys.get_key("e1", "0" * 32)


@refusal(404, "KeyNotFound")
def deleted_key_not_there(place):
    place.keys.get_deleted_key("none")


@refusal(409, "Conflict", "ObjectIsDeletedButRecoverable")
def key_exists_deleted(place):
    place.keys.create_ec_key("e1")
    place.keys.begin_delete_key("e1", _polling_interval=0).wait()
    place.keys.create_ec_key("e1")


@refusal(403, "Forbidden", says="purge")
def key_purge_under_protection(place):
    place.keys.create_ec_key("e1")
    place.keys.begin_delete_key("e1", _polling_interval=0).wait()
    place.keys.purge_deleted_key("e1")


@refusal(400, "BadParameter")
def key_size_not_offered(place):
    place.keys.create_rsa_key("k1", size=1000)


@refusal(400, "BadParameter")
def key_name_malformed(place):
    place.keys._client.create_key("under_score", {"kty": "RSA"})


@refusal(400, ("BadParameter", "KeyTypeNotSupported"))
def hsm_key_in_a_standard_vault(place):
    place.keys.create_rsa_key("k1", size=2048, hardware_protected=True)


@refusal(400, "BadParameter")
def api_version_unknown_to_the_vault(place):
    place.cloud.keys(place.uri, api_version="latest").get_key("k1")


@refusal(403, "Forbidden", "KeyDisabled", says="disabled")
def key_disabled(place):
    key = place.keys.create_rsa_key("k1", size=2048, enabled=False)
    place.cloud.crypto(key.id).unwrap_key("RSA-OAEP", bytes(256))


@refusal((400, 403), ("Forbidden", "KeyOperationForbidden", "BadParameter"), says="not permitted")
def operation_not_permitted(place):
    key = place.keys.create_rsa_key("k1", size=2048, key_operations=["sign", "verify"])
    place.keys._client.unwrap_key("k1", key.properties.version, {"alg": "RSA-OAEP", "value": "AAAA"})


# Services under a key


@refusal((400, 403), "KeyVaultAuthenticationFailure")
def storage_with_an_identity_without_a_role(place):
    create_account(place, under_key(place, identity=place.cloud.identity(place.group)))


@refusal((400, 403), "KeyVaultAuthenticationFailure")
def storage_when_the_role_was_taken_away(place):
    place.cloud.authorization.role_assignments.delete(place.vault.id, place.grant.name)
    create_account(place, under_key(place))


@refusal(400, "KeyVaultPolicyError", says="[Rr]ecoverable")
def storage_with_a_vault_without_purge_protection(place):
    create_account(place, under_key(Place(place.cloud, enablePurgeProtection=None)))


@refusal((400, 404), ("KeyVaultEncryptionKeyNotFound", "KeyVaultKeyNotFound", "InvalidKeyVaultKey"))
def storage_with_a_key_that_is_not_there(place):
    create_account(place, under_key(place, key="none"))


@refusal((400, 404), ("KeyVaultVaultNotFound", "KeyVaultUriInvalid", "InvalidKeyVaultUri"))
def storage_with_a_vault_that_is_not_there(place):
    create_account(place, under_key(place, uri=place.uri.replace(place.vault.name, unique("kv"))))


@refusal((400, 403), ("KeyVaultAuthenticationFailure", "KeyVaultFirewallDenied"))
def storage_behind_a_closed_vault_without_bypass(place):
    body = under_key(place)
    acls = {"networkAcls": {"bypass": "None", "defaultAction": "Deny"}}
    place.cloud.keyvault.vaults.update(place.group, place.vault.name, {"properties": acls})
    create_account(place, body)


@refusal(400, says="[Pp]re-?requisites|identity")
def storage_under_an_identity_that_it_does_not_hold(place):
    body = under_key(place)
    body["identity"] = user_assigned(place.cloud.identity(place.group).id)
    create_account(place, body)


@refusal((400, 404), ("FailedIdentityOperation", "InvalidResourceIdentity", "ResourceNotFound", "LinkedInvalidPropertyId"))
def storage_with_an_identity_that_is_not_there(place):
    body = under_key(place)
    gone = place.identity.id + "x"
    body["identity"] = user_assigned(gone)
    body["properties"]["encryption"]["identity"]["userAssignedIdentity"] = gone
    create_account(place, body)


@refusal(409, ("StorageAccountAlreadyTaken", "StorageAccountAlreadyExists"))
def storage_name_taken(place):
    plain = {"location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
    name = unique("st")
    create_account(place, plain, name)
    create_account(Place(place.cloud), plain, name)


@refusal(400, ("AccountNameInvalid", "InvalidResourceName", "InvalidParameter"))
def storage_name_malformed(place):
    plain = {"location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
    path = f"{place.cloud.subscription_path}/resourceGroups/{place.group}/providers/Microsoft.Storage/storageAccounts"
    place.cloud.arm("PUT", f"{path}/Has-Capitals", "2026-04-01", plain)


@refusal((200, 400, 403), "Forbidden", says="ForbiddenByRbac")
def cosmos_with_an_identity_without_a_role(place):
    # The creation is accepted and fails on its way: the poller then raises over an answer of 200.
    place.keys.create_rsa_key("k1", size=3072)
    body = cosmos_account(place.cloud.identity(place.group).id, place.uri + "keys/k1")
    place.cloud.cosmos.database_accounts.begin_create_or_update(place.group, unique("cosmos"), body).result()


@refusal(400, "BadRequest", says="KeyVaultKeyUri")
def cosmos_with_a_versioned_key(place):
    key = place.keys.create_rsa_key("k1", size=3072)
    body = cosmos_account(place.identity.id, key.id + "/more")
    place.cloud.cosmos.database_accounts.begin_create_or_update(place.group, unique("cosmos"), body).result()


@refusal((200, 400, 403))
def ai_services_with_an_identity_without_a_role(place):
    # Refused at once, or accepted and ended as Failed: the poller then raises over an answer of 200.
    key = place.keys.create_rsa_key("k1", size=2048)
    name, other = unique("ai"), place.cloud.identity(place.group)
    body = ai_account(name, other, place.uri, "k1", key.properties.version)
    place.cloud.cognitive.accounts.begin_create(place.group, name, body).result()


# Locks and policies

LOCKS, POLICIES = "2020-05-01", "2023-04-01"


def lock(place, scope, level):
    path = f"{scope}/providers/Microsoft.Authorization/locks/held"
    place.cloud.arm("PUT", path, LOCKS, {"properties": {"level": level, "notes": "kept"}})


@refusal(409, "ScopeLocked", says="lock")
def deletion_under_a_lock(place):
    lock(place, place.vault.id, "CanNotDelete")
    place.cloud.keyvault.vaults.delete(place.group, place.vault.name)


@refusal(409, "ScopeLocked", says="lock")
def writing_under_a_read_only_lock_of_the_group(place):
    group = f"{place.cloud.subscription_path}/resourceGroups/{place.group}"
    lock(place, group, "ReadOnly")
    place.cloud.identity(place.group)


@refusal(409, "ScopeLocked")
def account_keys_under_a_read_only_lock(place):
    name = unique("st")
    create_account(place, {"location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}, name)
    path = f"{place.cloud.subscription_path}/resourceGroups/{place.group}/providers/Microsoft.Storage/storageAccounts"
    lock(place, f"{path}/{name}", "ReadOnly")
    place.cloud.storage.storage_accounts.list_keys(place.group, name)


@refusal(403, "RequestDisallowedByPolicy", says="disallowed by policy")
def storage_without_a_key_of_ones_own_under_a_policy(place):
    cloud, name = place.cloud, unique("cmk")
    definition = f"{cloud.subscription_path}/providers/Microsoft.Authorization/policyDefinitions/{name}"
    rule = {
        "if": {
            "allOf": [
                {"field": "type", "equals": "Microsoft.Storage/storageAccounts"},
                {"field": "Microsoft.Storage/storageAccounts/encryption.keySource", "notEquals": "Microsoft.Keyvault"},
            ]
        },
        "then": {"effect": "deny"},
    }
    properties = {"displayName": "Own keys only", "mode": "Indexed", "policyType": "Custom", "policyRule": rule}
    cloud.arm("PUT", definition, POLICIES, {"properties": properties})
    group = f"{cloud.subscription_path}/resourceGroups/{place.group}"
    assignment = f"{group}/providers/Microsoft.Authorization/policyAssignments/{name}"
    cloud.arm("PUT", assignment, POLICIES, {"properties": {"policyDefinitionId": definition}})
    create_account(place, under_key(place))  # Own key: allowed.
    create_account(place, {"location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}})


@pytest.mark.parametrize("do, status, codes, says", TABLE)
def test_refusal(place, recorder, do, status, codes, says):
    with pytest.raises(HttpResponseError) as raised:
        do(place)
    error = raised.value
    statuses = status if isinstance(status, tuple) else (status,)
    # Errors of azure-identity carry no answer: there the last one on the wire counts.
    answered = error.status_code or recorder.exchanges[-1].status
    assert answered in statuses, error
    found = all_codes(error)
    if codes:
        assert len(found) >= len(codes), (found, error.message)
        for at, expected in enumerate(codes):
            assert found[at] in (expected if isinstance(expected, tuple) else (expected,)), (found, error.message)
    if says:
        assert re.search(says, str(error)), str(error)


def test_the_table_is_long_enough():
    assert len(TABLE) >= 30


def test_a_refused_creation_leaves_nothing(place, cloud):
    name = unique("st")
    body = under_key(place, identity=cloud.identity(place.group))
    with pytest.raises(HttpResponseError):
        create_account(place, body, name)
    with pytest.raises(HttpResponseError) as refusal:
        cloud.storage.storage_accounts.get_properties(place.group, name)
    assert refusal.value.status_code == 404
    # The name is free, and the same body is accepted once the identity may wrap.
    body = storage_account(place.identity.id, place.uri, "k1", "")
    create_account(place, body, name)


def test_a_refused_patch_leaves_everything_as_it_was(place, cloud):
    name = unique("st")
    create_account(place, under_key(place), name)
    before = cloud.storage.storage_accounts.get_properties(place.group, name).as_dict()
    wrong = storage_account(place.identity.id, place.uri, "none", "")["properties"]
    with pytest.raises(HttpResponseError):
        cloud.storage.storage_accounts.update(place.group, name, {"properties": wrong})
    assert cloud.storage.storage_accounts.get_properties(place.group, name).as_dict() == before


def test_the_public_audience_of_arm_is_accepted_too(cloud):
    client = ResourceManagementClient(
        cloud.credential, cloud.sim.subscription, base_url=cloud.sim.arm, transport=cloud.transport()
    )
    assert client.resource_groups.check_existence(unique("none")) is False

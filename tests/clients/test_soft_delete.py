"""Vaults that are deleted, come back or are purged; names that stay taken; protection that no one takes back."""

from datetime import timedelta

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError, ServiceRequestError

from support.cloud import CRYPTO_OFFICER, LOCATION, all_codes, unique
from support.place import Place


def named(cloud, name):
    return cloud.keyvault.vaults.check_name_availability({"name": name, "type": "Microsoft.KeyVault/vaults"})


def recover(cloud, group, name, **properties):
    wanted = {"tenantId": cloud.sim.tenant, "sku": {"family": "A", "name": "standard"}, "createMode": "recover"}
    body = {"location": LOCATION, "properties": {**wanted, **properties}}
    return cloud.keyvault.vaults.begin_create_or_update(group, name, body).result()


def test_a_deleted_vault_keeps_its_keys_and_its_name_and_loses_its_grants(place, cloud):
    key = place.keys.create_rsa_key("k1", size=2048)
    name = place.vault.name
    cloud.keyvault.vaults.delete(place.group, name)
    with pytest.raises(ResourceNotFoundError) as refusal:
        cloud.keyvault.vaults.get(place.group, name)
    assert refusal.value.error.code == "ResourceNotFound"
    with pytest.raises(ServiceRequestError):
        # The host's name is gone with the vault: no HTTP answer at all. One try, for each is met alike.
        cloud.keys(place.uri, retry_total=0).get_key("k1")

    deleted = cloud.keyvault.vaults.get_deleted(name, LOCATION)
    assert deleted.properties.vault_id == place.vault.id
    assert deleted.properties.purge_protection_enabled is True
    lasting = deleted.properties.scheduled_purge_date - deleted.properties.deletion_date
    assert lasting == timedelta(days=90)
    assert name in {vault.name for vault in cloud.keyvault.vaults.list_deleted()}
    taken = named(cloud, name)
    assert taken.name_available is False and taken.reason == "AlreadyExists"
    with pytest.raises(HttpResponseError) as refusal:
        cloud.vault(place.group, name)
    assert (refusal.value.status_code, refusal.value.error.code) == (409, "ConflictError")
    with pytest.raises(HttpResponseError) as refusal:
        cloud.keyvault.vaults.begin_purge_deleted(name, LOCATION).result()
    assert (refusal.value.status_code, refusal.value.error.code) == (405, "MethodNotAllowed")

    back = recover(cloud, place.group, name, enableRbacAuthorization=True)
    assert back.properties.enable_purge_protection is True
    assert back.properties.soft_delete_retention_in_days == 90
    with pytest.raises(HttpResponseError) as refusal:
        cloud.keys(place.uri).get_key("k1")
    assert all_codes(refusal.value) == ["Forbidden", "ForbiddenByRbac"], "grants do not come back"
    cloud.grant(place.vault.id, cloud.me.object_id, CRYPTO_OFFICER)
    assert cloud.keys(place.uri).get_key("k1").id == key.id
    with pytest.raises(ResourceNotFoundError):
        cloud.keyvault.vaults.get_deleted(name, LOCATION)


def test_without_protection_a_deleted_vault_can_be_purged_and_its_name_is_free(cloud):
    place = Place(cloud, enablePurgeProtection=None, softDeleteRetentionInDays=7)
    place.keys.create_ec_key("e1")
    name = place.vault.name
    assert place.vault.properties.enable_purge_protection is None, "absent where it was never set"
    cloud.keyvault.vaults.delete(place.group, name)
    cloud.keyvault.vaults.begin_purge_deleted(name, LOCATION).result()
    with pytest.raises(ResourceNotFoundError):
        cloud.keyvault.vaults.get_deleted(name, LOCATION)
    assert named(cloud, name).name_available is True
    again = Place(cloud)
    made = cloud.vault(again.group, name)
    cloud.grant(made.id, cloud.me.object_id, CRYPTO_OFFICER)
    assert not list(cloud.keys(made.properties.vault_uri).list_properties_of_keys()), "a new vault, not the old one"


def test_a_deleted_vault_is_purged_by_the_clock(fresh):
    place = Place(fresh, softDeleteRetentionInDays=7)
    fresh.keyvault.vaults.delete(place.group, place.vault.name)
    fresh.advance(6.9 * 86400)
    assert fresh.keyvault.vaults.get_deleted(place.vault.name, LOCATION).name == place.vault.name
    fresh.advance(0.2 * 86400)
    with pytest.raises(ResourceNotFoundError):
        fresh.keyvault.vaults.get_deleted(place.vault.name, LOCATION)
    assert named(fresh, place.vault.name).name_available is True


def test_purge_protection_comes_and_never_goes(cloud):
    place = Place(cloud, enablePurgeProtection=None)
    name = place.vault.name
    on = cloud.keyvault.vaults.update(place.group, name, {"properties": {"enablePurgeProtection": True}})
    assert on.properties.enable_purge_protection is True
    for off in (
        lambda: cloud.keyvault.vaults.update(place.group, name, {"properties": {"enablePurgeProtection": False}}),
        lambda: cloud.vault(place.group, name, enablePurgeProtection=False),
    ):
        with pytest.raises(HttpResponseError) as refusal:
            off()
        assert (refusal.value.status_code, refusal.value.error.code) == (400, "BadRequest")
        assert "enablePurgeProtection" in refusal.value.message
    # Left out of a PUT it stays.
    assert cloud.vault(place.group, name, enablePurgeProtection=None).properties.enable_purge_protection is True


def test_deleting_what_is_not_there_is_no_error(cloud):
    group = cloud.group().name
    cloud.keyvault.vaults.delete(group, unique("kv"))
    cloud.storage.storage_accounts.delete(group, unique("st"))
    cloud.identities.user_assigned_identities.delete(group, unique("id"))


def test_names_are_checked(cloud):
    for wrong in ("ab", "1abc", "has_underscore", "double--hyphen", "x" * 25, "ends-"):
        answer = named(cloud, wrong)
        assert answer.name_available is False and answer.reason == "AccountNameInvalid", wrong
    assert named(cloud, unique("kv")).name_available is True
    taken = Place(cloud).vault.name
    assert named(cloud, taken.upper()).name_available is False


def test_a_group_goes_with_all_in_it_and_its_vault_stays_recoverable(place, cloud):
    account = unique("st")
    cloud.storage.storage_accounts.begin_create(
        place.group, account, {"location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
    ).result()
    held = {item.type.lower() for item in cloud.resources.resources.list_by_resource_group(place.group)}
    assert held == {
        "microsoft.keyvault/vaults",
        "microsoft.managedidentity/userassignedidentities",
        "microsoft.storage/storageaccounts",
    }
    cloud.resources.resource_groups.begin_delete(place.group).result()
    assert not cloud.resources.resource_groups.check_existence(place.group)
    assert cloud.keyvault.vaults.get_deleted(place.vault.name, LOCATION).name == place.vault.name
    check = cloud.storage.storage_accounts.check_name_availability({"name": account, "type": "Microsoft.Storage/storageAccounts"})
    assert check.name_available is True


def test_an_identity_made_again_is_another_principal(place, cloud):
    before = place.identity
    cloud.identities.user_assigned_identities.delete(place.group, before.name)
    again = cloud.identity(place.group, before.name)
    assert again.id == before.id
    assert again.principal_id != before.principal_id and again.client_id != before.client_id

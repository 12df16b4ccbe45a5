"""Bytes in a storage account under a key: there while the key is, refused while it is not, and the same ones after."""

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContentSettings

from support.bodies import storage_account
from support.cloud import BLOB_CONTRIBUTOR, CRYPTO_OFFICER, ENCRYPTION_USER, LOCATION, unique
from support.place import Place

REVOKED = ("KeyVaultEncryptionKeyNotFound", "KeyVaultVaultNotFound", "KeyVaultAccessTokenCannotBeAcquired")
A_WHILE = 2 * 3600
"""The protocol says minutes to hours until a revocation tells, and as long until a restoration does."""


class Account:
    """A storage account of the place, under its key `k1` unless told otherwise, that the caller may write to."""

    def __init__(self, place, under_key=True):
        self.place, self.cloud = place, place.cloud
        self.name = unique("st")
        body = {"location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
        if under_key:
            self.key = place.keys.create_rsa_key("k1", size=2048)
            body = storage_account(place.identity.id, place.uri, "k1", "")
        self.resource = self.cloud.storage.storage_accounts.begin_create(place.group, self.name, body).result()
        self.cloud.grant(self.resource.id, self.cloud.me.object_id, BLOB_CONTRIBUTOR)

    @property
    def blobs(self):
        return self.cloud.blobs(self.name)

    def read(self, container="data", blob="b"):
        return self.blobs.get_blob_client(container, blob).download_blob().readall()

    def write(self, text, container="data", blob="b"):
        return self.blobs.get_blob_client(container, blob).upload_blob(text, overwrite=True)


@pytest.mark.parametrize("under_key", [True, False], ids=["own-key", "microsofts-key"])
def test_bytes_in_bytes_out(place, under_key):
    account = Account(place, under_key)
    container = account.blobs.create_container("data")
    with pytest.raises(ResourceExistsError) as refusal:
        account.blobs.create_container("data")
    assert refusal.value.error_code == "ContainerAlreadyExists"
    text = bytes(range(256)) * 64
    blob = container.get_blob_client("a/b.bin")
    blob.upload_blob(text, metadata={"job": "7"}, content_settings=ContentSettings(content_type="application/x-thing"))
    download = blob.download_blob()
    assert download.readall() == text
    shown = blob.get_blob_properties()
    assert (shown.size, shown.metadata) == (len(text), {"job": "7"})
    assert shown.content_settings.content_type == "application/x-thing"
    assert shown.server_encrypted is True
    assert [item.name for item in container.list_blobs()] == ["a/b.bin"]
    with pytest.raises(ResourceExistsError) as refusal:
        blob.upload_blob(b"other")
    assert refusal.value.error_code == "BlobAlreadyExists"
    blob.delete_blob()
    with pytest.raises(ResourceNotFoundError) as refusal:
        blob.download_blob()
    assert refusal.value.error_code == "BlobNotFound"


def test_an_empty_blob_is_a_blob(place):
    account = Account(place)
    account.blobs.create_container("data")
    account.write(b"")
    assert account.read() == b""


def test_the_owner_of_the_subscription_needs_a_data_role(place):
    account = Account(place, under_key=False)
    outsider = place.cloud.as_outsider()
    with pytest.raises(HttpResponseError) as refusal:
        outsider.blobs(account.name).create_container("data")
    assert refusal.value.status_code == 403
    assert refusal.value.error_code in ("AuthorizationPermissionMismatch", "AuthorizationFailure")


def test_the_account_key_opens_it_too(place, cloud):
    account = Account(place)
    held = cloud.storage.storage_accounts.list_keys(place.group, account.name).keys_property[0].value
    service = BlobServiceClient(
        f"https://{account.name}.blob.{cloud.sim.domain}",
        credential={"account_name": account.name, "account_key": held},
        transport=cloud.transport(),
    )
    service.create_container("data").get_blob_client("b").upload_blob(b"with the account key")
    assert account.read() == b"with the account key"


def disable(place, account):
    place.cloud.keys(place.uri).update_key_properties("k1", account.key.properties.version, enabled=False)


def enable(place, account):
    place.cloud.keys(place.uri).update_key_properties("k1", account.key.properties.version, enabled=True)


def take_the_grant(place, account):
    place.cloud.authorization.role_assignments.delete(place.vault.id, place.grant.name)


def grant_again(place, account):
    place.grant = place.cloud.grant(place.vault.id, place.identity.principal_id, ENCRYPTION_USER)


def delete(place, account):
    place.cloud.keys(place.uri).begin_delete_key("k1", _polling_interval=0).wait()


def recover(place, account):
    place.cloud.keys(place.uri).begin_recover_deleted_key("k1", _polling_interval=0).wait()


def close(place, account):
    acls = {"networkAcls": {"bypass": "None", "defaultAction": "Deny"}}
    place.cloud.keyvault.vaults.update(place.group, place.vault.name, {"properties": acls})


def open_again(place, account):
    acls = {"networkAcls": {"bypass": "AzureServices", "defaultAction": "Deny"}}
    place.cloud.keyvault.vaults.update(place.group, place.vault.name, {"properties": acls})


def delete_the_vault(place, account):
    place.cloud.keyvault.vaults.delete(place.group, place.vault.name)


def recover_the_vault(place, account):
    cloud = place.cloud
    wanted = {"tenantId": cloud.sim.tenant, "sku": {"family": "A", "name": "standard"}, "createMode": "recover"}
    body = {"location": LOCATION, "properties": wanted}
    cloud.keyvault.vaults.begin_create_or_update(place.group, place.vault.name, body).result()
    # Grants do not come back with a vault.
    cloud.grant(place.vault.id, cloud.me.object_id, CRYPTO_OFFICER)
    grant_again(place, account)


@pytest.mark.parametrize(
    "revoke, restore",
    [
        (disable, enable),
        (take_the_grant, grant_again),
        (delete, recover),
        (close, open_again),
        (delete_the_vault, recover_the_vault),
    ],
    ids=["key-disabled", "grant-taken", "key-deleted", "firewall-closed", "vault-deleted"],
)
def test_without_the_key_no_byte_and_with_it_the_same_ones(fresh, revoke, restore):
    place = Place(fresh)
    account = Account(place)
    account.blobs.create_container("data")
    account.write(b"kept")
    revoke(place, account)
    fresh.advance(A_WHILE)
    for refused in (account.read, lambda: account.write(b"lost"), lambda: account.write(b"new", blob="n")):
        with pytest.raises(HttpResponseError) as refusal:
            refused()
        assert refusal.value.status_code == 403
        assert refusal.value.error_code in REVOKED, refusal.value.error_code
    restore(place, account)
    fresh.advance(A_WHILE)
    assert account.read() == b"kept"
    account.write(b"changed")
    assert account.read() == b"changed"
    with pytest.raises(ResourceNotFoundError):
        account.read(blob="n")


def test_bypass_lets_storage_through_a_closed_firewall(fresh):
    place = Place(fresh)
    account = Account(place)
    account.blobs.create_container("data")
    account.write(b"kept")
    open_again(place, account)
    fresh.advance(A_WHILE)
    assert account.read() == b"kept"


def test_an_account_without_own_key_does_not_mind_any_vault(fresh):
    place = Place(fresh)
    account = Account(place, under_key=False)
    account.blobs.create_container("data")
    account.write(b"kept")
    delete_the_vault(place, account)
    fresh.advance(A_WHILE)
    assert account.read() == b"kept"


def test_bytes_survive_a_rotation_and_hang_on_the_new_version_alone(fresh):
    place = Place(fresh)
    account = Account(place)
    account.blobs.create_container("data")
    account.write(b"kept")
    fresh.keys(place.uri).rotate_key("k1")
    fresh.advance(25 * 3600)
    assert account.read() == b"kept"
    disable(place, account)  # The old version.
    fresh.advance(A_WHILE)
    assert account.read() == b"kept"
    newest = fresh.keys(place.uri).get_key("k1").properties.version
    fresh.keys(place.uri).update_key_properties("k1", newest, enabled=False)
    fresh.advance(A_WHILE)
    with pytest.raises(HttpResponseError) as refusal:
        account.read()
    assert refusal.value.status_code == 403

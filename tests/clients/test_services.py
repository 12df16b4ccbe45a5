"""Services beyond the product's three, through the generic resources client: a few written out, then all of the catalogue."""

import pytest
from azure.core.exceptions import HttpResponseError

from support import services
from support.bodies import user_assigned
from support.cloud import LOCATION, all_codes, unique

ENTRIES = services.catalogue()
ALL = ENTRIES or []
ABSENT = "../shared/azure/cmk-services.json is not present"


def of_group(place, arm_type):
    return f"{place.cloud.subscription_path}/resourceGroups/{place.group}/providers/{arm_type}/{unique('svc')}"


@pytest.fixture
def key(place):
    return place.keys.create_rsa_key("k1", size=2048)


def test_maps_account(place, cloud, key):
    path = of_group(place, "Microsoft.Maps/accounts")
    pointed = {
        "keyEncryptionKeyUrl": place.uri + "keys/k1",
        "keyEncryptionKeyIdentity": {
            "identityType": "userAssignedIdentity",
            "userAssignedIdentityResourceId": place.identity.id,
        },
    }
    body = {
        "location": LOCATION,
        "sku": {"name": "G2"},
        "identity": user_assigned(place.identity.id),
        "properties": {"encryption": {"customerManagedKeyEncryption": pointed}},
    }
    made = cloud.put(path, "2023-06-01", body)
    assert made["id"] == path and made["type"] == "Microsoft.Maps/accounts"
    assert made["properties"]["encryption"]["customerManagedKeyEncryption"] == pointed
    assert cloud.resources.resources.get_by_id(path, api_version="2023-06-01").name == made["name"]
    assert made["name"] in {item.name for item in cloud.resources.resources.list_by_resource_group(place.group)}
    cloud.resources.resources.begin_delete_by_id(path, api_version="2023-06-01").result()
    with pytest.raises(HttpResponseError) as refusal:
        cloud.read(path, "2023-06-01")
    assert refusal.value.status_code == 404


def test_app_configuration_store_takes_the_client_id_and_gives_the_key_back(place, cloud, key):
    path, api = of_group(place, "Microsoft.AppConfiguration/configurationStores"), "2024-06-01"
    cloud.put(path, api, {"location": LOCATION, "sku": {"name": "standard"}})
    cloud.patch(path, api, {"identity": user_assigned(place.identity.id)})
    pointed = {"keyIdentifier": place.uri + "keys/k1", "identityClientId": place.identity.client_id}
    shown = cloud.patch(path, api, {"properties": {"encryption": {"keyVaultProperties": pointed}}})
    assert shown["properties"]["encryption"]["keyVaultProperties"] == pointed
    shown = cloud.patch(path, api, {"properties": {"encryption": {"keyVaultProperties": {}}}})
    back = shown["properties"].get("encryption") or {}
    assert not (back.get("keyVaultProperties") or {}).get("keyIdentifier")


def test_event_hubs_namespace_holds_on_to_its_key(place, cloud, key):
    path, api = of_group(place, "Microsoft.EventHub/namespaces"), "2026-01-01"
    pointed = {
        "keyName": "k1",
        "keyVaultUri": place.uri,
        "keyVersion": "",
        "identity": {"userAssignedIdentity": place.identity.id},
    }
    body = {
        "location": LOCATION,
        "sku": {"name": "Premium", "tier": "Premium", "capacity": 1},
        "identity": user_assigned(place.identity.id),
        "properties": {"encryption": {"keySource": "Microsoft.KeyVault", "keyVaultProperties": [pointed]}},
    }
    shown = cloud.put(path, api, body)["properties"]["encryption"]
    assert shown["keySource"] == "Microsoft.KeyVault"
    (only,) = shown["keyVaultProperties"]
    assert (only["keyName"], only["keyVaultUri"].rstrip("/")) == ("k1", place.uri.rstrip("/"))


def test_postgresql_flexible_server_is_made_under_a_key_and_not_put_under_one_later(place, cloud, key):
    path, api = of_group(place, "Microsoft.DBforPostgreSQL/flexibleServers"), "2025-08-01"
    pointed = {
        "type": "AzureKeyVault",
        "primaryKeyURI": key.id,
        "primaryUserAssignedIdentityId": place.identity.id,
    }
    plain = {
        "location": LOCATION,
        "sku": {"name": "Standard_D2ds_v5", "tier": "GeneralPurpose"},
        "properties": {
            "version": "17",
            "administratorLogin": "simadmin",
            "administratorLoginPassword": "Aa1!" + unique("p"),
            "storage": {"storageSizeGB": 128},
        },
    }
    body = {
        **plain,
        "identity": user_assigned(place.identity.id),
        "properties": {**plain["properties"], "dataEncryption": pointed},
    }
    shown = cloud.put(path, api, body)["properties"]
    assert shown["dataEncryption"]["type"] == "AzureKeyVault"
    assert shown["dataEncryption"]["primaryKeyURI"] == key.id
    assert "administratorLoginPassword" not in shown

    other = of_group(place, "Microsoft.DBforPostgreSQL/flexibleServers")
    cloud.put(other, api, plain)
    patch = {"identity": body["identity"], "properties": {"dataEncryption": pointed}}
    with pytest.raises(HttpResponseError):
        cloud.patch(other, api, patch)


def test_a_generic_resource_under_a_key_that_its_identity_may_not_use_is_refused(place, cloud, key):
    stranger = cloud.identity(place.group)
    path = of_group(place, "Microsoft.Maps/accounts")
    body = {
        "location": LOCATION,
        "sku": {"name": "G2"},
        "identity": user_assigned(stranger.id),
        "properties": {
            "encryption": {
                "customerManagedKeyEncryption": {
                    "keyEncryptionKeyUrl": place.uri + "keys/k1",
                    "keyEncryptionKeyIdentity": {
                        "identityType": "userAssignedIdentity",
                        "userAssignedIdentityResourceId": stranger.id,
                    },
                }
            }
        },
    }
    with pytest.raises(HttpResponseError) as refusal:
        cloud.put(path, "2023-06-01", body)
    assert refusal.value.status_code in (200, 400, 403) and all_codes(refusal.value)


@pytest.mark.skipif(ENTRIES is None, reason=ABSENT)
def test_the_catalogue_is_whole():
    assert len(ALL) == 58 and len({entry["id"] for entry in ALL}) == 58


def service(place, entry):
    # 3072 bits: every service of the catalogue takes them, but for those that say 2048 only.
    sizes = entry["requires"]["keySizes"]
    bits = 3072 if "3072 or more" in str(sizes) else 2048
    return services.Service(place, entry, place.keys.create_rsa_key("k1", size=bits))


def by_id(entries):
    return [pytest.param(entry, id=entry["id"]) for entry in entries]


@pytest.mark.skipif(ENTRIES is None, reason=ABSENT)
@pytest.mark.parametrize("entry", by_id([e for e in ALL if e.get("createBody")]))
def test_made_under_a_key(place, entry):
    made = service(place, entry)
    made.create()
    if entry["createBody"]["armType"] == entry["armType"]:
        assert services.read_back(made, made.read()) == []


@pytest.mark.skipif(ENTRIES is None, reason=ABSENT)
@pytest.mark.parametrize("entry", by_id([e for e in ALL if e["configureMethod"]["steps"]]))
def test_put_under_a_key_and_back_where_that_goes(place, entry):
    one = service(place, entry)
    one.configure()
    assert services.read_back(one, one.read()) == []
    revert = entry.get("revertBody") or {}
    if not revert.get("body"):
        return
    if revert["possible"] == "UNVERIFIED":
        # The body is known, whether it works is not: either is an answer, half a change is none.
        try:
            one.revert()
        except HttpResponseError:
            assert services.read_back(one, one.read()) == []
        return
    one.revert()
    if revert["armType"] == entry["armType"] and entry["id"] != "ai-search-service":
        assert not services.is_under_key(one, one.read())

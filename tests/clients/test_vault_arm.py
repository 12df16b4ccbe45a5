"""What hangs below vaults and managed HSMs on ARM: keys, access policies one by one, private endpoints and their connections."""

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from support.cloud import LOCATION, READER, object_id_of, unique

NETWORK_API = "2024-05-01"


def policy(cloud, oid, *keys):
    entry = {"tenantId": cloud.sim.tenant, "objectId": oid, "permissions": {"keys": list(keys)}}
    return {"properties": {"accessPolicies": [entry]}}


def network(cloud, group):
    """The id of a subnet that private endpoints can lie in."""
    name = unique("vnet")
    body = {
        "location": LOCATION,
        "properties": {
            "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
            "subnets": [{"name": "s1", "properties": {"addressPrefix": "10.0.0.0/24"}}],
        },
    }
    path = f"{cloud.subscription_path}/resourceGroups/{group}/providers/Microsoft.Network/virtualNetworks/{name}"
    return cloud.put(path, NETWORK_API, body)["properties"]["subnets"][0]["id"]


def endpoint(cloud, group, subnet, target, sub_resource, manual=False):
    listed = "manualPrivateLinkServiceConnections" if manual else "privateLinkServiceConnections"
    aim = {"name": "c1", "properties": {"privateLinkServiceId": target, "groupIds": [sub_resource]}}
    path = f"{cloud.subscription_path}/resourceGroups/{group}/providers/Microsoft.Network/privateEndpoints/{unique('pe')}"
    cloud.put(path, NETWORK_API, {"location": LOCATION, "properties": {"subnet": {"id": subnet}, listed: [aim]}})
    return path


def status_at(cloud, endpoint_id):
    properties = cloud.read(endpoint_id, NETWORK_API)["properties"]
    rows = properties["privateLinkServiceConnections"] + properties["manualPrivateLinkServiceConnections"]
    return rows[0]["properties"]["privateLinkServiceConnectionState"]["status"]


def name_of(connection_id):
    return connection_id.rsplit("/", 1)[1]


def test_a_key_is_made_once_on_arm_and_never_changed(place):
    arm, group, vault = place.cloud.keyvault.keys, place.group, place.vault.name
    wanted = {
        "tags": {"a": "b"},
        "properties": {
            "kty": "RSA",
            "keySize": 3072,
            "keyOps": ["wrapKey", "unwrapKey"],
            "rotationPolicy": {
                "attributes": {"expiryTime": "P90D"},
                "lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "rotate"}}],
            },
        },
    }
    made = arm.create_if_not_exist(group, vault, "k1", wanted)
    assert made.type == "Microsoft.KeyVault/vaults/keys" and made.location == LOCATION
    assert made.properties.key_size == 3072 and list(made.properties.key_ops) == ["wrapKey", "unwrapKey"]
    assert made.properties.rotation_policy.attributes.expiry_time == "P90D"
    assert made.properties.key_uri_with_version.startswith(made.properties.key_uri + "/")
    again = arm.create_if_not_exist(group, vault, "k1", {"properties": {"kty": "EC"}})
    assert again.as_dict() == made.as_dict()

    key = place.keys.get_key("k1")
    assert key.id == made.properties.key_uri_with_version and key.properties.tags == {"a": "b"}
    newer = place.keys.rotate_key("k1")
    assert arm.get(group, vault, "k1").properties.key_uri_with_version == newer.id
    versions = {row.name for row in arm.list_versions(group, vault, "k1")}
    assert versions == {key.properties.version, newer.properties.version}
    old = arm.get_version(group, vault, "k1", key.properties.version)
    assert old.type == "Microsoft.KeyVault/vaults/keys/versions" and old.properties.key_size == 3072
    arm.create_if_not_exist(group, vault, "k2", {"properties": {"kty": "EC", "curveName": "P-521"}})
    assert sorted(row.name for row in arm.list(group, vault)) == ["k1", "k2"]
    with pytest.raises(ResourceNotFoundError):
        arm.get(group, vault, "k3")


def test_arms_rights_decide_over_keys_on_arm(cloud):
    group = cloud.group().name
    vault = cloud.vault(group, publicNetworkAccess="Disabled")
    arm = cloud.keyvault.keys
    body = {"properties": {"kty": "RSA"}}
    arm.create_if_not_exist(group, vault.name, "k1", body)
    with pytest.raises(HttpResponseError):
        cloud.keys(vault.properties.vault_uri).get_key("k1")
    outsider = cloud.as_outsider()
    cloud.grant(vault.id, object_id_of(outsider), READER)
    assert outsider.keyvault.keys.get(group, vault.name, "k1").name == "k1"
    with pytest.raises(HttpResponseError) as refusal:
        outsider.keyvault.keys.create_if_not_exist(group, vault.name, "k2", body)
    assert refusal.value.status_code == 403 and refusal.value.error.code == "AuthorizationFailed"


def test_access_policies_change_one_by_one(cloud):
    group = cloud.group().name
    vault = cloud.vault(group, enableRbacAuthorization=False, accessPolicies=[])
    change, me = cloud.keyvault.vaults.update_access_policy, cloud.me.object_id

    def shown():
        entries = cloud.keyvault.vaults.get(group, vault.name).properties.access_policies
        return {str(e.object_id): list(e.permissions.keys_property or []) for e in entries}

    change(group, vault.name, "add", policy(cloud, me, "get", "create"))
    cloud.keys(vault.properties.vault_uri).create_rsa_key("k1")
    change(group, vault.name, "add", policy(cloud, me, "list"))
    assert shown() == {me: ["get", "create", "list"]}
    change(group, vault.name, "replace", policy(cloud, me, "get"))
    with pytest.raises(HttpResponseError) as refusal:
        cloud.keys(vault.properties.vault_uri).create_rsa_key("k2")
    assert refusal.value.status_code == 403
    change(group, vault.name, "remove", policy(cloud, me, "get"))
    assert shown() == {}


def test_a_vaults_connections_are_approved_rejected_and_removed(cloud):
    group = cloud.group().name
    vault = cloud.vault(group)
    (resource,) = cloud.keyvault.private_link_resources.list_by_vault(group, vault.name).value
    assert resource.properties.group_id == "vault"
    pe = endpoint(cloud, group, network(cloud, group), vault.id, "vault", manual=True)
    assert status_at(cloud, pe) == "Pending"
    client = cloud.keyvault.private_endpoint_connections
    (row,) = client.list_by_resource(group, vault.name)
    assert row.properties.private_endpoint.id == pe
    for status in ("Approved", "Rejected"):
        body = {"properties": {"privateLinkServiceConnectionState": {"status": status, "description": "why"}}}
        put = client.put(group, vault.name, name_of(row.id), body)
        state = put.properties.private_link_service_connection_state
        assert (state.status, state.description) == (status, "why")
        assert status_at(cloud, pe) == status
    assert client.get(group, vault.name, name_of(row.id)).id == row.id
    (shown,) = cloud.keyvault.vaults.get(group, vault.name).properties.private_endpoint_connections
    assert shown.id == row.id
    client.begin_delete(group, vault.name, name_of(row.id)).result()
    assert list(client.list_by_resource(group, vault.name)) == []
    assert status_at(cloud, pe) == "Disconnected"


def test_an_hsm_has_keys_and_connections_on_arm(cloud):
    group, name = cloud.group().name, unique("hsm")
    body = {
        "location": LOCATION,
        "sku": {"family": "B", "name": "Standard_B1"},
        "properties": {"tenantId": cloud.sim.tenant, "initialAdminObjectIds": [cloud.me.object_id]},
    }
    hsm = cloud.keyvault.managed_hsms.begin_create_or_update(group, name, body).result()
    cloud.sim.control("POST", f"hsms/{name}/activate")
    arm = cloud.keyvault.managed_hsm_keys
    for key, properties in (("k1", {"kty": "RSA-HSM", "keySize": 4096}), ("k2", {"kty": "oct-HSM", "keySize": 256})):
        made = arm.create_if_not_exist(group, name, key, {"properties": properties})
        assert made.type == "Microsoft.KeyVault/managedHSMs/keys"
        assert (made.properties.kty, made.properties.key_size) == (properties["kty"], properties["keySize"])
        (version,) = arm.list_versions(group, name, key)
        assert arm.get_version(group, name, key, version.name).properties.kty == properties["kty"]
    assert sorted(row.name for row in arm.list(group, name)) == ["k1", "k2"]

    (resource,) = cloud.keyvault.mhsm_private_link_resources.list_by_mhsm_resource(group, name).value
    assert resource.properties.group_id == "managedhsm"
    pe = endpoint(cloud, group, network(cloud, group), hsm.id, "managedhsm")
    assert status_at(cloud, pe) == "Approved"
    client = cloud.keyvault.mhsm_private_endpoint_connections
    (row,) = client.list_by_resource(group, name)
    rejected = {"properties": {"privateLinkServiceConnectionState": {"status": "Rejected"}}}
    put = client.put(group, name, name_of(row.id), rejected)
    assert put.properties.private_link_service_connection_state.status == "Rejected"
    client.begin_delete(group, name, name_of(row.id)).result()
    assert list(client.list_by_resource(group, name)) == []


def test_a_storage_accounts_connections(cloud):
    group, name = cloud.group().name, unique("st")
    body = {"location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
    account = cloud.storage.storage_accounts.begin_create(group, name, body).result()
    links = cloud.storage.private_link_resources.list_by_storage_account(group, name).value
    assert {link.properties.group_id for link in links} == {"blob", "dfs", "file", "queue", "table", "web"}
    pe = endpoint(cloud, group, network(cloud, group), account.id, "blob", manual=True)
    client = cloud.storage.private_endpoint_connections
    (row,) = client.list(group, name)
    approved = {"properties": {"privateLinkServiceConnectionState": {"status": "Approved"}}}
    put = client.put(group, name, name_of(row.id), approved)
    assert put.properties.private_link_service_connection_state.status == "Approved"
    assert status_at(cloud, pe) == "Approved"
    client.delete(group, name, name_of(row.id))
    assert list(client.list(group, name)) == []
    assert status_at(cloud, pe) == "Disconnected"

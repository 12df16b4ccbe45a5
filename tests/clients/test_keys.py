"""Keys as KeyClient sees them: made, read, listed, changed, rotated, backed up, imported, deleted, recovered."""

import re
from datetime import datetime, timedelta, timezone

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.keys import (
    ApiVersion,
    JsonWebKey,
    KeyCurveName,
    KeyOperation,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from support.cloud import CRYPTO_OFFICER, CRYPTO_USER, all_codes, object_id_of, unique
from support.place import Place

SIX = {"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}


def test_the_first_request_is_challenged_without_a_body_and_the_second_is_answered(place, recorder):
    recorder.exchanges.clear()
    key = place.keys.create_rsa_key("k1", size=2048)
    first, second = [e for e in recorder.exchanges if e.path == "/keys/k1/create"]
    assert (first.status, first.sent, second.status) == (401, None, 200)
    challenge = next(v for k, v in first.headers.items() if k.lower() == "www-authenticate")
    domain = place.cloud.sim.domain
    assert challenge.startswith("Bearer ")
    assert f'resource="https://vault.{domain}"' in challenge
    assert re.search(r'authorization(_uri)?="https://login[^/"]*/' + place.cloud.sim.tenant, challenge)
    assert first.received["error"]["code"] == "Unauthorized"
    assert key.id.startswith(place.uri + "keys/k1/")
    assert second.headers.get("x-ms-request-id")


@pytest.mark.parametrize("size", [2048, 3072, 4096])
def test_rsa_keys_have_the_size_asked_for(place, size):
    key = place.keys.create_rsa_key("k1", size=size)
    assert key.key_type == "RSA"
    assert int.from_bytes(key.key.n, "big").bit_length() == size
    assert key.key.e == b"\x01\x00\x01"
    assert set(key.key_operations) == SIX
    assert re.fullmatch(r"[0-9a-f]{32}", key.properties.version)
    assert key.properties.enabled is True


@pytest.mark.parametrize("curve, octets", [("P-256", 32), ("P-384", 48), ("P-521", 66), ("P-256K", 32)])
def test_ec_keys_have_the_curve_asked_for(place, curve, octets):
    key = place.keys.create_ec_key("e1", curve=KeyCurveName(curve))
    assert (key.key_type, key.key.crv) == ("EC", curve)
    assert len(key.key.x) == len(key.key.y) == octets
    assert set(key.key_operations) == {"sign", "verify"}


def test_what_is_said_of_a_key_is_kept(place):
    begins = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1)
    ends = begins + timedelta(days=400)
    made = place.keys.create_rsa_key(
        "k1",
        size=2048,
        key_operations=[KeyOperation.wrap_key, KeyOperation.unwrap_key],
        not_before=begins,
        expires_on=ends,
        enabled=False,
        tags={"job": "7", "empty": ""},
    )
    shown = place.keys.get_key("k1")
    for key in (made, shown):
        assert set(key.key_operations) == {"wrapKey", "unwrapKey"}
        assert (key.properties.not_before, key.properties.expires_on) == (begins, ends)
        assert key.properties.enabled is False
        assert key.properties.tags == {"job": "7", "empty": ""}
    assert shown.id == made.id


def test_each_create_and_each_rotation_is_a_version_and_the_latest_answers_for_the_name(place):
    versions = [place.keys.create_rsa_key("k1", size=2048).properties.version for _ in range(2)]
    versions.append(place.keys.rotate_key("k1").properties.version)
    assert len(set(versions)) == 3
    assert place.keys.get_key("k1").properties.version == versions[-1]
    assert place.keys.get_key("k1", versions[0]).properties.version == versions[0]
    listed = list(place.keys.list_properties_of_key_versions("k1"))
    assert {item.version for item in listed} == set(versions)
    assert all(item.name == "k1" for item in listed)
    moduli = {place.keys.get_key("k1", version).key.n for version in versions}
    assert len(moduli) == 3, "each version is a key of its own"


def test_rotation_keeps_kind_size_operations_and_tags(place):
    place.keys.create_rsa_key("k1", size=3072, key_operations=["wrapKey", "unwrapKey"], tags={"a": "b"})
    new = place.keys.rotate_key("k1")
    assert int.from_bytes(new.key.n, "big").bit_length() == 3072
    assert set(new.key_operations) == {"wrapKey", "unwrapKey"}
    assert new.properties.tags == {"a": "b"}


def test_lists_of_keys_come_in_pages_and_name_no_version(place):
    names = {f"k{i}" for i in range(7)}
    for name in names:
        place.keys.create_ec_key(name)
    pages = [list(page) for page in place.keys.list_properties_of_keys(max_page_size=3).by_page()]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {item.name for page in pages for item in page} == names
    assert all(not item.version for page in pages for item in page)


def test_properties_change_without_a_new_version(place):
    first = place.keys.create_rsa_key("k1", size=2048, tags={"a": "1"})
    place.keys.rotate_key("k1")
    version = first.properties.version
    ends = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=90)
    place.keys.update_key_properties(
        "k1", version, key_operations=["wrapKey"], tags={"b": "2"}, expires_on=ends, enabled=False
    )
    shown = place.keys.get_key("k1", version)
    assert list(shown.key_operations) == ["wrapKey"]
    assert shown.properties.tags == {"b": "2"}
    assert shown.properties.expires_on == ends and shown.properties.enabled is False
    assert shown.properties.created_on == first.properties.created_on
    latest = place.keys.get_key("k1").properties
    assert latest.enabled is True and latest.version != version


def test_update_without_a_version_means_the_latest(place):
    place.keys.create_rsa_key("k1", size=2048)
    latest = place.keys.rotate_key("k1").properties.version
    changed = place.keys.update_key_properties("k1", tags={"now": "here"})
    assert changed.properties.version == latest


@pytest.mark.parametrize("retention, level", [(90, "Recoverable"), (7, "CustomizedRecoverable")])
def test_recovery_level_tells_protection_and_retention(cloud, retention, level):
    place = Place(cloud, softDeleteRetentionInDays=retention)
    properties = place.keys.create_ec_key("e1").properties
    assert (properties.recovery_level, properties.recoverable_days) == (level, retention)


def test_rotation_policy_of_a_new_key_and_one_that_was_set(place):
    place.keys.create_rsa_key("k1", size=2048)
    unset = place.keys.get_key_rotation_policy("k1")
    assert unset.expires_in is None
    assert all(action.action.lower() == "notify" for action in unset.lifetime_actions)
    wanted = KeyRotationPolicy(
        expires_in="P2Y",
        lifetime_actions=[
            KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P18M"),
            KeyRotationLifetimeAction(KeyRotationPolicyAction.notify, time_before_expiry="P30D"),
        ],
    )
    set_ = place.keys.update_key_rotation_policy("k1", wanted)
    shown = place.keys.get_key_rotation_policy("k1")
    for policy in (set_, shown):
        assert policy.expires_in == "P2Y"
        actions = {a.action.lower(): (a.time_after_create, a.time_before_expiry) for a in policy.lifetime_actions}
        assert actions == {"rotate": ("P18M", None), "notify": (None, "P30D")}
    assert shown.id == place.uri + "keys/k1/rotationpolicy"
    assert shown.created_on is not None and shown.updated_on >= shown.created_on


@pytest.mark.parametrize(
    "expires, actions",
    [
        ("P20D", []),
        ("P2Y", [("Rotate", "P2D", None)]),
        ("P60D", [("Rotate", None, "P5D")]),
        ("P2Y", [("Notify", "P30D", None)]),
        ("P2Y", [("Rotate", "P18M", None), ("Rotate", "P12M", None)]),
        ("two years", []),
    ],
)
def test_rotation_policies_out_of_bounds_are_refused(place, expires, actions):
    place.keys.create_rsa_key("k1", size=2048)
    policy = KeyRotationPolicy(
        expires_in=expires,
        lifetime_actions=[
            KeyRotationLifetimeAction(kind, time_after_create=after, time_before_expiry=before)
            for kind, after, before in actions
        ],
    )
    with pytest.raises(HttpResponseError) as refusal:
        place.keys.update_key_rotation_policy("k1", policy)
    assert (refusal.value.status_code, refusal.value.error.code) == (400, "BadParameter")


def test_a_key_with_a_policy_rotates_by_the_clock(fresh_place, fresh):
    place = fresh_place
    first = place.keys.create_rsa_key("k1", size=2048)
    place.keys.update_key_rotation_policy(
        "k1",
        KeyRotationPolicy(
            expires_in="P90D",
            lifetime_actions=[KeyRotationLifetimeAction("Rotate", time_after_create="P30D")],
        ),
    )
    fresh.advance(29 * 86400)
    assert fresh.keys(place.uri).get_key("k1").properties.version == first.properties.version
    fresh.advance(2 * 86400)
    keys = fresh.keys(place.uri)
    latest = keys.get_key("k1").properties
    assert latest.version != first.properties.version
    assert len(list(keys.list_properties_of_key_versions("k1"))) == 2
    assert latest.expires_on is not None, "the policy's expiryTime counts from the new version's creation"
    assert timedelta(days=89) < latest.expires_on - latest.created_on < timedelta(days=91)


def test_a_backup_brings_back_every_version_in_another_vault(place, cloud):
    for _ in range(2):
        place.keys.create_rsa_key("k1", size=2048, tags={"a": "b"})
    versions = {item.version for item in place.keys.list_properties_of_key_versions("k1")}
    backup = place.keys.backup_key("k1")
    assert isinstance(backup, bytes) and backup
    with pytest.raises(ResourceExistsError) as refusal:
        place.keys.restore_key_backup(backup)
    assert refusal.value.error.code == "Conflict"

    other = Place(cloud)
    restored = other.keys.restore_key_backup(backup)
    assert restored.name == "k1" and restored.id.startswith(other.uri)
    assert {item.version for item in other.keys.list_properties_of_key_versions("k1")} == versions
    assert restored.key.n == place.keys.get_key("k1").key.n
    assert restored.properties.tags == {"a": "b"}
    sealed = cloud.crypto(place.keys.get_key("k1").id).wrap_key("RSA-OAEP-256", b"d" * 32).encrypted_key
    assert cloud.crypto(restored.id).unwrap_key("RSA-OAEP-256", sealed).key == b"d" * 32


def test_a_spoiled_backup_is_refused(place):
    place.keys.create_rsa_key("k1", size=2048)
    backup = bytearray(place.keys.backup_key("k1"))
    backup[len(backup) // 2] ^= 1
    with pytest.raises(HttpResponseError) as refusal:
        place.keys.restore_key_backup(bytes(backup))
    assert refusal.value.status_code == 400 and refusal.value.error.code == "BadParameter"


def _octets(number):
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def test_an_imported_rsa_key_is_the_one_that_was_sent(place, cloud):
    own = rsa.generate_private_key(65537, 2048)
    numbers = own.private_numbers()
    jwk = JsonWebKey(
        kty="RSA",
        key_ops=["wrapKey", "unwrapKey", "sign", "verify"],
        n=_octets(numbers.public_numbers.n),
        e=_octets(numbers.public_numbers.e),
        d=_octets(numbers.d),
        p=_octets(numbers.p),
        q=_octets(numbers.q),
        dp=_octets(numbers.dmp1),
        dq=_octets(numbers.dmq1),
        qi=_octets(numbers.iqmp),
    )
    imported = place.keys.import_key("own", jwk, tags={"from": "here"})
    assert imported.key.n == _octets(numbers.public_numbers.n)
    assert imported.key.d is None and imported.key.p is None, "nothing private comes back"
    assert imported.properties.tags == {"from": "here"}

    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    sealed = cloud.crypto(imported.id).wrap_key("RSA-OAEP-256", b"d" * 32).encrypted_key
    assert own.decrypt(sealed, oaep) == b"d" * 32
    unsealed = cloud.crypto(imported.id).unwrap_key("RSA-OAEP-256", own.public_key().encrypt(b"e" * 32, oaep)).key
    assert unsealed == b"e" * 32


def test_an_imported_ec_key_signs_as_the_one_that_was_sent(place, cloud):
    own = ec.generate_private_key(ec.SECP256R1())
    numbers = own.private_numbers()
    jwk = JsonWebKey(
        kty="EC",
        crv="P-256",
        key_ops=["sign", "verify"],
        x=numbers.public_numbers.x.to_bytes(32, "big"),
        y=numbers.public_numbers.y.to_bytes(32, "big"),
        d=numbers.private_value.to_bytes(32, "big"),
    )
    imported = place.keys.import_key("own", jwk)
    digest = bytes(range(32))
    signature = cloud.crypto(imported.id).sign("ES256", digest).signature
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    own.public_key().verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def test_a_deleted_key_is_gone_until_it_is_recovered(place):
    made = place.keys.create_rsa_key("k1", size=2048, tags={"a": "b"})
    deleted = place.keys.begin_delete_key("k1", _polling_interval=0).result()
    assert deleted.recovery_id == place.uri + "deletedkeys/k1"
    assert deleted.scheduled_purge_date - deleted.deleted_date == timedelta(days=90)
    with pytest.raises(ResourceNotFoundError) as refusal:
        place.keys.get_key("k1")
    assert refusal.value.error.code == "KeyNotFound"
    assert [key.name for key in place.keys.list_deleted_keys()] == ["k1"]
    assert not list(place.keys.list_properties_of_keys())
    assert place.keys.get_deleted_key("k1").id == made.id
    with pytest.raises(HttpResponseError) as refusal:
        place.keys.create_rsa_key("k1", size=2048)
    assert refusal.value.status_code == 409
    assert all_codes(refusal.value) == ["Conflict", "ObjectIsDeletedButRecoverable"]
    with pytest.raises(HttpResponseError) as refusal:
        place.keys.rotate_key("k1")
    assert refusal.value.status_code in (404, 409)

    recovered = place.keys.begin_recover_deleted_key("k1", _polling_interval=0).result()
    assert recovered.id == made.id
    assert place.keys.get_key("k1").properties.tags == {"a": "b"}
    assert not list(place.keys.list_deleted_keys())


def test_the_poller_waits_while_a_deletion_or_a_recovery_is_on_its_way(fresh_place, fresh):
    place = fresh_place
    fresh.sim.lags(keyDelete=6, keyRecover=12)
    place.keys.create_ec_key("e1")
    deletion = place.keys.begin_delete_key("e1", _polling_interval=0)
    with pytest.raises(ResourceNotFoundError):
        place.keys.get_deleted_key("e1")
    fresh.advance(7)
    deletion.wait(30)
    assert place.keys.get_deleted_key("e1").name == "e1"
    recovery = place.keys.begin_recover_deleted_key("e1", _polling_interval=0)
    with pytest.raises(ResourceNotFoundError):
        place.keys.get_key("e1")
    fresh.advance(13)
    recovery.wait(30)
    assert place.keys.get_key("e1").name == "e1"


def test_no_purge_under_purge_protection(place):
    place.keys.create_ec_key("e1")
    place.keys.begin_delete_key("e1", _polling_interval=0).wait()
    with pytest.raises(HttpResponseError) as refusal:
        place.keys.purge_deleted_key("e1")
    assert (refusal.value.status_code, refusal.value.error.code) == (403, "Forbidden")
    assert "purge" in refusal.value.message
    assert place.keys.get_deleted_key("e1").name == "e1"


def test_purge_frees_the_name_where_nothing_protects(cloud):
    place = Place(cloud, enablePurgeProtection=None)
    first = place.keys.create_ec_key("e1")
    assert first.properties.recovery_level == "Recoverable+Purgeable"
    place.keys.begin_delete_key("e1", _polling_interval=0).wait()
    place.keys.purge_deleted_key("e1")
    with pytest.raises(ResourceNotFoundError):
        place.keys.get_deleted_key("e1")
    assert place.keys.create_ec_key("e1").id != first.id


def test_a_deleted_key_is_purged_by_the_clock_at_the_end_of_its_retention(fresh):
    place = Place(fresh, softDeleteRetentionInDays=7)
    place.keys.create_ec_key("e1")
    place.keys.begin_delete_key("e1", _polling_interval=0).wait()
    fresh.advance(6.9 * 86400)
    assert fresh.keys(place.uri).get_deleted_key("e1").name == "e1"
    fresh.advance(0.2 * 86400)
    keys = fresh.keys(place.uri)
    with pytest.raises(ResourceNotFoundError):
        keys.get_deleted_key("e1")
    keys.create_ec_key("e1")


@pytest.mark.parametrize("version", [v for v in ApiVersion])
def test_every_api_version_of_the_client_is_served(place, version):
    keys = place.cloud.keys(place.uri, api_version=version)
    made = keys.create_rsa_key("k1", size=2048)
    assert keys.get_key("k1").id == made.id


def test_a_crypto_user_uses_keys_but_does_not_make_them(place, cloud):
    key = place.keys.create_rsa_key("k1", size=2048)
    user = cloud.as_outsider()
    cloud.grant(place.vault.id, object_id_of(user), CRYPTO_USER)
    keys = user.keys(place.uri)
    sealed = user.crypto(key.id).wrap_key("RSA-OAEP", b"x" * 16).encrypted_key
    assert user.crypto(key.id).unwrap_key("RSA-OAEP", sealed).key == b"x" * 16
    assert keys.get_key("k1").id == key.id
    for refused in (
        lambda: keys.create_rsa_key("k2", size=2048),
        lambda: keys.begin_delete_key("k1"),
        lambda: keys.rotate_key("k1"),
    ):
        with pytest.raises(HttpResponseError) as refusal:
            refused()
        assert refusal.value.status_code == 403
        assert all_codes(refusal.value) == ["Forbidden", "ForbiddenByRbac"]


def test_a_role_on_one_key_reaches_that_key_only(place, cloud):
    first = place.keys.create_rsa_key("k1", size=2048)
    second = place.keys.create_rsa_key("k2", size=2048)
    user = cloud.as_outsider()
    cloud.grant(f"{place.vault.id}/keys/k1", object_id_of(user), CRYPTO_OFFICER)
    assert user.keys(place.uri).get_key("k1").id == first.id
    with pytest.raises(HttpResponseError) as refusal:
        user.keys(place.uri).get_key("k2")
    assert all_codes(refusal.value) == ["Forbidden", "ForbiddenByRbac"], second.id


def test_an_access_policy_speaks_where_rbac_is_off(cloud):
    group = cloud.group().name
    policy = {
        "tenantId": cloud.sim.tenant,
        "objectId": cloud.me.object_id,
        "permissions": {"keys": ["get", "list", "create"], "secrets": [], "certificates": []},
    }
    vault = cloud.vault(group, unique("kv"), enableRbacAuthorization=False, accessPolicies=[policy])
    keys = cloud.keys(vault.properties.vault_uri)
    made = keys.create_rsa_key("k1", size=2048)
    assert keys.get_key("k1").id == made.id
    with pytest.raises(HttpResponseError) as refusal:
        keys.rotate_key("k1")
    assert refusal.value.status_code == 403
    assert all_codes(refusal.value) in (["Forbidden", "AccessDenied"], ["Forbidden", "ForbiddenByPolicy"])

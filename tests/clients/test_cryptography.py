"""What a key does remotely and what the client's own RSA and EC do locally are the same mathematics."""

import hashlib

import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.keys.crypto import EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm

from support.cloud import all_codes

DIGESTS = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
RSA_ENCRYPTION = [EncryptionAlgorithm.rsa_oaep, EncryptionAlgorithm.rsa_oaep_256, EncryptionAlgorithm.rsa1_5]
RSA_SIGNATURES = [f"{family}{bits}" for family in ("RS", "PS") for bits in DIGESTS]
EC_SIGNATURES = [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512"), ("P-256K", "ES256K")]


def local_and_remote(cloud, key):
    """One client that does public-key work itself, and one that has only the id and asks the vault."""
    from azure.keyvault.keys.crypto import CryptographyClient

    local = CryptographyClient.from_jwk(key.key)
    return local, cloud.crypto(key.id)


def asked(recorder, operation):
    return [e for e in recorder.exchanges if e.path.endswith("/" + operation) and e.status == 200]


@pytest.fixture
def rsa_key(place):
    return place.keys.create_rsa_key("k1", size=2048)


@pytest.mark.parametrize("algorithm", RSA_ENCRYPTION)
def test_what_is_encrypted_here_is_decrypted_there(rsa_key, cloud, recorder, algorithm):
    local, remote = local_and_remote(cloud, rsa_key)
    sealed = local.encrypt(algorithm, b"in the clear").ciphertext
    assert not asked(recorder, "encrypt")
    opened = remote.decrypt(algorithm, sealed)
    assert opened.plaintext == b"in the clear" and opened.key_id == rsa_key.id
    assert asked(recorder, "decrypt")


@pytest.mark.parametrize("algorithm", [KeyWrapAlgorithm.rsa_oaep, KeyWrapAlgorithm.rsa_oaep_256, KeyWrapAlgorithm.rsa1_5])
def test_what_is_wrapped_here_is_unwrapped_there(rsa_key, cloud, recorder, algorithm):
    local, remote = local_and_remote(cloud, rsa_key)
    data_key = bytes(range(32))
    assert remote.unwrap_key(algorithm, local.wrap_key(algorithm, data_key).encrypted_key).key == data_key
    assert not asked(recorder, "wrapkey") and asked(recorder, "unwrapkey")


def test_wrap_and_encrypt_are_done_by_the_vault_for_a_caller_who_has_the_id_only(place, cloud, recorder):
    # The key's operations hold back the local provider: it may not be used for what the key may not do.
    key = place.keys.create_rsa_key("k1", size=2048)
    from azure.keyvault.keys._shared import HttpChallengeCache

    HttpChallengeCache.clear()
    client = place.keys._client  # The generated client below the SDK's: it sends what it is told.
    import base64

    def b64(raw):
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    for operation, algorithm in (("encrypt", "RSA-OAEP-256"), ("wrap_key", "RSA-OAEP")):
        done = getattr(client, operation)(
            "k1", key.properties.version, {"alg": algorithm, "value": b64(b"x" * 32)}
        )
        assert done.kid == key.id
        remote = cloud.crypto(key.id)
        if operation == "encrypt":
            assert remote.decrypt(algorithm, done.result).plaintext == b"x" * 32
        else:
            assert remote.unwrap_key(algorithm, done.result).key == b"x" * 32
    assert asked(recorder, "encrypt") and asked(recorder, "wrapkey")


@pytest.mark.parametrize("algorithm", RSA_SIGNATURES)
def test_what_is_signed_there_is_verified_here_and_there(rsa_key, cloud, recorder, algorithm):
    local, remote = local_and_remote(cloud, rsa_key)
    digest = DIGESTS[algorithm[2:]](b"text").digest()
    signature = remote.sign(SignatureAlgorithm(algorithm), digest).signature
    assert local.verify(SignatureAlgorithm(algorithm), digest, signature).is_valid
    other = DIGESTS[algorithm[2:]](b"another").digest()
    assert not local.verify(SignatureAlgorithm(algorithm), other, signature).is_valid
    assert asked(recorder, "sign") and not asked(recorder, "verify")


@pytest.mark.parametrize("curve, algorithm", EC_SIGNATURES)
def test_ec_signatures_are_verified_here(place, cloud, curve, algorithm):
    key = place.keys.create_ec_key("e1", curve=curve)
    local, remote = local_and_remote(cloud, key)
    digest = DIGESTS[algorithm[2:5]](b"text").digest()
    signature = remote.sign(SignatureAlgorithm(algorithm), digest).signature
    assert local.verify(SignatureAlgorithm(algorithm), digest, signature).is_valid
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    assert not local.verify(SignatureAlgorithm(algorithm), digest, flipped).is_valid


def test_the_vault_verifies_too(place):
    import base64

    def b64(raw):
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    key = place.keys.create_rsa_key("k1", size=2048)
    version, client = key.properties.version, place.keys._client
    digest = hashlib.sha256(b"text").digest()
    signed = client.sign("k1", version, {"alg": "PS256", "value": b64(digest)}).result
    for asked_for, valid in ((digest, True), (hashlib.sha256(b"other").digest(), False)):
        body = {"alg": "PS256", "digest": b64(asked_for), "value": b64(signed)}
        assert client.verify("k1", version, body).value is valid


def test_an_old_version_still_opens_what_it_sealed(place, cloud):
    old = place.keys.create_rsa_key("k1", size=2048)
    sealed = cloud.crypto(old.id).wrap_key("RSA-OAEP-256", b"d" * 32)
    assert sealed.key_id == old.id
    place.keys.rotate_key("k1")
    assert cloud.crypto(old.id).unwrap_key("RSA-OAEP-256", sealed.encrypted_key).key == b"d" * 32
    with pytest.raises(HttpResponseError) as refusal:
        cloud.crypto(place.keys.get_key("k1").id).unwrap_key("RSA-OAEP-256", sealed.encrypted_key)
    assert refusal.value.status_code == 400 and refusal.value.error.code == "BadParameter"


def test_a_disabled_key_does_nothing_and_an_enabled_one_goes_on(place, cloud):
    key = place.keys.create_rsa_key("k1", size=2048)
    sealed = cloud.crypto(key.id).wrap_key("RSA-OAEP", b"d" * 32).encrypted_key
    place.keys.update_key_properties("k1", key.properties.version, enabled=False)
    with pytest.raises(HttpResponseError) as refusal:
        cloud.crypto(key.id).unwrap_key("RSA-OAEP", sealed)
    assert refusal.value.status_code == 403
    assert all_codes(refusal.value) == ["Forbidden", "KeyDisabled"]
    place.keys.update_key_properties("k1", key.properties.version, enabled=True)
    assert cloud.crypto(key.id).unwrap_key("RSA-OAEP", sealed).key == b"d" * 32


def test_an_expired_key_opens_but_does_not_seal(fresh_place, fresh):
    from datetime import datetime, timedelta, timezone

    place = fresh_place
    ends = datetime.now(timezone.utc) + timedelta(days=30)
    key = place.keys.create_rsa_key("k1", size=2048, expires_on=ends)
    digest = hashlib.sha256(b"text").digest()
    sealed = fresh.crypto(key.id).wrap_key("RSA-OAEP", b"d" * 32).encrypted_key
    fresh.advance(31 * 86400)
    assert fresh.crypto(key.id).unwrap_key("RSA-OAEP", sealed).key == b"d" * 32
    # The generated client sends what it is told; the SDK's own check of the dates is not what is tested here.
    import base64

    body = {"alg": "RS256", "value": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()}
    for operation in ("sign", "wrap_key", "encrypt"):
        told = body if operation == "sign" else {**body, "alg": "RSA-OAEP"}
        with pytest.raises(HttpResponseError) as refusal:
            getattr(fresh.keys(place.uri)._client, operation)("k1", key.properties.version, told)
        assert refusal.value.status_code == 403 and refusal.value.error.code == "Forbidden"

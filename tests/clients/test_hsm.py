"""Managed HSM: made, activated by its security domain, its local roles, its keys, and services under them."""

import base64
import hashlib
import json
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.administration import KeyVaultRoleScope
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm, SignatureAlgorithm
from azure.keyvault.securitydomain.models import CertificateInfo, SecurityDomainJsonWebKey
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.bodies import storage_account
from support.cloud import LOCATION, all_codes, object_id_of, unique

CRYPTO_USER = "21dbd100-6940-42c2-9190-5d6cb909625b"
CRYPTO_OFFICER = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
ENCRYPTION_USER = "33413926-3206-4cdd-b39a-83574fe37a17"
BUILT_IN = {
    "a290e904-7015-4bba-90c8-60543313cdb4": "Managed HSM Administrator",
    CRYPTO_OFFICER: "Managed HSM Crypto Officer",
    CRYPTO_USER: "Managed HSM Crypto User",
    "4bd23610-cdcf-4971-bdee-bdc562cc28e4": "Managed HSM Policy Administrator",
    "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3": "Managed HSM Crypto Auditor",
    ENCRYPTION_USER: "Managed HSM Crypto Service Encryption User",
    "21dbd100-6940-42c2-9190-5d6cb909625c": "Managed HSM Crypto Service Release User",
}


def create(cloud, group, name=None, **properties):
    wanted = {
        "tenantId": cloud.sim.tenant,
        "initialAdminObjectIds": [cloud.me.object_id],
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": 7,
        "enablePurgeProtection": True,
        **properties,
    }
    body = {"location": LOCATION, "sku": {"family": "B", "name": "Standard_B1"}, "properties": wanted}
    return cloud.keyvault.managed_hsms.begin_create_or_update(group, name or unique("hsm"), body).result()


def role(guid):
    return f"Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/{guid}"


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def certificate(number):
    """A custodian's certificate, as JWK."""
    key = rsa.generate_private_key(65537, 2048)
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"custodian {number}")])
    now = datetime.now(timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    der = cert.public_bytes(serialization.Encoding.DER)
    numbers = key.public_key().public_numbers()
    return SecurityDomainJsonWebKey(
        kid=f"custodian-{number}",
        kty="RSA",
        key_ops=["verify", "encrypt", "wrapKey"],
        n=b64(numbers.n.to_bytes(256, "big")),
        e="AQAB",
        x5_c=[base64.b64encode(der).decode()],
        x5_t=b64(hashlib.sha1(der).digest()),
        x5_t_s256=b64(hashlib.sha256(der).digest()),
        alg="RSA-OAEP-256",
    )


@pytest.fixture(scope="module")
def custodians():
    return CertificateInfo(certificates=[certificate(n) for n in range(3)], required=2)


def activated(cloud, group, **properties):
    hsm = create(cloud, group, **properties)
    cloud.sim.control("POST", f"hsms/{hsm.name}/activate")
    return hsm


@pytest.fixture
def hsm(cloud):
    """An active HSM of which the caller is Administrator and Crypto User."""
    made = activated(cloud, cloud.group().name)
    access = cloud.hsm_access(made.properties.hsm_uri)
    access.create_role_assignment("/", role(CRYPTO_USER), cloud.me.object_id)
    return made


def test_a_new_hsm_is_of_no_use_until_its_security_domain_is_downloaded(cloud, custodians):
    group, name = cloud.group().name, unique("hsm")
    made = create(cloud, group, name)
    uri = made.properties.hsm_uri
    assert uri == f"https://{name}.managedhsm.{cloud.sim.domain}/"
    assert made.properties.provisioning_state == "Succeeded"
    status = made.properties.security_domain_properties
    assert status.activation_status == "NotActivated" and status.activation_status_message
    access, keys = cloud.hsm_access(uri), cloud.keys(uri)
    for refused in (
        lambda: keys.create_rsa_key("k1", size=2048, hardware_protected=True),
        lambda: access.create_role_assignment("/", role(CRYPTO_USER), cloud.me.object_id),
    ):
        with pytest.raises(HttpResponseError) as refusal:
            refused()
        assert refusal.value.status_code == 403

    domain = cloud.security_domain(uri).begin_download(custodians).result()
    file = json.loads(domain.value)
    assert isinstance(file, dict) and file, "the customer's root of trust, as JSON text"
    shown = cloud.keyvault.managed_hsms.get(group, name).properties
    assert shown.security_domain_properties.activation_status == "Active"

    access.create_role_assignment("/", role(CRYPTO_USER), cloud.me.object_id)
    key = cloud.keys(uri).create_rsa_key("k1", size=2048, hardware_protected=True)
    assert key.key_type == "RSA-HSM" and key.id.startswith(uri + "keys/k1/")


@pytest.mark.parametrize("count, required", [(2, 2), (3, 4), (3, 1)])
def test_too_few_custodians_or_too_many_required_activate_nothing(cloud, custodians, count, required):
    hsm = create(cloud, cloud.group().name)
    info = CertificateInfo(certificates=custodians.certificates[:count], required=required)
    with pytest.raises(HttpResponseError) as refusal:
        cloud.security_domain(hsm.properties.hsm_uri).begin_download(info).result()
    assert refusal.value.status_code == 400


def test_the_challenge_of_an_hsm_names_its_own_audience(hsm, cloud, recorder):
    recorder.exchanges.clear()
    keys = cloud.keys(hsm.properties.hsm_uri)
    from azure.keyvault.keys._shared import HttpChallengeCache

    HttpChallengeCache.clear()
    list(keys.list_properties_of_keys())
    first = recorder.exchanges[0]
    assert first.status == 401
    challenge = next(v for k, v in first.headers.items() if k.lower() == "www-authenticate")
    assert f'resource="https://managedhsm.{cloud.sim.domain}"' in challenge


def test_built_in_roles_are_listed(hsm, cloud):
    access = cloud.hsm_access(hsm.properties.hsm_uri)
    listed = {item.name: item.role_name for item in access.list_role_definitions(KeyVaultRoleScope.GLOBAL)}
    for guid, name in BUILT_IN.items():
        assert listed.get(guid) == name
    one = access.get_role_definition("/", ENCRYPTION_USER)
    actions = {action for permission in one.permissions for action in permission.data_actions}
    assert {a.rsplit("/", 2)[-2] for a in actions} >= {"wrap", "unwrap"}, actions


def test_assignments_are_made_shown_listed_and_removed(hsm, cloud):
    access = cloud.hsm_access(hsm.properties.hsm_uri)
    person, name = str(uuid.uuid4()), uuid.uuid4()
    made = access.create_role_assignment("/keys", role(ENCRYPTION_USER), person, name=name)
    assert made.name == str(name)
    shown = access.get_role_assignment("/keys", name)
    assert shown.properties.principal_id == person and shown.properties.scope == "/keys"
    assert shown.properties.role_definition_id.strip("/").endswith(ENCRYPTION_USER)
    assert str(name) in {item.name for item in access.list_role_assignments("/keys")}
    with pytest.raises(ResourceExistsError):
        access.create_role_assignment("/keys", role(ENCRYPTION_USER), person)
    access.delete_role_assignment("/keys", name)
    with pytest.raises(ResourceNotFoundError):
        access.get_role_assignment("/keys", name)


def test_the_administrator_makes_no_keys_and_the_crypto_officer_uses_none(cloud):
    made = activated(cloud, cloud.group().name)
    uri = made.properties.hsm_uri
    officer = cloud.as_outsider()
    cloud.hsm_access(uri).create_role_assignment("/", role(CRYPTO_OFFICER), object_id_of(officer))
    for who in (cloud, officer):
        with pytest.raises(HttpResponseError) as refusal:
            who.keys(uri).create_rsa_key("k1", size=2048, hardware_protected=True)
        assert refusal.value.status_code == 403
        assert all_codes(refusal.value) == ["AccessDenied"], "no inner code, and not a vault's code"
        assert "Not authorized to access Microsoft.KeyVault/managedHsm/" in refusal.value.message


def test_azure_roles_give_nothing_in_the_data_plane(cloud):
    # The caller is Owner of the subscription; the HSM's administrator is another.
    other = cloud.as_outsider()
    made = activated(cloud, cloud.group().name, initialAdminObjectIds=[object_id_of(other)])
    uri = made.properties.hsm_uri
    with pytest.raises(HttpResponseError) as refusal:
        list(cloud.hsm_access(uri).list_role_assignments("/"))
    assert refusal.value.status_code == 403 and refusal.value.error.code == "AccessDenied"
    assert list(other.hsm_access(uri).list_role_assignments("/"))


def test_keys_of_an_hsm_wrap_sign_and_rotate(hsm, cloud):
    keys = cloud.keys(hsm.properties.hsm_uri)
    key = keys.create_rsa_key("k1", size=3072, hardware_protected=True)
    local, remote = CryptographyClient.from_jwk(key.key), cloud.crypto(key.id)
    sealed = local.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"d" * 32).encrypted_key
    assert remote.unwrap_key("RSA-OAEP-256", sealed).key == b"d" * 32
    digest = hashlib.sha256(b"text").digest()
    assert local.verify(SignatureAlgorithm.ps256, digest, remote.sign(SignatureAlgorithm.ps256, digest).signature).is_valid
    new = keys.rotate_key("k1")
    assert new.properties.version != key.properties.version and new.key_type == "RSA-HSM"
    curve = keys.create_ec_key("e1", curve="P-256", hardware_protected=True)
    assert curve.key_type == "EC-HSM"


def test_an_aes_key_of_an_hsm_wraps_and_encrypts(hsm, cloud):
    keys = cloud.keys(hsm.properties.hsm_uri)
    key = keys.create_oct_key("a1", size=256, hardware_protected=True)
    assert key.key_type == "oct-HSM" and key.key.k is None
    crypto = cloud.crypto(key.id)
    sealed = crypto.wrap_key("A256KW", b"d" * 32).encrypted_key
    assert sealed != b"d" * 32 and crypto.unwrap_key("A256KW", sealed).key == b"d" * 32
    done = crypto.encrypt("A256GCM", b"text", additional_authenticated_data=b"seen")
    opened = crypto.decrypt(
        "A256GCM",
        done.ciphertext,
        iv=done.iv,
        authentication_tag=done.tag,
        additional_authenticated_data=b"seen",
    )
    assert opened.plaintext == b"text"
    assert len(keys.get_random_bytes(32)) == 32


def test_software_keys_are_refused(hsm, cloud):
    with pytest.raises(HttpResponseError) as refusal:
        cloud.keys(hsm.properties.hsm_uri).create_rsa_key("k1", size=2048)
    assert refusal.value.status_code == 400


def test_a_deleted_key_of_an_hsm_comes_back(hsm, cloud):
    keys = cloud.keys(hsm.properties.hsm_uri)
    access = cloud.hsm_access(hsm.properties.hsm_uri)
    access.create_role_assignment("/", role(CRYPTO_OFFICER), cloud.me.object_id)
    made = keys.create_rsa_key("k1", size=2048, hardware_protected=True)
    keys.begin_delete_key("k1", _polling_interval=0).wait()
    with pytest.raises(ResourceNotFoundError):
        keys.get_key("k1")
    with pytest.raises(HttpResponseError) as refusal:
        keys.create_rsa_key("k1", size=2048, hardware_protected=True)
    assert refusal.value.status_code == 409 and refusal.value.error.code == "Conflict"
    keys.begin_recover_deleted_key("k1", _polling_interval=0).wait()
    assert keys.get_key("k1").id == made.id


def test_a_deleted_hsm_comes_back_with_its_keys(hsm, cloud):
    group = hsm.id.split("/")[4]
    uri = hsm.properties.hsm_uri
    made = cloud.keys(uri).create_rsa_key("k1", size=2048, hardware_protected=True)
    cloud.keyvault.managed_hsms.begin_delete(group, hsm.name).result()
    with pytest.raises(HttpResponseError):
        # Azure's description allows 204 for what is not there; the client takes that for an empty answer.
        found = cloud.keyvault.managed_hsms.get(group, hsm.name)
        raise ResourceNotFoundError("204") if found is None else AssertionError(found)
    deleted = cloud.keyvault.managed_hsms.get_deleted(hsm.name, LOCATION)
    assert deleted.properties.mhsm_id.lower() == hsm.id.lower()
    assert deleted.properties.purge_protection_enabled is True
    with pytest.raises(HttpResponseError) as refusal:
        cloud.keyvault.managed_hsms.begin_purge_deleted(hsm.name, LOCATION).result()
    assert refusal.value.status_code in (403, 405, 409)
    taken = cloud.keyvault.managed_hsms.check_mhsm_name_availability({"name": hsm.name})
    assert taken.name_available is False

    back = create(cloud, group, hsm.name, createMode="recover")
    assert back.properties.security_domain_properties.activation_status == "Active"
    assert cloud.keys(uri).get_key("k1").id == made.id


def test_an_hsm_may_be_made_without_purge_protection_unlike_a_vault(cloud):
    made = create(cloud, cloud.group().name, enablePurgeProtection=False)
    assert not made.properties.enable_purge_protection


def test_storage_under_a_key_of_an_hsm(hsm, cloud):
    group = hsm.id.split("/")[4]
    uri = hsm.properties.hsm_uri
    key = cloud.keys(uri).create_rsa_key("k1", size=2048, hardware_protected=True)
    identity = cloud.identity(group)
    body = storage_account(identity.id, uri, "k1", "")
    with pytest.raises(HttpResponseError) as refusal:
        cloud.storage.storage_accounts.begin_create(group, unique("st"), body).result()
    assert refusal.value.status_code in (400, 403)
    assert refusal.value.error.code == "KeyVaultAuthenticationFailure"
    cloud.hsm_access(uri).create_role_assignment("/keys/k1", role(ENCRYPTION_USER), identity.principal_id)
    made = cloud.storage.storage_accounts.begin_create(group, unique("st"), body).result()
    assert made.encryption.key_vault_properties.current_versioned_key_identifier == key.id

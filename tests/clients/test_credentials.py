"""The ways of azure-identity to a token: secret, certificate, federated assertion, managed identities; and what is in it."""

import datetime
import json
import uuid

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    CredentialUnavailableError,
    ManagedIdentityCredential,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.cloud import READER, claims_of, unique

EXCHANGE = "api://AzureADTokenExchange"


def arm(cloud):
    return cloud.sim.arm + "/.default"


def test_a_token_by_secret_says_who_calls(cloud):
    held = cloud.credential.get_token(arm(cloud))
    claims = claims_of(held.token)
    assert claims["tid"] == cloud.sim.tenant
    assert claims["appid"] == cloud.me.client_id and claims["oid"] == cloud.me.object_id
    assert claims["aud"].rstrip("/") == cloud.sim.arm
    assert claims["iss"] == f"https://sts.windows.net/{cloud.sim.tenant}/"
    assert claims["idtyp"] == "app" and claims["ver"] == "1.0" and claims["appidacr"] == "1"
    assert claims["sub"] == claims["oid"]
    assert 0 < claims["exp"] - claims["iat"] <= 86400
    header = jwt.get_unverified_header(held.token)
    keys = cloud.sim.session.get(f"{cloud.sim.authority}/{cloud.sim.tenant}/discovery/v2.0/keys").json()["keys"]
    (signer,) = [key for key in keys if key["kid"] == header["kid"]]
    verified = jwt.decode(
        held.token,
        jwt.PyJWK(signer).key,
        algorithms=["RS256"],
        audience=claims["aud"],
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert verified == claims


@pytest.mark.parametrize(
    "scope, audience",
    [
        ("https://management.azure.com/.default", "https://management.azure.com"),
        ("https://management.core.windows.net//.default", "https://management.core.windows.net/"),
        ("https://vault.azure.net/.default", "https://vault.azure.net"),
        ("https://graph.microsoft.com/.default", "https://graph.microsoft.com"),
        ("https://storage.azure.com/.default", "https://storage.azure.com"),
        ("https://managedhsm.azure.net/.default", "https://managedhsm.azure.net"),
    ],
)
def test_azures_own_audiences_are_issued_for(cloud, scope, audience):
    assert claims_of(cloud.credential.get_token(scope).token)["aud"] == audience


def test_the_same_credential_serves_arm_and_vaults(place, cloud):
    key = place.keys.create_ec_key("e1")
    public = place.cloud.keys(place.uri).get_key("e1")
    assert public.id == key.id
    asked = {e.path for e in cloud.recorder.exchanges if e.path.endswith("/oauth2/v2.0/token")}
    assert asked == {f"/{cloud.sim.tenant}/oauth2/v2.0/token"}


@pytest.fixture(scope="module")
def own_key():
    return rsa.generate_private_key(65537, 2048)


def pem_of(key, days=365):
    """Private key and a self-signed certificate of it, and the certificate alone."""
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "operator")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    return private + public, public.decode()


def by_certificate(cloud, pem):
    return CertificateCredential(
        cloud.sim.tenant,
        cloud.me.client_id,
        certificate_data=pem,
        authority=cloud.sim.authority,
        disable_instance_discovery=True,
        transport=cloud.transport(),
    )


def test_a_registered_certificate_opens_and_another_does_not(cloud, own_key):
    both, public = pem_of(own_key)
    cloud.sim.register_certificate(cloud.me.client_id, public)
    credential = by_certificate(cloud, both)
    claims = claims_of(credential.get_token(arm(cloud)).token)
    assert claims["oid"] == cloud.me.object_id and claims["appidacr"] == "2"
    assert cloud.as_credential(credential).resources.resource_groups.check_existence(unique("none")) is False
    stranger, _ = pem_of(rsa.generate_private_key(65537, 2048))
    with pytest.raises(ClientAuthenticationError) as refusal:
        by_certificate(cloud, stranger).get_token(arm(cloud))
    assert "AADSTS700027" in refusal.value.message


class Issuer:
    """A foreign issuer of tokens: a cluster, or a pipeline's host."""

    def __init__(self, cloud, key):
        self.cloud, self.key = cloud, key
        self.name = f"https://issuer.example/{uuid.uuid4()}"
        self.kid = uuid.uuid4().hex
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
        cloud.sim.trust_issuer(self.name, {"keys": [{**jwk, "kid": self.kid, "use": "sig", "alg": "RS256"}]})

    def token(self, subject, audience=EXCHANGE, key=None, lasting=600):
        now = datetime.datetime.fromisoformat(self.cloud.sim.control("GET", "clock")["now"]).timestamp()
        claims = {"iss": self.name, "sub": subject, "aud": audience, "iat": now, "nbf": now, "exp": now + lasting}
        claims = {name: int(value) if isinstance(value, float) else value for name, value in claims.items()}
        return jwt.encode(claims, key or self.key, algorithm="RS256", headers={"kid": self.kid})


def by_assertion(cloud, client_id, assertion):
    return ClientAssertionCredential(
        cloud.sim.tenant,
        client_id,
        lambda: assertion,
        authority=cloud.sim.authority,
        disable_instance_discovery=True,
        transport=cloud.transport(),
    )


def federate(cloud, group, identity, issuer, subject, audience=EXCHANGE):
    return cloud.identities.federated_identity_credentials.create_or_update(
        group, identity.name, "pipeline", {"issuer": issuer, "subject": subject, "audiences": [audience]}
    )


def test_a_federated_assertion_is_taken_for_the_identity(cloud, own_key):
    issuer = Issuer(cloud, own_key)
    group = cloud.group().name
    identity = cloud.identity(group)
    made = federate(cloud, group, identity, issuer.name, "system:serviceaccount:ns:name")
    assert made.issuer == issuer.name and made.audiences == [EXCHANGE]
    listed = list(cloud.identities.federated_identity_credentials.list(group, identity.name))
    assert [item.name for item in listed] == ["pipeline"]
    good = issuer.token("system:serviceaccount:ns:name")
    credential = by_assertion(cloud, identity.client_id, good)
    claims = claims_of(credential.get_token(arm(cloud)).token)
    assert claims["oid"] == identity.principal_id and claims["appid"] == identity.client_id
    cloud.grant(f"{cloud.subscription_path}/resourceGroups/{group}", identity.principal_id, READER)
    assert cloud.as_credential(credential).resources.resource_groups.get(group).name == group


@pytest.mark.parametrize("wrong", ["subject", "audience", "signature", "expired", "issuer"])
def test_a_wrong_assertion_is_refused(cloud, own_key, wrong):
    issuer = Issuer(cloud, own_key)
    group = cloud.group().name
    identity = cloud.identity(group)
    federate(cloud, group, identity, "https://issuer.example/other" if wrong == "issuer" else issuer.name, "me")
    assertion = {
        "subject": lambda: issuer.token("you"),
        "audience": lambda: issuer.token("me", audience="https://other.example"),
        "signature": lambda: issuer.token("me", key=rsa.generate_private_key(65537, 2048)),
        "expired": lambda: issuer.token("me", lasting=-3600),
        "issuer": lambda: issuer.token("me"),
    }[wrong]()
    with pytest.raises(ClientAuthenticationError) as refusal:
        by_assertion(cloud, identity.client_id, assertion).get_token(arm(cloud))
    # The family of numbers that Entra uses for each; only the first digits are the same over the years.
    expected = {
        "subject": ("AADSTS70021", "AADSTS700213"),
        "audience": ("AADSTS70021", "AADSTS700212"),
        "signature": ("AADSTS700027", "AADSTS5000", "AADSTS7000"),
        "expired": ("AADSTS700024", "AADSTS500133"),
        "issuer": ("AADSTS70021", "AADSTS700211"),
    }[wrong]
    assert any(code in refusal.value.message for code in expected), refusal.value.message


@pytest.fixture
def without_identity_variables(monkeypatch):
    for name in (
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "IMDS_ENDPOINT",
        "MSI_ENDPOINT",
        "MSI_SECRET",
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "AZURE_FEDERATED_TOKEN_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture(params=["virtual-machine", "app-service"])
def host(request, cloud, without_identity_variables):
    """The environment in which a managed identity's token is to be had."""
    if request.param == "virtual-machine":
        without_identity_variables.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", cloud.sim.imds)
    else:
        endpoint, header = cloud.sim.app_service
        without_identity_variables.setenv("IDENTITY_ENDPOINT", endpoint)
        without_identity_variables.setenv("IDENTITY_HEADER", header)
    return request.param


@pytest.mark.parametrize("by", ["client_id", "object_id", "resource_id"])
def test_a_managed_identity_gets_a_token_on_its_host(cloud, host, by):
    group = cloud.group().name
    identity = cloud.identity(group)
    named = {
        "client_id": {"client_id": identity.client_id},
        "object_id": {"identity_config": {"object_id": identity.principal_id}},
        "resource_id": {"identity_config": {"resource_id": identity.id}},
    }[by]
    credential = ManagedIdentityCredential(transport=cloud.transport(), **named)
    held = credential.get_token("https://vault.azure.net/.default")
    claims = claims_of(held.token)
    assert claims["oid"] == identity.principal_id and claims["appid"] == identity.client_id
    assert claims["aud"] == "https://vault.azure.net"
    assert claims["xms_mirid"].lower() == identity.id.lower()


def test_a_managed_identity_wraps_with_the_key_that_it_was_granted(place, cloud, host):
    key = place.keys.create_rsa_key("k1", size=2048)
    credential = ManagedIdentityCredential(client_id=place.identity.client_id, transport=cloud.transport())
    as_identity = cloud.as_credential(credential)
    assert as_identity.keys(place.uri).get_key("k1").id == key.id
    sealed = as_identity.crypto(key.id).wrap_key("RSA-OAEP-256", b"d" * 32).encrypted_key
    assert as_identity.crypto(key.id).unwrap_key("RSA-OAEP-256", sealed).key == b"d" * 32
    with pytest.raises(Exception) as refusal:
        as_identity.keys(place.uri).create_rsa_key("k2", size=2048)
    assert "ForbiddenByRbac" in str(refusal.value)


def test_an_identity_that_the_host_does_not_have_is_unavailable(cloud, host):
    credential = ManagedIdentityCredential(client_id=str(uuid.uuid4()), transport=cloud.transport())
    with pytest.raises((CredentialUnavailableError, ClientAuthenticationError)):
        credential.get_token("https://vault.azure.net/.default")


def test_imds_wants_its_header(cloud):
    with RequestsTransport() as plain:
        from azure.core.rest import HttpRequest

        query = {"api-version": "2018-02-01", "resource": "https://vault.azure.net"}
        answer = plain.send(HttpRequest("GET", cloud.sim.imds + "/metadata/identity/oauth2/token", params=query))
    assert answer.status_code == 400
    answer.read()
    assert answer.json()["error"] == "invalid_request"

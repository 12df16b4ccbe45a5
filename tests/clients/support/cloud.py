"""Azure as a caller sees it: the SDKs' clients with their default pipelines, and the few moves that many tests begin with."""

import base64
import json
import time
import uuid

from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential
from azure.keyvault.administration import KeyVaultAccessControlClient
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient
from azure.keyvault.securitydomain import SecurityDomainClient
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from azure.mgmt.cosmosdb import CosmosDBManagementClient
from azure.mgmt.keyvault import KeyVaultManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.storage import StorageManagementClient
from azure.storage.blob import BlobServiceClient

from .recording import RecordingTransport

LOCATION = "westeurope"
ADMINISTRATOR = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
CRYPTO_OFFICER = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
CRYPTO_USER = "12338af0-0e69-4776-bea7-57ae8d297424"
ENCRYPTION_USER = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
BLOB_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"

MARGIN = 600
"""Seconds of the simulator's time after which tokens are fetched anew; they live 3599."""


class Principal:
    """Who calls: an application with its secret, or any credential."""

    def __init__(self, client_id, secret, object_id=None):
        self.client_id = client_id
        self.secret = secret
        self.object_id = object_id


class Cloud:
    """One caller's view of one simulator."""

    def __init__(self, sim, recorder, principal=None, credential=None):
        self.sim = sim
        self.recorder = recorder
        env = sim.env
        self.me = principal or Principal(
            env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"], env.get("AZURE_SIM_OBJECT_ID")
        )
        self._given = credential
        self.renew()

    # Callers

    def renew(self):
        """Forgets tokens and clients: tokens expire by the simulator's clock, and clients keep them by the machine's."""
        self._clients = {}
        self._seen = self.sim.moved
        self.credential = self._given or self.secret_credential(self.me.client_id, self.me.secret)
        return self

    def advance(self, seconds):
        """Time passes; if much of it, with new tokens after."""
        self.sim.advance(seconds)
        if self.sim.moved - self._seen > MARGIN:
            self.renew()

    def transport(self):
        return RecordingTransport(self.recorder, self.sim.advance)

    def secret_credential(self, client_id, secret, tenant=None):
        return ClientSecretCredential(
            tenant or self.sim.tenant,
            client_id,
            secret,
            authority=self.sim.authority,
            disable_instance_discovery=True,
            transport=self.transport(),
        )

    def as_outsider(self):
        """The principal without any right."""
        client_id, _, secret = self.sim.env["AZURE_SIM_OUTSIDER"].partition(":")
        return Cloud(self.sim, self.recorder, Principal(client_id, secret))

    def as_credential(self, credential):
        return Cloud(self.sim, self.recorder, self.me, credential)

    # Clients

    def _arm(self, kind, name=None, **options):
        name = name or kind.__name__
        if name not in self._clients:
            self._clients[name] = kind(
                self.credential,
                self.sim.subscription,
                base_url=self.sim.arm,
                credential_scopes=[self.sim.arm + "/.default"],
                transport=self.transport(),
                polling_interval=1,
                **options,
            )
        return self._clients[name]

    @property
    def resources(self):
        return self._arm(ResourceManagementClient)

    @property
    def identities(self):
        return self._arm(ManagedServiceIdentityClient)

    @property
    def authorization(self):
        return self._arm(AuthorizationManagementClient)

    @property
    def keyvault(self):
        return self._arm(KeyVaultManagementClient)

    @property
    def storage(self):
        return self._arm(StorageManagementClient)

    @property
    def cosmos(self):
        return self._arm(CosmosDBManagementClient)

    @property
    def cognitive(self):
        return self._arm(CognitiveServicesManagementClient)

    def keys(self, vault_uri, **options):
        return KeyClient(vault_uri, self.credential, transport=self.transport(), **options)

    def crypto(self, key, **options):
        return CryptographyClient(key, self.credential, transport=self.transport(), **options)

    def hsm_access(self, hsm_uri):
        return KeyVaultAccessControlClient(hsm_uri, self.credential, transport=self.transport())

    def security_domain(self, hsm_uri):
        return SecurityDomainClient(hsm_uri, self.credential, transport=self.transport(), polling_interval=1)

    def blobs(self, account):
        return BlobServiceClient(
            f"https://{account}.blob.{self.sim.domain}", credential=self.credential, transport=self.transport()
        )

    # Plain ARM requests, on the resources client's pipeline

    def arm(self, method, path, api_version, body=None, **params):
        """One ARM request; the answer, or the error as the SDKs raise it."""
        query = {**params, **({"api-version": api_version} if api_version else {})}
        request = HttpRequest(method, self.sim.arm + path, params=query, json=body)
        answer = self.resources.send_request(request)
        if answer.status_code >= 400:
            raise HttpResponseError(response=answer)
        return answer

    def read(self, resource_id, api_version):
        """The resource's JSON as it stands."""
        return self.arm("GET", resource_id, api_version).json()

    def put(self, resource_id, api_version, body):
        """Generic PUT, waited for; the resource's JSON after it."""
        self.resources.resources.begin_create_or_update_by_id(resource_id, body, api_version=api_version).result()
        return self.read(resource_id, api_version)

    def patch(self, resource_id, api_version, body):
        self.resources.resources.begin_update_by_id(resource_id, body, api_version=api_version).result()
        return self.read(resource_id, api_version)

    # Moves

    @property
    def subscription_path(self):
        return f"/subscriptions/{self.sim.subscription}"

    def role(self, guid):
        return f"{self.subscription_path}/providers/Microsoft.Authorization/roleDefinitions/{guid}"

    def group(self, name=None, location=LOCATION):
        return self.resources.resource_groups.create_or_update(name or unique("rg"), {"location": location})

    def identity(self, group, name=None, location=LOCATION):
        name = name or unique("id")
        return self.identities.user_assigned_identities.create_or_update(group, name, {"location": location})

    def vault(self, group, name=None, **properties):
        """A vault with RBAC and purge protection unless told otherwise; a member given as None is not sent."""
        wanted = {
            "tenantId": self.sim.tenant,
            "sku": {"family": "A", "name": "standard"},
            "enableRbacAuthorization": True,
            "enablePurgeProtection": True,
            **properties,
        }
        body = {"location": LOCATION, "properties": {k: v for k, v in wanted.items() if v is not None}}
        return self.keyvault.vaults.begin_create_or_update(group, name or unique("kv"), body).result()

    def grant(self, scope, principal_id, role, name=None, principal_type="ServicePrincipal", **members):
        """Assigns a role. `members`: description, condition, condition_version."""
        return self.authorization.role_assignments.create(
            scope,
            name or str(uuid.uuid4()),
            RoleAssignmentCreateParameters(
                role_definition_id=role if "/" in role else self.role(role),
                principal_id=principal_id,
                principal_type=principal_type,
                **members,
            ),
        )

    def until(self, attempt, *codes, within=900, step=5):
        """Repeats an attempt that is refused with one of the codes, by error or inner code, while the simulator's time
        passes. The answer and how often it was refused."""
        refused = 0
        started = time.monotonic()
        for _ in range(int(within / step) + 1):
            try:
                return attempt(), refused
            except HttpResponseError as error:
                if not set(codes) & set(all_codes(error)) or time.monotonic() - started > 60:
                    raise
                refused += 1
                self.advance(step)
        raise AssertionError(f"still refused with {codes} after {within} s")


def unique(prefix):
    """A name that no other test has: lower case, letter first, no hyphen, at most 24 long."""
    return f"{prefix}{uuid.uuid4().hex[:14]}"


def claims_of(token):
    """The claims of a token, unchecked."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def object_id_of(cloud):
    """The caller's object id, from its own token."""
    return claims_of(cloud.credential.get_token(cloud.sim.arm + "/.default").token)["oid"]


def all_codes(error):
    """Error code and inner codes of a refusal, outermost first, as the SDK parsed them."""
    model = getattr(error, "error", None)
    found = [getattr(model, "code", None)]
    inner = getattr(model, "innererror", None)
    while isinstance(inner, dict):
        found.append(inner.get("code"))
        inner = inner.get("innererror")
    for detail in getattr(model, "details", None) or []:
        found.append(getattr(detail, "code", None))
    return [code for code in found if code]

"""Drives one service of `../shared/azure/cmk-services.json` as its entry says, and reads the entry's read-back.

What the catalogue leaves open is completed from the published write shapes: members that a type requires get a value of
the right kind. Nothing else is known here of any service, but for the few lines of `BASES`.
"""

import copy
import json
import uuid

from . import schemas
from .cloud import ENCRYPTION_USER, LOCATION, unique

KEY_MARKS = ("{vaultUri}", "{keyName}", "{keyVersion}", "{keyUrlVersioned}", "{keyUrlVersionless}")
IDENTITY_MARKS = ("{uamiId}", "{uamiClientId}")

BASES = {
    # Projects cannot be taken back to Microsoft's keys; plain accounts can.
    "Microsoft.CognitiveServices/accounts": {
        "location": "{location}",
        "kind": "CognitiveServices",
        "sku": {"name": "S0"},
        "properties": {"customSubDomainName": "{name}"},
    },
    # Parents that have no entry and no published shape here.
    "Microsoft.HealthcareApis/workspaces": {"location": "{location}", "properties": {}},
    "Microsoft.ElasticSan/elasticSans": {
        "location": "{location}",
        "properties": {"sku": {"name": "Premium_LRS"}, "baseSizeTiB": 1, "extendedCapacitySizeTiB": 0},
    },
    "Microsoft.OperationalInsights/workspaces": {"location": "{location}", "properties": {"sku": {"name": "PerGB2018"}}},
}
NOT_SENT_BACK = {
    # "Drop associatedWorkspaces from the body or the PUT is a 400": the note of the entry.
    "Microsoft.OperationalInsights/clusters": ("associatedWorkspaces",),
}
"""Members of `properties` that answers show and a later PUT may not carry, though the published shape has them."""
EXTENDS = {"Microsoft.SecurityInsights/onboardingStates": "Microsoft.OperationalInsights/workspaces"}
"""Types that hang on a resource of another type."""
SINGLE = {"Microsoft.Sql/servers/encryptionProtector": "current", "Microsoft.Sql/managedInstances/encryptionProtector": "current"}
VERSIONS = {"Microsoft.OperationalInsights/workspaces": "2025-07-01"}


def catalogue():
    folder = schemas.shared_folder()
    file = folder / "cmk-services.json" if folder else None
    return json.loads(file.read_text()) if file and file.is_file() else None


def _marked(value, marks):
    text = json.dumps(value)
    return any(mark in text for mark in marks)


def without_key(body, read_back):
    """The body of the same resource under Microsoft's key."""
    body = copy.deepcopy(body)
    body.pop("identity", None)
    marks = KEY_MARKS + IDENTITY_MARKS
    body["properties"] = {
        name: value for name, value in body.get("properties", {}).items() if not _marked({name: value}, marks)
    }
    # The word that says whose key it is may stand beside the key.
    *path, last = read_back.get("keySource", "/none").split("/")[1:]
    holder = at(body, "/" + "/".join(path)) if path else body
    if isinstance(holder, dict) and last in holder and holder[last] == read_back.get("enabledWhen"):
        del holder[last]
    return body


def merged(body, fragment):
    """Objects merged member by member, everything else replaced."""
    if not isinstance(body, dict) or not isinstance(fragment, dict):
        return copy.deepcopy(fragment)
    return {**body, **{name: merged(body.get(name), value) for name, value in fragment.items()}}


class Shape:
    """A published write shape: completes bodies and strips what cannot be written."""

    def __init__(self, arm_type):
        self.schema = schemas.schema(arm_type, "write")

    def _of(self, schema):
        while isinstance(schema, dict) and "$ref" in schema:
            schema = self.schema["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def complete(self, body):
        return self._complete(body, self.schema, "") if self.schema else body

    def _complete(self, value, schema, name):
        schema = self._of(schema)
        if "anyOf" in schema and isinstance(value, dict):
            variants = [self._of(v) for v in schema["anyOf"]]
            fitting = [v for v in variants if set(value) <= set(v.get("properties", {})) and self._agrees(value, v)]
            schema = (fitting or variants)[0]
        if isinstance(value, list) and "items" in schema:
            return [self._complete(item, schema["items"], name) for item in value]
        if not isinstance(value, dict) or "properties" not in schema:
            return value
        out = dict(value)
        for member, inner in schema["properties"].items():
            if member in out:
                out[member] = self._complete(out[member], inner, member)
            elif member in schema.get("required", []):
                out[member] = self._made(inner, member)
        return out

    def _agrees(self, value, variant):
        """Whether the constants of a variant, by which variants are told apart, are those of the value."""
        for member, inner in variant.get("properties", {}).items():
            inner = self._of(inner)
            if "const" in inner and member in value and value[member] != inner["const"]:
                return False
        return True

    def _made(self, schema, name):
        schema = self._of(schema)
        if "const" in schema:
            return schema["const"]
        if "anyOf" in schema:
            return self._made(schema["anyOf"][0], name)
        kind = schema.get("type")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            return self._complete({}, schema, name)
        if kind == "array":
            return [self._made(schema["items"], name)] if schema.get("minItems") else []
        if kind in ("integer", "number"):
            return max(schema.get("minimum", 1), 1)
        if kind == "boolean":
            return False
        lower = name.lower()
        if schema.get("minLength") == 36:
            return str(uuid.uuid4())
        if "location" in lower:
            return LOCATION
        if "password" in lower:
            return "Aa1!" + uuid.uuid4().hex
        if "subnetid" in lower:
            return f"/subscriptions/{uuid.uuid4()}/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
        return "made" + uuid.uuid4().hex[: max(schema.get("minLength", 0), 8)]

    def writable(self, body):
        return self._writable(body, self.schema) if self.schema else body

    def _writable(self, value, schema):
        schema = self._of(schema)
        if "anyOf" in schema and isinstance(value, dict):
            variants = [self._of(v) for v in schema["anyOf"]]
            schema = ([v for v in variants if self._agrees(value, v)] or variants)[0]
        if isinstance(value, list) and "items" in schema:
            return [self._writable(item, schema["items"]) for item in value if item is not None]
        if not isinstance(value, dict) or "properties" not in schema:
            return value
        rest = schema.get("additionalProperties", False)
        out = {}
        for member, inner in value.items():
            known = schema["properties"].get(member, rest)
            if known is not False and inner is not None:
                out[member] = self._writable(inner, known) if isinstance(known, dict) else inner
        return out


class Service:
    """One entry on its way through a group of a place."""

    def __init__(self, place, entry, key):
        self.place, self.entry, self.key, self.cloud = place, entry, key, place.cloud
        self.granted = set()
        self.paths = {}
        version_at = key.id.rindex("/")
        name = unique("svc")
        self.values = {
            "{location}": LOCATION,
            "{name}": name,
            "{scopeName}": unique("scope"),
            "{uamiId}": place.identity.id,
            "{uamiClientId}": place.identity.client_id,
            "{vaultUri}": place.uri,
            "{vaultName}": place.vault.name,
            "{vaultResourceId}": place.vault.id,
            "{workspaceKeyVaultId}": place.vault.id,
            "{keyName}": key.name,
            "{keyVersion}": key.properties.version,
            "{keyUrlVersioned}": key.id,
            "{keyUrlVersionless}": key.id[:version_at],
            "{adminLogin}": "simadmin",
            "{adminPassword}": "Aa1!" + uuid.uuid4().hex,
            "{managedResourceGroupId}": f"{self.cloud.subscription_path}/resourceGroups/{unique('managed')}",
            "{subnetId}": self.group + "/providers/Microsoft.Network/virtualNetworks/net/subnets/one",
            "{appInsightsId}": self.group + "/providers/Microsoft.Insights/components/seen",
            "{dataLakeUrl}": f"https://{unique('dl')}.dfs.{self.cloud.sim.domain}",
            "{fileSystem}": "files",
            "{keyAlias}": "default",
            "{image}": "registry.example/app:1",
            "{appId}": str(uuid.uuid4()),
        }
        self.grant(place.identity.principal_id)
        self.grant_first_party()

    @property
    def group(self):
        return f"{self.cloud.subscription_path}/resourceGroups/{self.place.group}"

    def fill(self, value):
        """The value with its placeholders filled in; those that stand for other resources make them first."""
        if isinstance(value, dict):
            return {self.fill(name): self.fill(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if not isinstance(value, str):
            return value
        if "{diskEncryptionSetId}" in value:
            value = value.replace("{diskEncryptionSetId}", self.ensure("Microsoft.Compute/diskEncryptionSets", "2026-03-02"))
        if "{storageAccountId}" in value:
            value = value.replace("{storageAccountId}", self.ensure("Microsoft.Storage/storageAccounts", "2026-04-01"))
        for mark, filled in self.values.items():
            value = value.replace(mark, filled)
        return value

    # Grants

    def grant(self, principal_id):
        if principal_id not in self.granted:
            self.granted.add(principal_id)
            role = self.entry["roles"]["keyVaultRbac"]["roleDefinitionId"]
            if (principal_id, role) != (self.place.identity.principal_id, ENCRYPTION_USER):  # That one is there.
                self.cloud.grant(self.place.vault.id, principal_id, role)

    def grant_first_party(self):
        """Azure's own application that reads the key for the service, where the entry names one."""
        party = self.entry["identityKinds"].get("firstParty")
        if not party or _marked([self.entry.get("createBody"), self.entry["configureMethod"]], IDENTITY_MARKS):
            return
        # In Azure its object id comes from Microsoft Graph, which is not asked here.
        found = _principal(self.cloud.sim.control("GET", "state"), party)
        assert found, f"the directory holds no service principal of {party['name']}"
        self.grant(found)

    def grant_own(self, resource):
        """The identities that the resource made for itself, wherever it shows them."""
        for principal in _principal_ids(resource):
            self.grant(principal)

    # Resources

    def base(self, arm_type):
        """The body of a resource under Microsoft's key, or under a customer's where it cannot be without."""
        if arm_type in BASES and arm_type != self.parent:
            return BASES[arm_type]
        made = [e for e in catalogue() if (e.get("createBody") or {}).get("armType") == arm_type]
        whole = made[0]["createBody"]["body"] if made else {}
        own = arm_type == self.entry["armType"]
        # Scopes of accounts lie under the identity of an account that is under a key itself; a disk encryption set
        # always holds one.
        if arm_type.endswith("diskEncryptionSets") or arm_type == self.parent or own and self.entry["createTimeOnly"] is True:
            return whole
        body = without_key(whole, made[0]["readBack"]) if made else {}
        members = (Shape(arm_type).schema or {}).get("properties", {})
        if "location" in members:
            body = {"location": "{location}", **body}
        if "identity" in members and self.identity_first(arm_type):
            body["identity"] = whole.get("identity", {"type": "SystemAssigned"})
        return body

    @property
    def parent(self):
        """The type of the account that a scope lies in."""
        return self.entry["armType"].rsplit("/", 1)[0] if self.entry["armType"].endswith("/encryptionScopes") else None

    def identity_first(self, arm_type):
        """Whether the resource has its identity from the start: no step on the way to the key brings one."""
        if arm_type == self.entry["identityKinds"]["forKey"].get("onArmType"):
            return True
        brings = any("identity" in step["body"] for step in self.entry["configureMethod"]["steps"])
        return arm_type == self.entry["armType"] and not brings and "FirstParty" not in self.entry["identityKinds"]["allowed"]

    def path(self, arm_type, api_version):
        """Where a resource of the type lies here; the ones it lies in are made if they are not there."""
        if arm_type not in self.paths:
            namespace, *types = arm_type.split("/")
            if len(types) > 1:
                parent = self.ensure("/".join([namespace, *types[:-1]]), api_version)
                own = SINGLE.get(arm_type) or (self.values["{name}"] if len(types) == 2 else unique("svc"))
                self.paths[arm_type] = f"{parent}/{types[-1]}/{own}"
            elif arm_type in EXTENDS:
                on = self.ensure(EXTENDS[arm_type], VERSIONS[EXTENDS[arm_type]])
                self.paths[arm_type] = f"{on}/providers/{arm_type}/default"
            else:
                self.paths[arm_type] = f"{self.group}/providers/{arm_type}/{unique('svc')}"
        return self.paths[arm_type]

    def ensure(self, arm_type, api_version):
        """The path of a resource of the type that exists, under Microsoft's key where it can be."""
        known = arm_type in self.paths
        path = self.path(arm_type, api_version)
        if not known and arm_type not in SINGLE:
            self.put(arm_type, path, VERSIONS.get(arm_type, api_version), self.base(arm_type))
        return path

    def put(self, arm_type, path, api_version, body):
        name = path.rsplit("/", 1)[1]
        body = json.loads(json.dumps(body).replace("{name}", name))
        self.grant_own(self.cloud.put(path, api_version, Shape(arm_type).complete(self.fill(body))))

    def create(self):
        """Makes the resource under the key in one go."""
        made = self.entry["createBody"]
        path = self.path(made["armType"], made["apiVersion"])
        self.put(made["armType"], path, made["apiVersion"], made["body"])

    def step(self, step):
        """One step of the way to the key, or back."""
        arm_type, api_version = step["armType"], step["apiVersion"]
        if step["method"] == "PATCH":
            path = self.ensure(arm_type, api_version)
            body = self.fill(step["body"])
            if "defaultIdentity" in body.get("properties", {}):
                # Cosmos DB drops a default identity that comes together with the identity: two requests.
                self.grant_own(self.cloud.patch(path, api_version, {"identity": body.pop("identity")}))
            self.grant_own(self.cloud.patch(path, api_version, body))
            return
        if step.get("bodyIs", "").startswith("fragment"):
            path = self.ensure(arm_type, api_version)
            whole = Shape(arm_type).writable(self.cloud.read(path, api_version))
            for member in NOT_SENT_BACK.get(arm_type, ()):
                whole["properties"].pop(member, None)
            self.put(arm_type, path, api_version, merged(whole, self.fill(step["body"])))
            return
        suffix = self.fill(step["pathSuffix"]) if step.get("pathSuffix") else ""
        if suffix and arm_type not in EXTENDS and arm_type not in self.paths:
            parent = self.ensure(arm_type.rsplit("/", 1)[0], api_version)
            self.paths[arm_type] = parent + suffix
        self.put(arm_type, self.path(arm_type, api_version), api_version, step["body"])

    def configure(self):
        for step in self.entry["configureMethod"]["steps"]:
            self.step(step)

    def revert(self):
        self.step(self.entry["revertBody"])

    def read(self):
        return self.cloud.read(self.paths[self.entry["armType"]], self.entry["apiVersion"])


def at(value, pointer):
    for part in pointer.split("/")[1:]:
        if isinstance(value, list):
            value = value[int(part)] if part.isdigit() and int(part) < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def read_back(service, resource):
    """What is wrong with the read-back of a resource under the key, as sentences."""
    shown = {name: at(resource, p) for name, p in service.entry["readBack"].items() if p.startswith("/")}
    values, wrong = service.values, []

    def expect(name, holds, expected):
        if name in shown and not holds(shown[name] or ""):
            wrong.append(f"{name} at {service.entry['readBack'][name]} is {shown[name]!r}, not {expected}")

    enabled = service.entry["readBack"].get("enabledWhen", "")
    if enabled and " " not in enabled:
        for name in ("keySource", "status"):
            # In the entries that have both, the value is that of keySource.
            if name in shown and (name == "keySource" or "keySource" not in shown):
                expect(name, lambda v: v == enabled, repr(enabled))
    expect("enabled", lambda v: v is True, True)
    expect("keyName", lambda v: values["{keyName}"] in v, values["{keyName}"])
    expect("vaultUri", lambda v: v.rstrip("/") == values["{vaultUri}"].rstrip("/"), values["{vaultUri}"])
    expect("keyUrl", lambda v: v.startswith(values["{keyUrlVersionless}"]), values["{keyUrlVersionless}"])
    expect("currentKeyVersion", lambda v: values["{keyVersion}"] in v, values["{keyVersion}"])
    expect("keyVersion", lambda v: v in ("", values["{keyVersion}"]), values["{keyVersion}"])
    expect("lastRotation", bool, "a time")
    known = (values["{uamiId}"].lower(), values["{uamiClientId}"])
    expect("identity", lambda v: any(k in v.lower() for k in known) or v in service.granted, "the identity")
    expect("vaultId", lambda v: v.lower() == values["{vaultResourceId}"].lower(), values["{vaultResourceId}"])
    done = {"succeeded", "running", "ready", "online", "enabled", "active"}
    done |= {str(s).lower() for s in service.entry["lro"].get("terminal", {}).get("success", [])}
    expect("state", lambda v: str(v).lower() in done, "a final one")
    return wrong


def is_under_key(service, resource):
    """Whether the read-back still names the key."""
    entry = service.entry["readBack"]
    enabled = entry.get("enabledWhen", "")
    if "enabled" in entry:
        return at(resource, entry["enabled"]) is True
    told = next((name for name in ("keySource", "status") if name in entry), None)
    if told and enabled and " " not in enabled:
        return at(resource, entry[told]) == enabled
    return any(
        str(at(resource, entry[name]) or "").find(service.values["{keyName}"]) >= 0
        for name in ("keyUrl", "keyName")
        if name in entry
    )


def _principal(state, party):
    """The object id of an application's service principal, from the simulator's state."""
    if isinstance(state, dict):
        text = json.dumps({k: v for k, v in state.items() if isinstance(v, str)})
        object_id = state.get("objectId") or state.get("object_id")
        if object_id and (party["appId"] in text or party["name"] in text):
            return object_id
        state = list(state.values())
    if isinstance(state, list):
        return next((found for inner in state if (found := _principal(inner, party))), None)
    return None


def _principal_ids(value):
    """`principalId` members at any depth, but for those of user-assigned identities."""
    if isinstance(value, dict):
        if isinstance(value.get("principalId"), str) and value["principalId"]:
            yield value["principalId"]
        for name, inner in value.items():
            if name != "userAssignedIdentities":
                yield from _principal_ids(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _principal_ids(inner)

"""The check of shapes can fail: bodies that Azure does not have are found, and those that it has are not."""

import pytest

from support import schemas
from support.bodies import storage_account
from support.cloud import LOCATION
from support.recording import Exchange

PRESENT = schemas.shared_folder() is not None and (schemas.shared_folder() / "schemas").is_dir()
pytestmark = pytest.mark.skipif(not PRESENT, reason="../shared/azure/schemas is not present")
ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"
HOST = "management.localhost"


def faults(method="PUT", sent=None, received=None, path=ACCOUNT, status=200, host=HOST):
    return schemas.hold(Exchange(method, host, path, "2026-04-01", sent, status, {}, received), HOST)


BODY = storage_account("/subscriptions/s/x/y", "https://v.vault.localhost", "k", "")


def test_a_good_body_is_good():
    assert faults(sent=BODY, received={**BODY, "id": ACCOUNT, "name": "a"}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"sent": {**BODY, "colour": "blue"}},
        {"sent": {"location": LOCATION}},
        {"sent": {**BODY, "sku": {"name": 7}}},
        {"received": {**BODY, "id": ACCOUNT, "shade": 1}},
        {"received": {"id": 7}},
        {"method": "PATCH", "sent": {"properties": {"encryption": {"keyVault": {}}}}},
        {"method": "GET", "path": ACCOUNT.rsplit("/", 1)[0], "received": {"value": [{"id": 7}]}},
    ],
)
def test_a_wrong_body_is_found(wrong):
    assert faults(**wrong)


def test_a_patch_may_leave_out_what_a_creation_needs():
    assert faults(method="PATCH", sent={"tags": {"a": "b"}}) == []


@pytest.mark.parametrize("passed_over", [{"status": 400}, {"host": "kv.vault.localhost"}])
def test_refusals_and_other_hosts_are_not_held(passed_over):
    assert faults(sent={"colour": "blue"}, **passed_over) == []


def test_paths_name_types():
    for path, found in {
        ACCOUNT: ("Microsoft.Storage/storageAccounts", False),
        "/subscriptions/s/providers/Microsoft.KeyVault/vaults": ("Microsoft.KeyVault/vaults", True),
        "/subscriptions/s/resourcegroups/g": ("Microsoft.Resources/resourceGroups", False),
        ACCOUNT + "/providers/Microsoft.Authorization/roleAssignments/r": (
            "Microsoft.Authorization/roleAssignments",
            False,
        ),
        "/_sim/clock": None,
    }.items():
        assert schemas.type_of(path) == found

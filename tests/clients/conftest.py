"""Fixtures: one simulator per worker, a fresh one where a test moves time or lags, and the check of shapes after each test."""

import os
from urllib.parse import urlsplit

import pytest

from support import schemas
from support.cloud import Cloud
from support.place import Place
from support.recording import Recorder
from support.simulator import Simulator, read_env


@pytest.fixture(scope="session")
def state_root(tmp_path_factory):
    return tmp_path_factory.mktemp("azure-sim")


@pytest.fixture(scope="session")
def shared_sim(state_root):
    """The simulator that most tests of a worker share, without lags; the one of AZURE_SIM_ENV where that is given."""
    given = os.environ.get("AZURE_SIM_ENV")
    if given:
        sim = Simulator(read_env(given))
        sim.lags()
    else:
        sim = Simulator.start(state_root / "shared", "--instant", "--lro-seconds", "1")
    os.environ["REQUESTS_CA_BUNDLE"] = sim.env["AZURE_SIM_CA"]
    yield sim
    sim.close()


@pytest.fixture
def fresh_sim(shared_sim, state_root, tmp_path):
    """An empty cloud of the test's own. With AZURE_SIM_ENV it is the one that is there: names never clash."""
    if shared_sim.process is None:
        yield shared_sim
        shared_sim.lags()
        shared_sim.control("DELETE", "faults")
        return
    sim = Simulator.start(
        tmp_path / "sim", "--instant", "--lro-seconds", "1", authority_from=state_root / "shared"
    )
    yield sim
    sim.close()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def cloud(shared_sim, recorder):
    """Azure as the Owner of the subscription sees it, who has no vault role."""
    return Cloud(shared_sim, recorder)


@pytest.fixture
def fresh(fresh_sim, recorder):
    """The same over a simulator of the test's own."""
    return Cloud(fresh_sim, recorder)


@pytest.fixture
def place(cloud):
    return Place(cloud)


@pytest.fixture
def fresh_place(fresh):
    return Place(fresh)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test whose ARM exchanges leave the published shapes has failed, whatever it asserts itself."""
    outcome = yield
    recorder = item.funcargs.get("recorder")
    clouds = [value for value in item.funcargs.values() if isinstance(value, Cloud)]
    if recorder is not None and clouds:
        host = urlsplit(clouds[0].sim.arm).netloc
        found = {f"{e}\n    {fault}" for e in recorder.exchanges for fault in schemas.hold(e, host)}
        # A refusal asked for must be Azure's, not the simulator's "not played".
        found |= {f"{e}\n    is not played by the simulator" for e in recorder.exchanges if e.status == 501}
        if found:
            pytest.fail("exchanges against their shapes:\n" + "\n".join(sorted(found)[:20]), pytrace=False)
    return outcome

"""The Ray Serve application on a real cluster of this machine: two nodes, replicas that are killed, a team that types.

One cluster serves all tests, for each start of a node or a replica takes seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.config import HTTPOptions
from servers import ROOT, free_port

from engine import Engine, EngineError
from engine.options import ModelChoice
from engine.serving import answered
from engine.serving.cluster import NAME, application, gpus_for, run

STORE = 80_000_000  # bytes of a node's shared memory, the least that Ray takes
PATIENCE = 600.0  # seconds: a start takes long on a machine that is busy otherwise
TYPISTS, SESSIONS = 20, 64
LAST = 3  # requests of each typist after what is done meanwhile
BODY = {"prompt": "import numpy as ", "suffix": "\n", "max_tokens": 8}
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "disabled",
    "RAY_gcs_server_port_wait_time_s": str(int(PATIENCE)),
    "RAY_raylet_start_wait_time_s": str(int(PATIENCE)),
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": answered.PATH,
    "RAY_USAGE_STATS_ENABLED": "0",
}


def started() -> Cluster:
    """One node. Ray gives up after 30 seconds, which no setting makes longer: on a busy machine it is begun again."""
    head = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    end = time.monotonic() + PATIENCE
    while True:
        nodes = Cluster()
        try:
            nodes.add_node(**head)
        except Exception:
            with contextlib.suppress(Exception):  # of what has not started, not all can be stopped
                nodes.shutdown()
            if time.monotonic() > end:
                raise
        else:
            return nodes


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        nodes = started()
        ray.init(nodes.address, log_to_driver=False)
        yield nodes
        serve.shutdown()
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> str:
    port = free_port()
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    serve.run(application({"min_replicas": 2, "cpus": 0.5, "no_keys": True}), name=NAME)
    return f"http://127.0.0.1:{port}"


def replicas() -> set[int]:
    """Their processes, whose titles go on with what they do."""
    title = f"ray::ServeReplica:{NAME}:{NAME}"
    processes = psutil.process_iter(["cmdline"])
    return {each.pid for each in processes if each.info["cmdline"] and each.info["cmdline"][0].startswith(title)}


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def running() -> int:
    deployments = serve.status().applications[NAME].deployments
    return sum(each.replica_states.get("RUNNING", 0) for each in deployments.values())


def deploy(**options: object) -> None:
    """The application anew, in the place of the one that runs; until that is so."""
    before = replicas()
    serve.run(application({"cpus": 0.5, "no_keys": True, **options}), name=NAME)
    wait_until(lambda: not before & replicas())


def team(url: str, meanwhile: Callable[[], object] | None = None, typists: int = TYPISTS) -> Counter[int]:
    """Statuses of the answers to a team that types while something else is done, and a little longer."""
    typing, done = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as thread:
        answered = thread.submit(asyncio.run, typed(url, typists, typing, done))
        try:
            if meanwhile is not None:
                wait_until(lambda: typing.is_set() or answered.done())
                meanwhile()
        finally:
            done.set()
        return answered.result(PATIENCE)


async def typed(url: str, typists: int, typing: threading.Event, done: threading.Event) -> Counter[int]:
    """Each asks as soon as it is answered, so that there are as many requests at once as there are typists.

    `typing` is set once each has been answered; each asks for LAST times more after `done`.
    """
    statuses: Counter[int] = Counter()

    async def types(number: int) -> None:
        headers, left = {"X-Session-Id": f"typist {number}"}, LAST
        while left:
            left -= done.is_set()
            answer = await http.post("/v1/completions", json=BODY, headers=headers)
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                assert answer.json()["choices"][0]["text"].startswith("np")
            else:
                assert answer.json()["error"]["type"] == "server_error"
            answered.add(number)
            if len(answered) == typists:
                typing.set()

    answered: set[int] = set()
    async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as http:
        await asyncio.gather(*(types(number) for number in range(typists)))
    return statuses


def replica_of(http: httpx2.Client, session: int) -> str:
    """Its name, as the replica says that has the session."""
    return str(http.get("/health", headers={"X-Session-Id": f"session {session}"}).json()["replica"])


def test_a_cluster_fills_as_the_engine_and_a_session_stays_with_its_replica(url: str) -> None:
    """The router hashes sessions and replicas, whose names are random: of two replicas one has all of six sessions once
    in 32 runs, and all of SESSIONS never.
    """
    wait_until(lambda: running() == 2)
    with httpx2.Client(base_url=url, timeout=PATIENCE) as http:
        wait_until(lambda: len({replica_of(http, session) for session in range(SESSIONS)}) == 2)  # the proxy knows both
        homes = [replica_of(http, session) for session in range(SESSIONS)]
        for _ in range(2):
            assert [replica_of(http, session) for session in range(SESSIONS)] == homes
        for session in (homes.index(home) for home in set(homes)):
            answer = http.post("/v1/completions", json=BODY, headers={"X-Session-Id": f"session {session}"})
            assert answer.json()["choices"][0]["text"].startswith("np")
            again = http.post("/v1/completions", json=BODY, headers={"X-Session-Id": f"session {session}"})
            assert again.json()["choices"][0]["inpaint"]["reused"] > 0  # where its text has been read
        assert http.get("/health", headers={"Host": "evil.example"}).status_code == 400  # without keys
    assert Engine.load(url).reach == Engine.load("small").reach


def test_a_replica_that_dies_costs_nobody_an_answer(url: str) -> None:
    before = replicas()
    assert len(before) == 2

    def kill() -> None:
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: running() == 2 and len(replicas() - {min(before)}) == 2)

    statuses = team(url, meanwhile=kill)
    assert set(statuses) <= {200, 503}, statuses
    assert statuses[503] <= 3 * TYPISTS  # what ran there, and what was sent there until that was known
    assert set(team(url)) == {200}


def test_an_application_deployed_again_grows_on_a_node_more_under_load_and_shrinks_after_it(
    cluster: Cluster, url: str
) -> None:
    """And answers all that it is asked meanwhile. The first node has cores for two replicas, and load alone asks for a
    third. By default growing and shrinking take minutes.
    """
    swift = {"look_back_period_s": 5, "upscale_delay_s": 0, "downscale_delay_s": 0}

    def grow() -> None:
        cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORE)
        deploy(min_replicas=1, max_replicas=3, cpus=1, **swift)
        wait_until(lambda: running() == 3)

    assert set(team(url, meanwhile=grow)) == {200}
    assert set(team(url, meanwhile=lambda: wait_until(lambda: running() == len(replicas()) == 1), typists=1)) == {200}


def test_replicas_share_a_gpu(cluster: Cluster, url: str) -> None:
    """One that Ray believes in: the model runs on the CPU."""
    public = ModelChoice(model="some/checkpoint")
    assert gpus_for(public) == 0
    cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE)
    assert [gpus_for(choice) for choice in (public, ModelChoice(), ModelChoice(device="cuda:0,cuda:1"))] == [1, 0, 2]
    deploy(min_replicas=2, gpus=0.5, device="cpu")
    wait_until(lambda: running() == 2 and not ray.available_resources().get("GPU"))
    assert set(team(url)) == {200}


def test_a_serve_that_listens_elsewhere_is_said(url: str) -> None:
    """Where it listens, others might reach it who have no keys."""
    with pytest.raises(EngineError, match=f"give --host 127.0.0.1 --port {url.rpartition(':')[2]}"):
        run("127.0.0.1", free_port(), ModelChoice(), [1], 0, 4, None, True)


def test_a_wrong_argument_is_said() -> None:
    with pytest.raises(EngineError, match="min_replicas"):
        application({"replicas": 2})

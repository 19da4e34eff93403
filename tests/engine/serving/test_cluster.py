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
from engine.options import Choice
from engine.serving import answered
from engine.serving.cluster import NAME, application, gpus_for

STORE = 80_000_000  # bytes of a node's shared memory, the least that Ray takes
PATIENCE = 600.0  # seconds: a start takes long on a machine that is busy otherwise
TYPISTS, SESSIONS = 20, 64
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
    """Their processes."""
    title = [f"ray::ServeReplica:{NAME}:{NAME}"]
    return {each.pid for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [])[:1] == title}


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def running() -> int:
    deployments = serve.status().applications[NAME].deployments
    return sum(each.replica_states.get("RUNNING", 0) for each in deployments.values())


def team(url: str, requests: int, meanwhile: Callable[[], object] | None = None) -> Counter[int]:
    """Statuses of the answers to a team's requests; when a third is answered, something else may happen."""
    some = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        typing = thread.submit(asyncio.run, typed(url, requests, some))
        some.wait(PATIENCE)
        if meanwhile is not None:
            meanwhile()
        return typing.result(PATIENCE)


async def typed(url: str, requests: int, some: threading.Event) -> Counter[int]:
    statuses: Counter[int] = Counter()

    async def types(number: int) -> None:
        headers = {"X-Session-Id": f"typist {number}"}
        for _ in range(requests):
            answer = await http.post("/v1/completions", json=BODY, headers=headers)
            statuses[answer.status_code] += 1
            if sum(statuses.values()) > TYPISTS * requests // 3:
                some.set()
            if answer.status_code == 200:
                assert answer.json()["choices"][0]["text"].startswith("np")
            else:
                assert answer.json()["error"]["type"] == "server_error"

    async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as http:
        await asyncio.gather(*(types(number) for number in range(TYPISTS)))
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
    assert Engine.load(url).reach == Engine.load("nano").reach


def test_a_replica_that_dies_costs_nobody_an_answer(url: str) -> None:
    before = replicas()
    assert len(before) == 2

    def kill() -> None:
        os.kill(min(before), signal.SIGKILL)

    statuses = team(url, 12, meanwhile=kill)
    assert sum(statuses.values()) == 12 * TYPISTS  # each was answered
    assert set(statuses) <= {200, 503}, statuses
    assert statuses[200] >= 11 * TYPISTS - 2 * TYPISTS
    wait_until(lambda: running() == 2 and len(replicas()) == 2 and min(before) not in replicas())
    assert team(url, 2) == {200: 2 * TYPISTS}


def test_a_node_more_takes_a_replica_more_while_the_team_types(cluster: Cluster, url: str) -> None:
    def grow() -> None:
        cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORE)
        serve.run(application({"min_replicas": 3, "cpus": 1, "no_keys": True}), name=NAME)

    statuses = team(url, 12, meanwhile=grow)
    assert sum(statuses.values()) == 12 * TYPISTS
    assert set(statuses) <= {200, 503}, statuses
    wait_until(lambda: running() == 3)
    assert team(url, 2) == {200: 2 * TYPISTS}


def test_replicas_share_a_gpu(cluster: Cluster, url: str) -> None:
    """One that Ray believes in: the model runs on the CPU."""
    public = Choice(model="some/checkpoint")
    assert gpus_for(public) == 0
    cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE)
    assert [gpus_for(choice) for choice in (public, Choice(), Choice(device="cuda:0,cuda:1"))] == [1, 0, 2]
    serve.run(application({"min_replicas": 2, "cpus": 0.5, "gpus": 0.5, "device": "cpu", "no_keys": True}), name=NAME)
    wait_until(lambda: running() == 2 and not ray.available_resources().get("GPU"))
    assert team(url, 2) == {200: 2 * TYPISTS}


def test_a_wrong_argument_is_said() -> None:
    with pytest.raises(EngineError, match="min_replicas"):
        application({"replicas": 2})

"""The server on many machines: a Ray Serve application, for `serve run`, `serve deploy` and `engine serve --ray`.

    serve run engine.serving.cluster:application model=small max_replicas=4

A replica is the server of one machine with its own workers. Ray starts replicas by how many requests each has, gives
each its cores or its part of a GPU, replaces those that die, and lets those that go finish what they do. Its router
sends a session to the same replica, which has read its text, by consistent hashing of the header X-Session-Id.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, HTTPOptions, RequestRouterConfig
from ray.serve.context import _get_global_client
from starlette.applications import Starlette

from engine.contract import EngineError
from engine.embedded import Embedded
from engine.options import ModelChoice
from engine.serving import answered, app
from engine.serving.keys import ENVIRONMENT, Keys
from engine.serving.serve import keys_for
from engine.serving.service import Service
from engine.serving.workers import command

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
DRAINING = 30  # seconds for what runs to end when a replica goes
NAME = "inpaint"

logger = logging.getLogger(__name__)


class Options(ModelChoice, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The `args` of the application, which choose a model too. `cpus` and `gpus` are a replica's, and may be fractions;
    `workers` its processes.

    A replica more is started where each has had more than `target` requests at once, as the mean of the last
    `look_back_period_s` seconds, for `upscale_delay_s`; one goes where fewer would do for `downscale_delay_s`. `keys`
    is a file that each node has; without it and without INPAINT_API_KEYS, replicas start only if `no_keys` is said.
    """

    cpus: float = 1
    gpus: float = 0
    workers: int = 1
    queue: int = 64
    min_replicas: int = 1
    max_replicas: int = 1
    target: float = 2
    look_back_period_s: float = 30
    upscale_delay_s: float = 30
    downscale_delay_s: float = 600
    keys: str = ""
    no_keys: bool = False


class Replica:
    """Answers HTTP; Ray asks it how it is."""

    def __init__(self, options: Options) -> None:
        self._keys = Keys.read(Path(options.keys) if options.keys else None)
        if not (self._keys or options.no_keys):
            raise EngineError(f"give keys in a file or in {ENVIRONMENT}, or say no_keys: true")
        self._service = Service(options.model, command(options), options.workers, options.queue, must_load=True)

    def __serve_build_asgi_app__(self) -> Starlette:
        return app.application(self._service, self._keys)

    def check_health(self) -> None:
        if self._service.failure:
            raise RuntimeError(self._service.failure)


def application(arguments: dict[str, Any]) -> serve.Application:
    """What Ray Serve runs. Raises EngineError where an argument is none of Options'."""
    try:
        options = msgspec.convert(arguments, Options, strict=False)
    except msgspec.ValidationError as error:
        names = ", ".join(Options.__struct_fields__)
        raise EngineError(f"wrong arguments: {error}; there are {names}") from None
    deployment = serve.deployment(
        name=NAME,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        autoscaling_config=AutoscalingConfig(
            min_replicas=options.min_replicas,
            max_replicas=max(options.min_replicas, options.max_replicas),
            target_ongoing_requests=options.target,
            look_back_period_s=options.look_back_period_s,
            upscale_delay_s=options.upscale_delay_s,
            downscale_delay_s=options.downscale_delay_s,
        ),
        request_router_config=RequestRouterConfig.model_validate({"request_router_class": ROUTER}),
        max_ongoing_requests=options.queue + 8 * options.workers,  # more are refused by the replica itself, by 429
        graceful_shutdown_timeout_s=DRAINING,
        health_check_period_s=2,
    )(serve.ingress()(Replica))
    return deployment.bind(options)


def run(
    host: str,
    port: int,
    choice: ModelChoice,
    replicas: list[int],
    gpus: float | None,
    queue: int,
    keys: Path | None,
    open_to_all: bool,
) -> None:
    """Serve on the cluster that is there, or on one of this machine, until a signal. Raises EngineError."""
    known = keys_for(host, keys, open_to_all)
    os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", answered.PATH)  # for a cluster that starts here
    try:
        serve.start(http_options=HTTPOptions(host=host, port=port))
    except Exception as error:  # Ray raises whatever it likes, a bare Exception too
        raise EngineError(
            f"Ray does not start ({error}): try again, or start a cluster with `ray start --head`"
        ) from None
    client = _get_global_client()
    assert client is not None
    listening = client.http_config  # of a Serve that was there, which keeps its own
    if (listening.host, listening.port) != (host, port):
        there = f"--host {listening.host} --port {listening.port}"
        raise EngineError(f"Ray Serve listens elsewhere on this cluster: give {there}, or end it with `serve shutdown`")
    if os.environ.get("RAY_AUTH_MODE") != "token":  # which Ray says itself of a cluster that it starts here
        logger.warning("who reaches this Ray cluster can run programs on it: start it with RAY_AUTH_MODE=token")
    options = Options(
        **msgspec.structs.asdict(choice),
        queue=queue,
        gpus=gpus_for(choice) if gpus is None else gpus,
        min_replicas=replicas[0],
        max_replicas=replicas[-1],
        keys=str(keys.resolve()) if keys else "",
        no_keys=not known,
    )
    serve.run(application(msgspec.to_builtins(options)), name=NAME)
    logger.info("%s is served on http://%s:%d by Ray", choice.model, host, port)
    threading.Event().wait()


def gpus_for(choice: ModelChoice) -> int:
    """How many a replica asks for: without one, Ray hides from it all that its machine has. The embedded models do well
    without, other models on the device `auto` get one where the cluster has any.
    """
    if choice.device != "auto" or Embedded.holds(choice.model):
        return choice.device.count("cuda")
    return int("GPU" in ray.cluster_resources())  # type: ignore[no-untyped-call]

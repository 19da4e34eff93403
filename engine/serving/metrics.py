"""What Prometheus reads at /metrics: how long requests take and wait, what they cost, and how full the server is."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engine.serving.ipc import Filled
from engine.serving.scheduler import Scheduler

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)
COUNTS = (0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics:
    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, registry=registry, buckets=SECONDS)
        counts = partial(Histogram, registry=registry, buckets=COUNTS)
        self.answers = counter("inpaint_answers", "Answers by API and status", ["api", "status"])
        self.seconds = seconds("inpaint_request_seconds", "From a request's body to its answer", ["api"])
        self.queued = seconds("inpaint_queue_seconds", "In the queue, of requests that had a turn")
        self.fills = seconds("inpaint_fill_seconds", "Of fills, on a worker")
        self.passes = counts("inpaint_fill_passes", "Forward passes of a fill")
        self.tokens_a_pass = counts("inpaint_tokens_per_pass", "Tokens of a fill by its passes")
        self.beside = counts("inpaint_batch_size", "Fills that share a worker when one begins")
        self.tokens = counter("inpaint_tokens", "Tokens of fills")
        self.encoded = counter("inpaint_context_tokens_encoded", "Context run through the model")
        self.reused = counter("inpaint_context_tokens_reused", "Context taken from the KV memory")
        self.cancelled = counter("inpaint_cancelled", "Requests whose client went away")
        self.late = counter("inpaint_late", "Requests whose deadline passed in the queue")
        gauge("inpaint_waiting", "Requests in the queue").set_function(lambda: scheduler.waiting)
        gauge("inpaint_running", "Fills that run").set_function(lambda: scheduler.running)
        ready = gauge("inpaint_workers_ready", "Workers that can fill")
        ready.set_function(lambda: sum(process.ready for process in scheduler.processes))

    def filled(self, filled: Filled, queued: float) -> None:
        fill = filled.fill
        self.queued.observe(queued)
        self.fills.observe((fill.encode_ms + fill.decode_ms) / 1000)
        self.passes.observe(fill.passes)
        self.tokens_a_pass.observe(fill.tokens / max(1, fill.passes))
        self.beside.observe(filled.beside)
        self.tokens.inc(fill.tokens)
        self.encoded.inc(fill.encoded)
        self.reused.inc(fill.reused)

"""What Prometheus reads at /metrics: how long requests take and wait, what they cost, and how full the server is."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engine.serving.ipc import Filled
from engine.serving.scheduler import Scheduler

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics:
    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = registry = CollectorRegistry()
        self.answers = Counter("inpaint_answers", "Answers by API and status", ["api", "status"], registry=registry)
        self.seconds = Histogram(
            "inpaint_request_seconds",
            "From a request's body to its answer",
            ["api"],
            buckets=SECONDS,
            registry=registry,
        )
        self.queued = Histogram(
            "inpaint_queue_seconds", "In the queue, of requests that had a turn", buckets=SECONDS, registry=registry
        )
        self.fills = Histogram("inpaint_fill_seconds", "Of fills, on a worker", buckets=SECONDS, registry=registry)
        self.passes = Histogram("inpaint_fill_passes", "Forward passes of a fill", buckets=COUNTS, registry=registry)
        self.tokens_a_pass = Histogram(
            "inpaint_tokens_per_pass", "Tokens of a fill by its passes", buckets=(0.5, *COUNTS), registry=registry
        )
        self.beside = Histogram(
            "inpaint_batch_size", "Fills that share a worker when one begins", buckets=COUNTS, registry=registry
        )
        self.tokens = Counter("inpaint_tokens", "Tokens of fills", registry=registry)
        self.encoded = Counter("inpaint_context_tokens_encoded", "Context run through the model", registry=registry)
        self.reused = Counter("inpaint_context_tokens_reused", "Context taken from the KV memory", registry=registry)
        self.cancelled = Counter("inpaint_cancelled", "Requests whose client went away", registry=registry)
        self.refused = Counter("inpaint_refused", "Requests that found the queue full", registry=registry)
        self.late = Counter("inpaint_late", "Requests whose deadline passed in the queue", registry=registry)
        waiting = Gauge("inpaint_waiting", "Requests in the queue", registry=registry)
        waiting.set_function(lambda: scheduler.waiting)
        running = Gauge("inpaint_running", "Fills that run", registry=registry)
        running.set_function(lambda: scheduler.running)
        workers = Gauge("inpaint_workers_ready", "Workers that can fill", registry=registry)
        workers.set_function(lambda: sum(process.ready for process in scheduler.processes))

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

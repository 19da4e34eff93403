"""The ONNX graph of one forward pass, written node by node with ONNX Runtime's fused operators.

A tracing exporter makes some fifty small operators a layer, which at the few rows of a keystroke cost more than the
matrix products; this makes about twenty-five. The memory comes in a piece a layer and may have more room than is in
use: `bias` blocks the rest.

Inputs   tokens, positions (n,), ngrams (n, 2), bias (n, room + n) added to the scores, rows (m,), lengths (2,) =
         (room, n), keys.L, values.L (heads, room, d)
Outputs  token (m,), probability (m,), logits (m, vocab) of the chosen rows; new_keys.L, new_values.L (heads, n, d)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.models.nano import NanoConfig, NanoModel, rotary

FUSED = "com.microsoft"
EPSILON = 1e-6


class Graph:
    """Nodes and constants under construction; operators are called with names of values and return one."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._numbers = itertools.count()

    def constant(self, value: NDArray[np.generic], name: str = "") -> str:
        name = name or f"constant.{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def all(self, operator: str, inputs: Sequence[str], outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        names = [f"{operator}.{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names

    def __call__(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.all(operator, inputs, 1, domain, **attributes)[0]


def build(model: NanoModel, longest: int) -> onnx.ModelProto:
    """float32; `longest` is the number of positions."""
    graph, config = Graph(), model.config
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    cos, sin = (part[0, 0].numpy() for part in rotary(torch.arange(longest)[None], config))
    tables = graph.constant(cos, "cos"), graph.constant(sin, "sin")
    shapes = Shapes(graph, config)
    places = graph("Unsqueeze", "positions", shapes.first)
    x = _embedded(graph, weights, config, shapes)
    outputs = []
    for layer in range(config.layers):
        x, k, v = _block(graph, weights, f"blocks.{layer}", layer, x, places, tables, shapes, config)
        outputs += [(f"new_keys.{layer}", k), (f"new_values.{layer}", v)]
    chosen = graph("Gather", graph("Squeeze", _norm(graph, x, shapes.ones_dim), shapes.first), "rows", axis=0)
    logits = graph("MatMul", chosen, graph.constant(weights["head.weight"].T.copy(), "head"))
    token = graph("ArgMax", logits, axis=-1, keepdims=0)
    probability = graph("ReduceMax", graph("Softmax", logits, axis=-1), shapes.last, keepdims=0)
    outputs = [("token", token), ("probability", probability), ("logits", logits), *outputs]
    for name, value in outputs:
        graph.nodes.append(helper.make_node("Identity", [value], [name]))
    return _model(graph, config, [name for name, _ in outputs])


class Shapes:
    """Constants that several nodes share."""

    def __init__(self, graph: Graph, config: NanoConfig) -> None:
        self.first = graph.constant(np.array([0]))
        self.last = graph.constant(np.array([-1]))
        self.ones_dim = graph.constant(np.ones(config.dim, np.float32))
        self.ones_head = graph.constant(np.ones(config.head_dim, np.float32))
        self.by_head = graph.constant(np.array([1, -1, config.heads, config.head_dim]))
        self.flat = graph.constant(np.array([1, -1, config.dim]))


def _norm(graph: Graph, x: str, ones: str) -> str:
    return graph("SimplifiedLayerNormalization", x, ones, axis=-1, epsilon=EPSILON)


def _embedded(graph: Graph, weights: dict[str, NDArray[np.float32]], config: NanoConfig, shapes: Shapes) -> str:
    x = graph("Gather", graph.constant(weights["embed.weight"], "embed"), "tokens", axis=0)
    if config.ngram_buckets:
        looked_up = graph("Gather", graph.constant(weights["ngrams.weight"], "ngram_table"), "ngrams", axis=0)
        summed = graph("ReduceSum", looked_up, graph.constant(np.array([1])), keepdims=0)
        x = graph("Add", x, graph("MatMul", summed, graph.constant(weights["ngram_up.weight"].T.copy(), "ngram_up")))
    return _norm(graph, graph("Unsqueeze", x, shapes.first), shapes.ones_dim)


def _block(
    graph: Graph,
    weights: dict[str, NDArray[np.float32]],
    name: str,
    layer: int,
    x: str,
    places: str,
    tables: tuple[str, str],
    shapes: Shapes,
    config: NanoConfig,
) -> tuple[str, str, str]:
    def product(value: str, weight: str) -> str:
        return graph("MatMul", value, graph.constant(weights[f"{name}.{weight}.weight"].T.copy(), f"{name}.{weight}"))

    def by_head(value: str) -> str:
        return graph("Transpose", graph("Reshape", value, shapes.by_head), perm=[0, 2, 1, 3])

    def turned(value: str) -> str:
        return graph("RotaryEmbedding", _norm(graph, by_head(value), shapes.ones_head), places, *tables, domain=FUSED)

    def scores(keys: str) -> str:
        return graph("FusedMatMul", q, keys, domain=FUSED, transB=1, alpha=config.head_dim**-0.5)

    q, k, v = graph.all("Split", [product(_norm(graph, x, shapes.ones_dim), "qkv")], 3, axis=-1, num_outputs=3)
    q, k, v = turned(q), turned(k), by_head(v)
    past_k, past_v = (graph("Unsqueeze", f"{part}.{layer}", shapes.first) for part in ("keys", "values"))
    # old and new are multiplied apart and only the scores are joined: the memory, much the larger, is never copied
    both = graph("Concat", scores(past_k), scores(k), axis=-1)
    old, new = graph.all("Split", [graph("Softmax", graph("Add", both, "bias"), axis=-1), "lengths"], 2, axis=-1)
    mixed = graph("Add", graph("MatMul", old, past_v), graph("MatMul", new, v))
    attended = graph("Reshape", graph("Transpose", mixed, perm=[0, 2, 1, 3]), shapes.flat)
    x = graph("Add", x, product(attended, "out"))
    up = graph("Relu", product(_norm(graph, x, shapes.ones_dim), "up"))
    x = graph("Add", x, product(graph("Mul", up, up), "down"))
    return x, graph("Squeeze", k, shapes.first), graph("Squeeze", v, shapes.first)


def _model(graph: Graph, config: NanoConfig, outputs: list[str]) -> onnx.ModelProto:
    number, real = TensorProto.INT64, TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info("tokens", number, ["n"]),
        helper.make_tensor_value_info("ngrams", number, ["n", 2]),
        helper.make_tensor_value_info("positions", number, ["n"]),
        helper.make_tensor_value_info("bias", real, ["n", "total"]),
        helper.make_tensor_value_info("rows", number, ["m"]),
        helper.make_tensor_value_info("lengths", number, [2]),
    ]
    for layer in range(config.layers):
        inputs += [
            helper.make_tensor_value_info(f"{part}.{layer}", real, [config.heads, "room", config.head_dim])
            for part in ("keys", "values")
        ]
    made = [helper.make_tensor_value_info(name, number if name == "token" else real, None) for name in outputs]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(
        helper.make_graph(graph.nodes, "nano", inputs, made, graph.constants), opset_imports=opsets, ir_version=9
    )

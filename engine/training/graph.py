"""The ONNX graph of one forward pass, written node by node with ONNX Runtime's fused operators.

A tracing exporter makes some fifty small operators a layer, which at the few rows of a keystroke cost more than the
matrix products; this makes about twenty-five. The memory comes in a piece a layer and may have more room than is in
use: `bias` blocks the rest.

Weights are float32, or int8 a block of 256 with activations quantised row by row. Row by row, because then a token's
numbers do not depend on what else stands in the pass: a scale over the whole pass made choices, and with them
the text, depend on how rows were batched.

Inputs   tokens, positions (n,), ngrams (n, 2), bias (n, room + n) added to the scores, rows (m,), lengths (2,) =
         (room, n), keys.L, values.L (heads, room, d)
Outputs  token (m,), probability (m,), logits (m, vocab) of the chosen rows; new_keys.L, new_values.L (heads, n, d)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.models.nano import NanoModel, rotary

FUSED = "com.microsoft"
EPSILON = 1e-6
BLOCK = 256  # weights that share a scale, at most


def build(model: NanoModel, longest: int, int8: bool) -> onnx.ModelProto:
    """The graph with the model's weights in it; `longest` is the number of positions it can tell apart."""
    return PassGraph(model, longest, int8).model()


class Nodes:
    """Nodes and constants under construction; operators are called with names of values and return names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._numbers = itertools.count()

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant.{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def several(
        self, operator: str, inputs: Sequence[str], outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        names = [f"{operator}.{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names

    def __call__(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.several(operator, inputs, 1, domain, **attributes)[0]


class PassGraph:
    def __init__(self, model: NanoModel, longest: int, int8: bool) -> None:
        self.config, self.int8 = model.config, int8
        self.weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
        self.add = Nodes()
        constant, config = self.add.constant, self.config
        self.turns = [constant(part[0, 0].numpy()) for part in rotary(torch.arange(longest)[None], config)]
        self.first, self.last = constant(np.array([0])), constant(np.array([-1]))
        self.ones = {size: constant(np.ones(size, np.float32)) for size in (config.dim, config.head_dim)}
        self.by_head = constant(np.array([1, -1, config.heads, config.head_dim]))
        self.flat = constant(np.array([1, -1, config.dim]))
        self.places = self.add("Unsqueeze", "positions", self.first)

    def model(self) -> onnx.ModelProto:
        x, memory = self.embedded(), {}
        for layer in range(self.config.layers):
            x, memory[f"new_keys.{layer}"], memory[f"new_values.{layer}"] = self.block(x, layer)
        chosen = self.add("Gather", self.add("Squeeze", self.norm(x), self.first), "rows", axis=0)
        logits = self.product(chosen, "head.weight")
        token = self.add("ArgMax", logits, axis=-1, keepdims=0)
        likelihood = self.add("ReduceMax", self.add("Softmax", logits, axis=-1), self.last, keepdims=0)
        outputs = {"token": token, "probability": likelihood, "logits": logits, **memory}
        self.add.nodes += [helper.make_node("Identity", [value], [name]) for name, value in outputs.items()]
        return self.finished(list(outputs))

    def embedded(self) -> str:
        x = self.looked_up("embed.weight", "tokens")
        if self.config.ngram_buckets:
            both = self.looked_up("ngrams.weight", "ngrams")
            summed = self.add("ReduceSum", both, self.add.constant(np.array([1])), keepdims=0)
            x = self.add("Add", x, self.product(summed, "ngram_up.weight"))
        return self.norm(self.add("Unsqueeze", x, self.first))

    def block(self, x: str, layer: int) -> tuple[str, str, str]:
        """The residual stream after a block, and its new keys and values."""
        name = f"blocks.{layer}"
        projected = self.product(self.norm(x), f"{name}.qkv.weight")
        q, k, v = map(self.split_heads, self.add.several("Split", [projected], 3, axis=-1, num_outputs=3))
        q, k = self.turned(q), self.turned(k)
        x = self.add("Add", x, self.product(self.attended(q, k, v, layer), f"{name}.out.weight"))
        up = self.add("Relu", self.product(self.norm(x), f"{name}.up.weight"))
        x = self.add("Add", x, self.product(self.add("Mul", up, up), f"{name}.down.weight"))
        return x, self.add("Squeeze", k, self.first), self.add("Squeeze", v, self.first)

    def attended(self, q: str, k: str, v: str, layer: int) -> str:
        """Memory and new rows are multiplied apart and only scores are joined: the memory is never copied."""
        past_k, past_v = (self.add("Unsqueeze", f"{part}.{layer}", self.first) for part in ("keys", "values"))
        scores = self.add("Concat", self.scores(q, past_k), self.scores(q, k), axis=-1)
        shares = self.add("Softmax", self.add("Add", scores, "bias"), axis=-1)
        old, new = self.add.several("Split", [shares, "lengths"], 2, axis=-1)
        mixed = self.add("Add", self.add("MatMul", old, past_v), self.add("MatMul", new, v))
        return self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), self.flat)

    def scores(self, q: str, keys: str) -> str:
        return self.add("FusedMatMul", q, keys, domain=FUSED, transB=1, alpha=self.config.head_dim**-0.5)

    def split_heads(self, x: str) -> str:
        return self.add("Transpose", self.add("Reshape", x, self.by_head), perm=[0, 2, 1, 3])

    def turned(self, x: str) -> str:
        normed = self.norm(x, self.config.head_dim)
        return self.add("RotaryEmbedding", normed, self.places, *self.turns, domain=FUSED)

    def norm(self, x: str, size: int | None = None) -> str:
        ones = self.ones[size or self.config.dim]
        return self.add("SimplifiedLayerNormalization", x, ones, axis=-1, epsilon=EPSILON)

    def product(self, x: str, name: str) -> str:
        weight = self.weights[name]
        if not self.int8:
            return self.add("MatMul", x, self.add.constant(weight.T.copy()))
        rows, columns = weight.shape
        block = math.gcd(BLOCK, columns)
        quantised, scales = to_int8(weight.reshape(rows, columns // block, block))
        inputs = (
            x,
            self.add.constant((quantised.astype(np.int16) + 128).astype(np.uint8)),
            self.add.constant(scales.reshape(rows, -1)),
        )
        sizes = {"K": columns, "N": rows, "bits": 8, "block_size": block}
        return self.add("MatMulNBits", *inputs, domain=FUSED, accuracy_level=4, **sizes)  # 4: int8 activations

    def looked_up(self, name: str, ids: str) -> str:
        table = self.weights[name]
        if not self.int8:
            return self.add("Gather", self.add.constant(table), ids, axis=0)
        quantised, scales = (self.add.constant(part) for part in to_int8(table))
        rows, scale = (self.add("Gather", part, ids, axis=0) for part in (quantised, scales))
        return self.add("Mul", self.add("Cast", rows, to=TensorProto.FLOAT), scale)

    def finished(self, outputs: list[str]) -> onnx.ModelProto:
        config, number, real = self.config, TensorProto.INT64, TensorProto.FLOAT
        kinds: dict[str, tuple[int, list[Any]]] = {
            "tokens": (number, ["n"]),
            "ngrams": (number, ["n", 2]),
            "positions": (number, ["n"]),
            "bias": (real, ["n", "total"]),
            "rows": (number, ["m"]),
            "lengths": (number, [2]),
        }
        for layer, part in itertools.product(range(config.layers), ("keys", "values")):
            kinds[f"{part}.{layer}"] = (real, [config.heads, "room", config.head_dim])
        inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
        made = [helper.make_tensor_value_info(name, number if name == "token" else real, None) for name in outputs]
        graph = helper.make_graph(self.add.nodes, "nano", inputs, made, self.add.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def to_int8(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric: values in [-127, 127] and the scale of each last axis, kept as an axis of one."""
    scales = np.maximum(np.abs(weight).max(-1, keepdims=True), 1e-8) / 127
    return np.round(weight / scales).astype(np.int8), scales.astype(np.float32)

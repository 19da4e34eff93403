"""The ONNX graph of one forward pass, written node by node with ONNX Runtime's fused operators.

A tracing exporter makes some fifty small operators a layer, which at the few rows of a keystroke cost more than the
matrix products; this makes about fifteen. Attention is one operator (ONNX Runtime's GroupQueryAttention) that turns
queries and keys and writes into the memory that it reads, a piece a layer, which may have more room than is in use.

The graph has no weights: they are declared as external, and handed over by name when it is loaded (`engine.stored`).
Numbers of eight bits are multiplied with activations quantised row by row. Row by row, because then a token's
numbers do not depend on what else stands in the pass: a scale over the whole pass made choices, and with them
the text, depend on how rows were batched. A graph of floats is for comparison.

Inputs   tokens (n,), rows (m,), last (1,) int32 = the last position, length (1,) int32 = positions with the new
         ones, keys.L, values.L (1, kv_heads, room, d), which are new_keys.L, new_values.L too
Weights  W.numbers (rows, blocks, block) uint8 and W.scales (rows, blocks) of a quantised matrix W, else W itself
Outputs  token (m,), probability (m,), logits (m, vocab) of the chosen rows; new_keys.L, new_values.L; features (1, n,
         5 * dim), which a drafter reads
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

from engine.models.drafter import TAPS, depths
from engine.models.trunk import TrunkConfig, rotary
from engine.stored import ZERO, Matrix, Weights

FUSED = "com.microsoft"
POSITIONS = 2  # contexts: room in the rotary tables for long fills


def build(config: TrunkConfig, longest: int, weights: Weights) -> onnx.ModelProto:
    """The graph of a trunk's pass for weights like these; `longest` is the number of positions it can tell apart."""
    return PassGraph(config, longest, weights).model()


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
    def __init__(self, config: TrunkConfig, longest: int, weights: Weights) -> None:
        self.config, self.weights = config, weights
        self.add = Nodes()
        self.declared: set[str] = set()
        constant = self.add.constant
        self.turns = [constant(part[0, 0].numpy()) for part in rotary(torch.arange(longest)[None], config)]
        self.first, self.last = constant(np.array([0])), constant(np.array([-1]))

    def model(self) -> onnx.ModelProto:
        x = self.add("Unsqueeze", self.looked_up("embed.weight", "tokens"), self.first)
        memory, leaving = dict[str, str](), list[str]()
        for layer in range(self.config.layers):
            x, memory[f"new_keys.{layer}"], memory[f"new_values.{layer}"] = self.block(x, layer)
            leaving.append(x)
        features = self.add("Concat", *[leaving[depth] for depth in depths(self.config.layers)], axis=-1)
        chosen = self.add("Gather", self.add("Squeeze", self.norm(x, "norm.weight"), self.first), "rows", axis=0)
        logits = self.product(chosen, "embed.weight")
        token = self.add("ArgMax", logits, axis=-1, keepdims=0)
        likelihood = self.add("ReduceMax", self.add("Softmax", logits, axis=-1), self.last, keepdims=0)
        outputs = {"token": token, "probability": likelihood, "logits": logits, "features": features, **memory}
        return self.finished({"tokens": (TensorProto.INT64, ["n"]), "rows": (TensorProto.INT64, ["m"])}, outputs)

    def looked_up(self, name: str, ids: str) -> str:
        """Rows of a matrix (ids, columns)."""
        weight = self.weights[name]
        if not isinstance(weight, Matrix):
            return self.add("Gather", self.weight(name, weight.shape), ids, axis=0)
        numbers, scales = (self.add("Gather", part, ids, axis=0) for part in self.matrix(name, weight.wide()))
        whole = self.add("Sub", self.add("Cast", numbers, to=TensorProto.FLOAT), self.add.constant(np.float32(ZERO)))
        looked = self.add("Mul", whole, self.add("Unsqueeze", scales, self.last))
        looked = self.add("Reshape", looked, self.add.constant(np.array([0, -1])))
        columns = self.add.constant(np.array([weight.numbers.shape[1]]))
        return self.add("Slice", looked, self.add.constant(np.array([0])), columns, self.last)

    def block(self, x: str, layer: int) -> tuple[str, str, str]:
        """The residual stream after a block, and its keys and values."""
        attended, keys, values = self.attended(self.norm(x, f"blocks.{layer}.norm.weight"), layer)
        return self.finished_block(x, attended, layer), keys, values

    def attended(self, normed: str, layer: int) -> tuple[str, str, str]:
        """What the heads of a block make of its normed input, and its keys and values."""
        config = self.config
        product = self.product(normed, f"blocks.{layer}.qkv.weight")
        if config.qkv_bias:
            width = (config.heads + 2 * config.kv_heads) * config.head_dim
            product = self.add("Add", product, self.weight(f"blocks.{layer}.qkv.bias", (width,)))
        heads = {"num_heads": config.heads, "kv_num_heads": config.kv_heads, "do_rotary": 1}
        inputs = [product, "", "", f"keys.{layer}", f"values.{layer}", "last", "length", *self.turns]
        attended, keys, values = self.add.several("GroupQueryAttention", inputs, 3, FUSED, **heads)
        return attended, keys, values

    def finished_block(self, x: str, attended: str, layer: int) -> str:
        """The residual stream after a block whose heads have attended."""
        name = f"blocks.{layer}"
        x = self.add("Add", x, self.product(attended, f"{name}.out.weight"))
        up = self.activated(self.product(self.norm(x, f"{name}.mlp_norm.weight"), f"{name}.up.weight"))
        return self.add("Add", x, self.product(up, f"{name}.down.weight"))

    def activated(self, up: str) -> str:
        gate, up = self.add.several("Split", [up], 2, axis=-1, num_outputs=2)
        return self.add("Mul", self.add("QuickGelu", gate, domain=FUSED, alpha=1.0), up)

    def norm(self, x: str, name: str) -> str:
        weight = self.weight(name, (self.config.dim,))
        return self.add("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=self.config.eps)

    def product(self, x: str, name: str) -> str:
        weight = self.weights[name]
        if not isinstance(weight, Matrix):
            return self.add("FusedMatMul", x, self.weight(name, weight.shape), domain=FUSED, transB=1)
        rows, columns = weight.numbers.shape
        wide = weight.wide()
        sizes = {"K": columns, "N": rows, "bits": 8, "block_size": wide.block}
        parts = self.matrix(name, wide)
        return self.add("MatMulNBits", x, *parts, domain=FUSED, accuracy_level=4, **sizes)  # 4: int8 activations

    def matrix(self, name: str, weight: Matrix) -> tuple[str, str]:
        """Numbers and scales."""
        shape = weight.scales.shape
        return self.weight(f"{name}.numbers", (*shape, weight.block), TensorProto.UINT8), self.weight(
            f"{name}.scales", shape
        )

    def weight(self, name: str, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> str:
        """A weight that is handed over when the graph is loaded; the file it is said to stand in is never read."""
        if name not in self.declared:
            self.declared.add(name)
            tensor = onnx.TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
            tensor.external_data.add(key="location", value="weights")
            self.add.constants.append(tensor)
        return name

    def finished(self, kinds: dict[str, tuple[int, list[Any]]], outputs: dict[str, str]) -> onnx.ModelProto:
        """With inputs of these kinds, and what attention needs; `outputs` are values by the names that they get."""
        self.add.nodes += [helper.make_node("Identity", [value], [name]) for name, value in outputs.items()]
        whole, number, real = TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT
        kinds |= {"last": (number, [1]), "length": (number, [1])}
        for layer, part in itertools.product(range(self.config.layers), ("keys", "values")):
            kinds[f"{part}.{layer}"] = (real, [1, self.config.kv_heads, "room", self.config.head_dim])
        inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
        shapes: dict[str, list[int | str]] = {"features": [1, "n", TAPS * self.config.dim]}  # others are inferred
        numbers = ("token", "drafts")
        made = [
            helper.make_tensor_value_info(name, whole if name in numbers else real, shapes.get(name))
            for name in outputs
        ]
        graph = helper.make_graph(self.add.nodes, "pass", inputs, made, self.add.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

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
Outputs  token (m,), probability (m,), logits (m, vocab) of the chosen rows; new_keys.L, new_values.L
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

from engine.models.trunk import TrunkConfig, rotary
from engine.stored import ZERO, Matrix, Weights

FUSED = "com.microsoft"


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
        x, memory = self.embedded(), dict[str, str]()
        for layer in range(self.config.layers):
            x, memory[f"new_keys.{layer}"], memory[f"new_values.{layer}"] = self.block(x, layer)
        chosen = self.add("Gather", self.add("Squeeze", self.norm(x, "norm.weight"), self.first), "rows", axis=0)
        logits = self.product(chosen, "embed.weight")
        token = self.add("ArgMax", logits, axis=-1, keepdims=0)
        likelihood = self.add("ReduceMax", self.add("Softmax", logits, axis=-1), self.last, keepdims=0)
        outputs = {"token": token, "probability": likelihood, "logits": logits, **memory}
        self.add.nodes += [helper.make_node("Identity", [value], [name]) for name, value in outputs.items()]
        return self.finished(list(outputs))

    def embedded(self) -> str:
        name = "embed.weight"
        weight = self.weights[name]
        if not isinstance(weight, Matrix):
            return self.add(
                "Unsqueeze", self.add("Gather", self.weight(name, weight.shape), "tokens", axis=0), self.first
            )
        numbers, scales = (self.add("Gather", part, "tokens", axis=0) for part in self.matrix(name, weight.wide()))
        whole = self.add("Sub", self.add("Cast", numbers, to=TensorProto.FLOAT), self.add.constant(np.float32(ZERO)))
        looked = self.add("Mul", whole, self.add("Unsqueeze", scales, self.last))
        looked = self.add("Reshape", looked, self.add.constant(np.array([0, -1])))
        columns = self.add.constant(np.array([weight.numbers.shape[1]]))
        looked = self.add("Slice", looked, self.add.constant(np.array([0])), columns, self.last)
        return self.add("Unsqueeze", looked, self.first)

    def heads(self, x: str, name: str) -> str:
        """Queries, keys and values of all heads, one after the other."""
        product = self.product(self.norm(x, f"{name}.norm.weight"), f"{name}.qkv.weight")
        if not self.config.qkv_bias:
            return product
        width = (self.config.heads + 2 * self.config.kv_heads) * self.config.head_dim
        return self.add("Add", product, self.weight(f"{name}.qkv.bias", (width,)))

    def block(self, x: str, layer: int) -> tuple[str, str, str]:
        """The residual stream after a block, and its keys and values."""
        name, config = f"blocks.{layer}", self.config
        memory = [f"keys.{layer}", f"values.{layer}"]
        heads = {"num_heads": config.heads, "kv_num_heads": config.kv_heads, "do_rotary": 1}
        inputs = [self.heads(x, name), "", "", *memory, "last", "length", *self.turns]
        attended, keys, values = self.add.several("GroupQueryAttention", inputs, 3, FUSED, **heads)
        return self.finished_block(x, attended, name), keys, values

    def finished_block(self, x: str, attended: str, name: str) -> str:
        """The residual stream after a block whose heads have attended."""
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

    def finished(self, outputs: list[str]) -> onnx.ModelProto:
        whole, number, real = TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT
        kinds: dict[str, tuple[int, list[Any]]] = {
            "tokens": (whole, ["n"]),
            "rows": (whole, ["m"]),
            "last": (number, [1]),
            "length": (number, [1]),
        }
        for layer, part in itertools.product(range(self.config.layers), ("keys", "values")):
            kinds[f"{part}.{layer}"] = (real, [1, self.config.kv_heads, "room", self.config.head_dim])
        inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
        made = [helper.make_tensor_value_info(name, whole if name == "token" else real, None) for name in outputs]
        graph = helper.make_graph(self.add.nodes, "pass", inputs, made, self.add.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

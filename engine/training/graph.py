"""The ONNX graph of one forward pass, written node by node with ONNX Runtime's fused operators.

A tracing exporter makes some fifty small operators a layer, which at the few rows of a keystroke cost more than the
matrix products; this makes about twenty. The memory comes in a piece a layer and may have more room than is in use:
`bias` blocks the rest.

The graph has no weights: they are declared as external, and handed over by name when it is loaded (`engine.stored`).
Numbers of eight bits are multiplied with activations quantised row by row. Row by row, because then a token's
numbers do not depend on what else stands in the pass: a scale over the whole pass made choices, and with them
the text, depend on how rows were batched. A graph of floats is for comparison.

Inputs   tokens, positions (n,), ngrams (n, 2) if the model has them, bias (n, room + n) added to the scores, rows
         (m,), lengths (2,) = (room, n), keys.L, values.L (kv_heads, room, d)
Weights  W.numbers (rows, blocks, block) uint8 and W.scales (rows, blocks) of a quantised matrix W, else W itself
Outputs  token (m,), probability (m,), logits (m, vocab) of the chosen rows; new_keys.L, new_values.L (kv_heads, n, d);
         features (1, n, 5 * dim), which a drafter reads
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


def build(config: TrunkConfig, longest: int, weights: Weights, canvases: bool = True) -> onnx.ModelProto:
    """The graph of a trunk's pass for weights like these; `longest` is the number of positions it can tell apart, and
    `canvases` whether it was trained on canvases.
    """
    as_llama = config.weighted_norms and not (config.qk_norm or config.embed_norm or config.ngram_buckets)
    graph = CausalGraph if as_llama and not canvases else PassGraph
    return graph(config, longest, weights).model()


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
        self.prepare()

    def prepare(self) -> None:
        """What the blocks share."""
        config, constant = self.config, self.add.constant
        self.ones = {size: constant(np.ones(size, np.float32)) for size in (config.dim, config.head_dim)}
        self.by_head = constant(np.array([0, 0, -1, config.head_dim]))
        self.stacked = constant(np.array([1, config.kv_heads, -1, config.head_dim]))
        self.apart = constant(np.array([1, config.heads, -1, config.head_dim]))
        self.flat = constant(np.array([1, -1, config.heads * config.head_dim]))
        self.places = self.add("Unsqueeze", "positions", self.first)
        self.bias = "bias" if config.shared == 1 else self.add("Concat", *["bias"] * config.shared, axis=0)

    def model(self) -> onnx.ModelProto:
        x, memory, leaving = self.embedded(), {}, []
        for layer in range(self.config.layers):
            x, memory[f"new_keys.{layer}"], memory[f"new_values.{layer}"] = self.block(x, layer)
            leaving.append(x)
        features = self.add("Concat", *[leaving[depth] for depth in depths(self.config.layers)], axis=-1)
        chosen = self.add("Gather", self.add("Squeeze", self.norm(x, "norm.weight"), self.first), "rows", axis=0)
        logits = self.product(chosen, "embed.weight" if self.config.tied else "head.weight")
        token = self.add("ArgMax", logits, axis=-1, keepdims=0)
        likelihood = self.add("ReduceMax", self.add("Softmax", logits, axis=-1), self.last, keepdims=0)
        outputs = {"token": token, "probability": likelihood, "logits": logits, "features": features, **memory}
        self.add.nodes += [helper.make_node("Identity", [value], [name]) for name, value in outputs.items()]
        return self.finished(list(outputs))

    def embedded(self) -> str:
        x = self.looked_up("embed.weight", "tokens")
        if self.config.ngram_buckets:
            both = self.looked_up("ngrams.weight", "ngrams")
            summed = self.add("ReduceSum", both, self.add.constant(np.array([1])), keepdims=0)
            x = self.add("Add", x, self.product(summed, "ngram_up.weight"))
        x = self.add("Unsqueeze", x, self.first)
        return self.normed(x, self.ones[self.config.dim]) if self.config.embed_norm else x

    def heads(self, x: str, name: str) -> str:
        """Queries, keys and values of all heads, one after the other."""
        return self.biased(self.norm(x, f"{name}.norm.weight"), name)

    def biased(self, normed: str, name: str) -> str:
        product = self.product(normed, f"{name}.qkv.weight")
        if not self.config.qkv_bias:
            return product
        width = (self.config.heads + 2 * self.config.kv_heads) * self.config.head_dim
        return self.add("Add", product, self.weight(f"{name}.qkv.bias", (width,)))

    def block(self, x: str, layer: int) -> tuple[str, str, str]:
        """The residual stream after a block, and its new keys and values."""
        name = f"blocks.{layer}"
        widths = np.array([self.config.heads, self.config.kv_heads, self.config.kv_heads]) * self.config.head_dim
        parts = self.add.several("Split", [self.heads(x, name), self.add.constant(widths)], 3, axis=-1)
        q, k, v = map(self.split_heads, parts)
        q, k = self.turned(q), self.turned(k)
        x = self.finished_block(x, self.attended(q, k, v, layer), name)
        return x, self.add("Squeeze", k, self.first), self.add("Squeeze", v, self.first)

    def finished_block(self, x: str, attended: str, name: str) -> str:
        """The residual stream after a block whose heads have attended."""
        x = self.add("Add", x, self.product(attended, f"{name}.out.weight"))
        up = self.activated(self.product(self.norm(x, f"{name}.mlp_norm.weight"), f"{name}.up.weight"))
        return self.add("Add", x, self.product(up, f"{name}.down.weight"))

    def activated(self, up: str) -> str:
        if self.config.gated:
            gate, up = self.add.several("Split", [up], 2, axis=-1, num_outputs=2)
            return self.add("Mul", self.add("QuickGelu", gate, domain=FUSED, alpha=1.0), up)
        up = self.add("Relu", up)
        return self.add("Mul", up, up)

    def attended(self, q: str, k: str, v: str, layer: int) -> str:
        """Memory and new rows are multiplied apart and only scores are joined: the memory is never copied. Heads that
        share keys are rows of one head.
        """
        if self.config.shared > 1:
            q = self.add("Reshape", q, self.stacked)
        past_k, past_v = (self.add("Unsqueeze", f"{part}.{layer}", self.first) for part in ("keys", "values"))
        scores = self.add("Concat", self.scores(q, past_k), self.scores(q, k), axis=-1)
        shares = self.add("Softmax", self.add("Add", scores, self.bias), axis=-1)
        old, new = self.add.several("Split", [shares, "lengths"], 2, axis=-1)
        mixed = self.add("Add", self.add("MatMul", old, past_v), self.add("MatMul", new, v))
        if self.config.shared > 1:
            mixed = self.add("Reshape", mixed, self.apart)
        return self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), self.flat)

    def scores(self, q: str, keys: str) -> str:
        return self.add("FusedMatMul", q, keys, domain=FUSED, transB=1, alpha=self.config.head_dim**-0.5)

    def split_heads(self, x: str) -> str:
        return self.add("Transpose", self.add("Reshape", x, self.by_head), perm=[0, 2, 1, 3])

    def turned(self, x: str) -> str:
        if self.config.qk_norm:
            x = self.normed(x, self.ones[self.config.head_dim])
        return self.add("RotaryEmbedding", x, self.places, *self.turns, domain=FUSED)

    def norm(self, x: str, name: str) -> str:
        weighted = self.config.weighted_norms
        return self.normed(x, self.weight(name, (self.config.dim,)) if weighted else self.ones[self.config.dim])

    def normed(self, x: str, weights: str) -> str:
        return self.add("SimplifiedLayerNormalization", x, weights, axis=-1, epsilon=self.config.eps)

    def product(self, x: str, name: str) -> str:
        weight = self.weights[name]
        if not isinstance(weight, Matrix):
            return self.add("FusedMatMul", x, self.weight(name, weight.shape), domain=FUSED, transB=1)
        rows, columns = weight.numbers.shape
        wide = weight.wide()
        sizes = {"K": columns, "N": rows, "bits": 8, "block_size": wide.block}
        parts = self.matrix(name, wide)
        return self.add("MatMulNBits", x, *parts, domain=FUSED, accuracy_level=4, **sizes)  # 4: int8 activations

    def looked_up(self, name: str, ids: str) -> str:
        weight = self.weights[name]
        if not isinstance(weight, Matrix):
            return self.add("Gather", self.weight(name, weight.shape), ids, axis=0)
        numbers, scales = (self.add("Gather", part, ids, axis=0) for part in self.matrix(name, weight.wide()))
        whole = self.add("Sub", self.add("Cast", numbers, to=TensorProto.FLOAT), self.add.constant(np.float32(ZERO)))
        looked = self.add("Mul", whole, self.add("Unsqueeze", scales, self.last))
        leading = [0] * (2 if ids == "ngrams" else 1)  # as many axes as ids has
        looked = self.add("Reshape", looked, self.add.constant(np.array([*leading, -1])))
        columns = self.add.constant(np.array([weight.numbers.shape[1]]))
        return self.add("Slice", looked, self.add.constant(np.array([0])), columns, self.last)

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
        number = TensorProto.INT64
        kinds: dict[str, tuple[int, list[Any]]] = {"rows": (number, ["m"])}
        if self.config.ngram_buckets:
            kinds["ngrams"] = (number, ["n", 2])
        kinds |= {"tokens": (number, ["n"]), "positions": (number, ["n"]), "lengths": (number, [2])}
        kinds["bias"] = (TensorProto.FLOAT, ["n", "total"])
        return self.described(kinds, (self.config.kv_heads, "room", self.config.head_dim), outputs)

    def described(
        self, kinds: dict[str, tuple[int, list[Any]]], memory: tuple[int | str, ...], outputs: list[str]
    ) -> onnx.ModelProto:
        """With inputs of those kinds, and of each layer keys and values of the shape `memory`."""
        number, real = TensorProto.INT64, TensorProto.FLOAT
        for layer, part in itertools.product(range(self.config.layers), ("keys", "values")):
            kinds[f"{part}.{layer}"] = (real, list(memory))
        inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
        shapes: dict[str, list[int | str]] = {
            "features": [1, "n", TAPS * self.config.dim]
        }  # others are told by what makes them
        made = [
            helper.make_tensor_value_info(name, number if name in ("token", "drafts") else real, shapes.get(name))
            for name in outputs
        ]
        graph = helper.make_graph(self.add.nodes, "pass", inputs, made, self.add.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


class CausalGraph(PassGraph):
    """Of a trunk like Llama's without canvases: attention is one operator (ONNX Runtime's GroupQueryAttention), that
    turns queries and keys and writes into the memory that it reads.

    Inputs   tokens (n,), rows (m,), last (1,) int32 = the last position, length (1,) int32 = positions with the new
             ones, keys.L, values.L (1, kv_heads, room, d), which are new_keys.L, new_values.L too
    """

    def prepare(self) -> None:
        """Nothing: what the operator reads beside the memory are inputs."""

    def block(self, x: str, layer: int) -> tuple[str, str, str]:
        name = f"blocks.{layer}"
        projected = self.heads(x, name)
        memory = [f"keys.{layer}", f"values.{layer}"]
        heads = {"num_heads": self.config.heads, "kv_num_heads": self.config.kv_heads, "do_rotary": 1}
        inputs = [projected, "", "", *memory, "last", "length", *self.turns]
        attended, keys, values = self.add.several("GroupQueryAttention", inputs, 3, FUSED, **heads)
        return self.finished_block(x, attended, name), keys, values

    def finished(self, outputs: list[str]) -> onnx.ModelProto:
        whole, number = TensorProto.INT64, TensorProto.INT32
        return self.described(
            {"tokens": (whole, ["n"]), "rows": (whole, ["m"]), "last": (number, [1]), "length": (number, [1])},
            (1, self.config.kv_heads, "room", self.config.head_dim),
            outputs,
        )

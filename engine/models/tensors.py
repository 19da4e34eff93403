"""The tensors of a folder's safetensors files, by name: present, whole, numbers, in a type that means what it says.

Files are mapped into memory; a tensor is copied when it is asked for.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.contract import EngineError
from engine.models import quantised
from engine.models.family import CheckpointSource

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
BUFFERS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|attn\.(masked_)?bias)")  # constants that some writers stored


class Tensors:
    """`block` are the rows and columns that share a scale, see `quantised`. All methods raise EngineError, with what to
    do, where the folder is not as it should be.
    """

    def __init__(self, folder: Path, block: list[int] | None = None) -> None:
        self.folder, self._block = folder, block
        self._files: dict[str, Any] = {}
        self._file_of = self._index()
        self._left = {name for name in self._file_of if not BUFFERS.fullmatch(name)}

    def _index(self) -> dict[str, str]:
        path = self.folder / INDEX
        if not path.exists():
            if not (self.folder / SINGLE).exists():
                raise EngineError(
                    f"{self.folder} has no {SINGLE}; Inpaint reads safetensors only, so convert other formats first"
                )
            return dict.fromkeys(self._open(SINGLE).keys(), SINGLE)
        try:
            files = json.loads(path.read_bytes())["weight_map"]
            if any(Path(file).name != file for file in files.values()):
                raise ValueError("a file outside of the folder")
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise EngineError(f"{path} is damaged ({error}); download the checkpoint again") from None
        return dict(files)

    def _open(self, file: str) -> Any:
        if file not in self._files:
            path = self.folder / file
            if not path.exists():
                raise EngineError(f"the shard {file} of {self.folder} is missing; download the checkpoint again")
            try:
                self._files[file] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise EngineError(f"{path} is damaged ({error}); download the checkpoint again") from None
        return self._files[file]

    def _stored(self, name: str) -> Tensor | None:
        """As it is in the file."""
        if name not in self._file_of:
            return None
        self._left.discard(name)
        try:
            tensor: Tensor = self._open(self._file_of[name]).get_tensor(name)
        except SafetensorError as error:
            raise self._absent(name, error) from None
        return tensor

    def read(self, names: str) -> Tensor:
        """The weight; one of alternatives "a|b", which must be equal. Finite floats, whatever they were stored as."""
        found: Tensor | None = None
        for name in names.split("|"):
            try:
                tensor = quantised.read(self._stored, name, self._block)
            except (ValueError, RuntimeError, IndexError, TypeError, ZeroDivisionError) as error:
                raise EngineError(f"{name} of {self.folder} cannot be read ({error}); download it again") from None
            if tensor is None:
                continue
            if tensor.dtype not in NUMBERS:
                raise self._meaningless(name, str(tensor.dtype).removeprefix("torch."))
            if not bool(tensor.isfinite().all()):
                raise EngineError(f"{name} of {self.folder} has values that are no numbers; download it again")
            if found is not None and not torch.equal(found, tensor):
                raise EngineError(
                    f"{names.replace('|', ' and ')} of {self.folder} differ, and config.json says that they are one; "
                    "they do not belong together"
                )
            found = tensor
        if found is None:
            raise EngineError(
                f"{self.folder} has no weight {names.replace('|', ' or ')}; download the checkpoint again"
            )
        return found

    def combined(self, source: CheckpointSource) -> Tensor:
        parts = [self.read(names) for names in source.names]
        try:
            return source.combine(parts)
        except (RuntimeError, IndexError):
            shapes = ", ".join(str(list(part.shape)) for part in parts)
            raise EngineError(
                f"{source.names[0]} and its companions in {self.folder} do not fit together ({shapes}); download again"
            ) from None

    def require_numbers(self) -> None:
        """Every file is there, and every weight is stored as floats; nothing is read."""
        for name, file in self._file_of.items():
            try:
                kind = self._open(file).get_slice(name).get_dtype()
            except SafetensorError as error:
                raise self._absent(name, error) from None
            if kind not in ("F64", "F32", "F16", "BF16"):
                raise self._meaningless(name, kind)

    def require_all_read(self) -> None:
        """A weight that nobody asked for belongs to something that the model does and the transformer would not."""
        if self._left:
            first, *more = sorted(self._left)
            others = f" and {len(more)} others" if more else ""
            raise EngineError(
                f"{self.folder} has weights that its config.json does not mean: {first}{others}; "
                "they do not belong together, or the model does what Inpaint does not"
            )

    def _absent(self, name: str, error: SafetensorError) -> EngineError:
        file = self._file_of[name]
        return EngineError(f"{file} of {self.folder} has no {name} ({error}); download the checkpoint again")

    def _meaningless(self, name: str, kind: str) -> EngineError:
        return EngineError(
            f"{name} of {self.folder} is stored as {kind}, and config.json does not say how to read that; "
            "take the checkpoint that is not quantised"
        )

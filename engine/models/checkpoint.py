"""A public checkpoint, from a folder or a hub id to a transformer on its device.

config.json is read first. It says whether the checkpoint is supported and how much memory it takes, so that nothing
large is downloaded in vain. Weights are safetensors, mapped into memory and copied tensor by tensor straight to
device and dtype. Code that a repository carries is not even downloaded.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import msgspec
import psutil
import torch
from torch.distributed.device_mesh import DeviceMesh

from engine.contract import EngineError, Sampling
from engine.models import memory_plan, quantised, registry, tensor_parallel, validation
from engine.models.family import Config, Family, Plan
from engine.models.int8 import Int8Linear, quantise, shrink
from engine.models.memory_plan import MemoryPlan
from engine.models.tensors import Tensors
from engine.models.transformer import Transformer
from engine.models.vocabulary import Vocabulary, fills_gaps, read_json

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CONFIG, GENERATION = "config.json", "generation_config.json"
OTHER_NAMES = {"remasking": "alg"}  # LLaDA's
AUTOREGRESSIVE = {"temperature", "top_p", "top_k", "suppress_tokens"}
TOKENIZER_FILES = ["tokenizer*.json", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"]
WEIGHT_FILES = ["*.safetensors", "*.safetensors.index.json", GENERATION]
SPARE = 1.15  # memory for keys, values and activations on top of the weights

logger = logging.getLogger(__name__)


class Checkpoint(msgspec.Struct):
    plan: Plan
    model: Transformer
    vocabulary: Vocabulary
    memory: MemoryPlan
    sampling: Sampling = Sampling()  # of its generation_config.json


def load(
    name: str,
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
    family: str | None = None,
    mesh: DeviceMesh | None = None,
    free: int | None = None,
) -> Checkpoint:
    """`name` is a folder or a hub id, `config` what `read_config` says of it, `family` a key of the registry where that
    does not tell. On a mesh of devices, this is the part of one, and each has `free` bytes. Raises EngineError with
    what to do.
    """
    block = quantised.block(config, name)
    found, plan = plan_of(name, config, family)
    if mesh is not None:
        plan = msgspec.structs.replace(plan, shape=msgspec.structs.replace(plan.shape, ranks=mesh.size()))
    chosen = memory_plan.fit(plan.shape, dtype, free_bytes(device) if free is None else free, name, device)
    logger.info("%s is %s: %s; on %s: %s", name, found.name, _seen(plan), device, chosen)
    folder = fetch(name, [CONFIG, *TOKENIZER_FILES, *WEIGHT_FILES])
    vocabulary = Vocabulary.load(_tokenizer_folder(folder, plan), plan.infill)
    infill = vocabulary.infill
    validation.mask(vocabulary.mask, (vocabulary.eos, infill.expand, infill.delete), name)
    with torch.inference_mode():
        model = read_weights(Tensors(folder, block), plan, device, dtype, chosen.int8, mesh)
    validation.ids(vocabulary.all_ids(), min(model.shape.vocab, plan.shape.vocab), name)
    return Checkpoint(msgspec.structs.replace(plan, infill=infill), model, vocabulary, chosen, _sampling(folder))


def plan_of(name: str, config: Config, family: str | None) -> tuple[Family, Plan]:
    """See registry.plan; the tokenizer is looked at where config.json does not tell."""
    return registry.plan(config, name, family, lambda: fills_gaps(fetch(name, TOKENIZER_FILES)))


def _sampling(folder: Path) -> Sampling:
    """The options of generation_config.json where that is a diffusion sampler's. A file that names no option of such
    is what the model had before it was one, made for autoregression.
    """
    said = read_json(folder / GENERATION)
    found = {ours: said.get(theirs) for theirs, ours in OTHER_NAMES.items()} | said
    options = {name: found[name] for name in Sampling.__struct_fields__ if found.get(name) is not None}
    if not options.keys() - AUTOREGRESSIVE:
        return Sampling()
    try:
        return msgspec.convert(options, Sampling)
    except msgspec.ValidationError as error:
        raise EngineError(
            f"the {GENERATION} of {folder} has an option that is none ({error}); mend or remove it"
        ) from None


def _seen(plan: Plan) -> str:
    """What a row sees, in words."""
    size = plan.shape.block
    return "every row sees every row" if not size else f"rows see their block of {size} and those before it"


def _tokenizer_folder(folder: Path, plan: Plan) -> Path:
    """The checkpoint's own, or that of the tokenizer which its family shares."""
    own = any((folder / file).exists() for file in ("tokenizer.json", "merges.txt"))
    return folder if own or plan.tokenizer is None else fetch(plan.tokenizer, TOKENIZER_FILES)


def read_config(name: str) -> dict[str, Any]:
    path = fetch(name, [CONFIG]) / CONFIG
    if not path.exists():
        raise EngineError(f"{name} has no config.json; give the folder or hub id of a checkpoint")
    return read_json(path)


def fetch(name: str, patterns: list[str]) -> Path:
    """The folder that holds a checkpoint's files of these patterns; downloaded, with progress, where `name` is a hub
    id and they are not cached.

    An interrupted download goes on where it stopped. Without network, what is cached is used.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(name):
        raise EngineError(
            f"no model {name!r}: give small, a folder with config.json, or a hub id such as fredzzp/open-dcoder-0.5B"
        )
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
    except errors.GatedRepoError:
        page = f"https://huggingface.co/{name}"
        raise EngineError(f"{name} is gated: accept its terms at {page} and log in with `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise EngineError(
            f"the hub has no model {name}, or it is private; check the name, or log in with `hf auth login`"
        ) from None
    except errors.LocalEntryNotFoundError:
        raise EngineError(
            f"{name} is not cached and the hub cannot be reached; connect to the network or give a folder"
        ) from None
    except (errors.HfHubHTTPError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(
            f"{name} cannot be downloaded ({reason}); start again and it goes on where it stopped"
        ) from None


def require_bytes(weights: int, device: torch.device, name: str) -> None:
    needed, free = weights * SPARE, free_bytes(device)
    if needed > free:
        raise memory_plan.too_large(name, needed, free, device)


def free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)


def read_weights(
    tensors: Tensors,
    plan: Plan,
    device: torch.device,
    dtype: torch.dtype,
    int8: bool = False,
    mesh: DeviceMesh | None = None,
) -> Transformer:
    """The blocks' products in int8 where asked for; on a mesh, a rank's part of the model. Raises EngineError where a
    file or a weight is missing, damaged, too many or of the wrong shape.
    """
    embed = tensors.read(plan.sources["embed.weight"].names[0])
    rows, *_ = *embed.shape, plan.shape.vocab  # embeddings are often padded beyond what config.json says
    shape = msgspec.structs.replace(plan.shape, vocab=rows)
    with torch.device("meta"):
        model = Transformer(shape).to(dtype)
        if int8:
            shrink(model.blocks)
        if mesh is not None:
            tensor_parallel.share(model, mesh)
    model = model.to_empty(device=device)
    if shape.tied:
        model.head.weight = model.embed.weight  # to_empty parts them
    for name, parameter in model.named_parameters():
        found = tensors.combined(plan.sources[name])
        if found.shape != parameter.shape:
            names = " + ".join(plan.sources[name].names)
            raise EngineError(
                f"{names} in {tensors.folder} has shape {list(found.shape)} where config.json means "
                f"{list(parameter.shape)}; download the checkpoint again"
            )
        module = model.get_submodule(name.rpartition(".")[0])
        if isinstance(module, Int8Linear) and name.endswith("weight"):
            found, scale = quantise(found)
            module.scale.copy_(scale)
        local, part = tensor_parallel.own(parameter.data, found, tensor_parallel.fused(shape, name))
        local.copy_(part)
    tensors.require_all_read()
    return model.eval().requires_grad_(False)

"""The user's options: their names, defaults and checks, all in one place.

A client sends them as `initializationOptions` or by `workspace/didChangeConfiguration`, in camelCase, flat or under
"inpaint". What is sent is laid over what is set; an option that is unknown or out of range is named in a warning and
left as it was, the others still count.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

import msgspec

from engine import AUTO
from engine.retrieval.exclusions import anywhere, is_secret, may_read

Json: TypeAlias = Any  # whatever a client sends
Dial: TypeAlias = Literal["quiet", "balanced", "eager"]
Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
Milliseconds = Annotated[float, msgspec.Meta(ge=1, le=60_000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One field an option. `show` is the dial of what is shown unasked, see lsp_server.gate; who sets
    `min_confidence` has a threshold in its place: the least confidence, in [0, 1], of a fill.

    `workspace` is whether to copy from the workspace's files, those of `folders` where any are named, `packages`
    whether from the installed packages that a file imports; these are the ones of the Python `interpreter` or of
    the environment that is found. Below 1, `trust` is the fast preset: denoised tokens surer than it are shown without
    being verified. `next_edit` is whether to offer the change made twice at the next place that is alike.
    """

    enabled: bool = True
    model: str = AUTO
    device: Device = "auto"
    multiline: Literal["auto", "always", "never"] = "auto"
    max_lines: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8
    steps: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    trust: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    deadline_automatic_ms: Milliseconds = 150
    deadline_invoked_ms: Milliseconds = 400
    show: Dial = "balanced"
    min_confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    disabled_languages: tuple[str, ...] = ()
    disabled_globs: tuple[str, ...] = ()  # besides secrets, see engine.retrieval.exclusions
    statistics: bool = False  # whether to keep the figures of each day on disk
    workspace: bool = True
    folders: tuple[str, ...] = ()
    packages: bool = True
    interpreter: str = ""
    next_edit: bool = False
    status: bool = False  # for clients: whether they want `inpaint/status`

    @property
    def indexing(self) -> tuple[Json, ...]:
        """The options that the index depends on."""
        return self.enabled, self.workspace, self.folders, self.packages, self.disabled_globs

    def allow(self, file: PurePath, *languages: str, wait: bool = True) -> bool:
        """Whether to complete in this file, whose language has these names, and to copy from it. Where not `wait`, what
        is not known yet is found out beside, and not allowed until then.
        """
        disabled = self.disabled_languages and not set(languages).isdisjoint(self.disabled_languages)
        secret = any(is_secret(file, language) for language in languages)
        return self.enabled and not disabled and not secret and may_read(file, self.disabled_globs, wait)


def apply_options(settings: Settings, options: Json) -> tuple[Settings, list[str]]:
    """The settings with a client's options laid over them, and a sentence for each option that is wrong."""
    if isinstance(options, dict) and "inpaint" in options:
        options = options["inpaint"]
    if not options:  # null, {} or the [] that Lua makes of an empty table
        return settings, []
    if not isinstance(options, dict):
        return settings, ["The options must be an object of names and values; they were ignored."]
    fields = {field.encode_name: field for field in msgspec.structs.fields(Settings)}
    good: dict[str, Any] = {}
    warnings = []
    for name, value in options.items():
        if name not in fields:
            warnings.append(f'Unknown option "{name}" was ignored; there are: {", ".join(fields)}.')
            continue
        try:
            converted = msgspec.convert(value, fields[name].type)
            if name == "disabledGlobs":
                anywhere(converted)
            good[fields[name].name] = converted
        except (msgspec.ValidationError, ValueError) as error:
            warnings.append(f'Option "{name}" was left as it was: {complaint(fields[name].type, error)}.')
    return msgspec.structs.replace(settings, **good), warnings


def complaint(kind: Any, error: Exception) -> str:
    """What is wrong with a value of that type; where there is a choice, what there is to choose from."""
    if get_origin(kind) is Literal:
        return "it is one of " + ", ".join(f'"{choice}"' for choice in get_args(kind))
    return f"{str(error)[0].lower()}{str(error)[1:]}"

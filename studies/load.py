"""Read a study file; whatever is wrong with it becomes one message for the person who wrote it."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from studies.overlay import OverlayError, lay_over
from studies.spec import Study

OVERLAYS = Path(__file__).parent / "overlays"
MAX_NODES = 100_000  # of a study file, its aliases written out
MAX_SHOWN = 200  # characters of a bad value in a message
# What PyYAML lets through beside its own errors, say for the date 2020-99-99 or `!!bool maybe`.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, ValueError)


class StudyError(ValueError):
    """A study that cannot be read; the message is for the person who wrote the file."""


def load_study(
    path: str | Path,
    overlays: Sequence[str | Path] = (),
    changes: dict[str, Any] | None = None,
) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path
        A YAML file, or the name of a study that ships with grokpath (`nano`, `smoke`).
    overlays
        YAML files, or names of overlays that ship with grokpath, applied to it one after the other
        (:mod:`studies.overlay`). Relative paths in them start at the study file too.
    changes
        One more overlay, given as data.

    Raises
    ------
    StudyError
        With one message that names the file, each bad field, what was found and what is allowed.
    """
    file = _find(path)
    raw = _read_extended(file)
    for overlay in overlays:
        overlay_file = _find_overlay(overlay)
        raw = _laid_over(raw, _read_mapping(overlay_file), overlay_file)
    if changes:
        raw = _laid_over(raw, changes, "changes")
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        problems: list[dict[str, Any]] = [dict(problem) for problem in error.errors()]
        # A list with a bad entry is reported as too short as well: only the entry is at fault.
        above = {p["loc"][:end] for p in problems for end in range(len(p["loc"]))}
        lines = [_explain(problem, raw) for problem in problems if problem["loc"] not in above]
        raise StudyError("\n".join(f"{file}: {line}" for line in lines)) from error
    return _resolve_paths(study, file)


def shipped_studies() -> dict[str, Path]:
    """Study files that come with grokpath, by name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.yaml"))}


class _Loader(yaml.SafeLoader):
    """YAML without what PyYAML accepts silently: alias bombs, double keys, endless numbers."""

    def get_single_node(self) -> yaml.Node | None:
        root = super().get_single_node()
        num_nodes, pending = 0, [] if root is None else [root]
        while pending:
            node = pending.pop()
            num_nodes += 1
            if num_nodes > MAX_NODES:
                raise _problem(f"more than {MAX_NODES:,} values once aliases are expanded", node)
            if isinstance(node, yaml.MappingNode):
                _check_keys([key for key, _ in node.value])
                pending += [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                pending += node.value
        return root

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > 63:
                raise OverflowError("numbers must be below 2**63")
            if isinstance(value, str):
                value.encode()  # refuses half a character, which no file could take later
        except _UNREADABLE as error:
            raise _problem(f"{_shown(node.value)} cannot be read: {error}", node) from error
        return value


def _check_keys(keys: list[yaml.Node]) -> None:
    found = set()
    for key in keys:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in found:
                raise _problem(f"key {_shown(key.value)} is given more than once", key)
            found.add((key.tag, key.value))


def _problem(message: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)


def _shown(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _read(file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except RecursionError as error:
        raise StudyError(f"{file}: not readable as YAML: nested too deeply") from error
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise StudyError(f"{file}: not readable as YAML: {error}") from error
    except OSError as error:
        raise StudyError(f"{file}: cannot be opened: {error.strerror}") from error


def _read_extended(file: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's own data, over those of the study that it extends."""
    if file in above:
        raise StudyError(f"{file}: extends itself, by way of {', '.join(map(str, above))}")
    raw = _read_mapping(file)
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise StudyError(f"{file}: extends: expected the name of a study file, found {base!r}")
    beside = file.parent / base
    data = _read_extended(beside if beside.is_file() else _find(base), (*above, file))
    try:
        merged: dict[str, Any] = lay_over(data, raw)
    except OverlayError as error:
        raise StudyError(f"{file}: {error}") from error
    return merged


def _laid_over(raw: dict[str, Any], overlay: dict[str, Any], name: Path | str) -> dict[str, Any]:
    try:
        merged: dict[str, Any] = lay_over(raw, overlay)
    except OverlayError as error:
        raise StudyError(f"{name}: {error}") from error
    return merged


def _find_overlay(path: str | Path) -> Path:
    shipped = {file.stem: file for file in sorted(OVERLAYS.glob("*.yaml"))}
    if Path(path).is_file() or str(path) not in shipped:
        near = difflib.get_close_matches(str(path), shipped, n=1)
        if not Path(path).exists() and near:
            raise StudyError(f"{path}: no such overlay; did you mean {near[0]!r}?")
        return Path(path)
    return shipped[str(path)]


def _read_mapping(file: Path) -> dict[str, Any]:
    raw = _read(file)
    if not isinstance(raw, dict):
        raise StudyError(f"{file}: expected a mapping of fields, found {type(raw).__name__}")
    return raw


def _find(path: str | Path) -> Path:
    file = Path(path)
    try:
        if file.is_file():
            return file
    except OSError as error:
        raise StudyError(f"{path}: cannot be a study file: {error.strerror}") from error
    shipped = shipped_studies()
    if str(path) in shipped:
        return shipped[str(path)]
    near = difflib.get_close_matches(file.stem, shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise StudyError(
        f"{path}: no such study file, and no study of that name ships with grokpath "
        f"({', '.join(shipped)}){hint}"
    )


def _explain(problem: dict[str, Any], raw: dict[str, Any]) -> str:
    # pydantic adds the union's tag to the location; a reader looks for keys of the file.
    location = _keys_of_file(problem["loc"], raw)
    field = _dotted(location)
    found = problem["input"]
    if problem["type"] == "extra_forbidden":
        allowed = _fields_beside(tuple(problem["loc"][:-1]))
        near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{field}: unknown key{hint} Allowed here: {', '.join(allowed)}."
    if problem["type"] == "missing":
        return f"{field}: missing; this field is required."
    message = problem["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(found, dict) else f" Found: {_shown(found)}."
    return f"{field or 'study'}: {message[0].lower() + message[1:]}.{shown}"


def _keys_of_file(location: tuple[int | str, ...], raw: Any) -> list[int | str]:
    keys: list[int | str] = []
    at = raw
    for position, part in enumerate(location):
        last = position == len(location) - 1
        inside = (isinstance(at, dict) and part in at) or (
            isinstance(at, list) and isinstance(part, int) and part < len(at)
        )
        if inside:
            at = at[part]
            keys.append(part)
        elif last:
            keys.append(part)
    return keys


def _dotted(location: list[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _fields_beside(location: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that a location of a validation error lies in."""
    models: list[type[BaseModel]] = [Study]
    for part in location:
        if isinstance(part, int):
            continue
        inner = [
            found
            for model in models
            if part in model.model_fields
            for found in _models_in(model.model_fields[part].annotation)
        ]
        tagged = [m for m in models if _tag(m) == part]
        models = inner or tagged or models
    return sorted({name for model in models for name in model.model_fields})


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    return None if kind is None else str(kind.default)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _resolve_paths(study: Study, file: Path) -> Study:
    """Make paths absolute, starting at the study file, and check that they are there."""

    def resolve(value: Any, field: str) -> Any:
        if isinstance(value, Path):
            try:
                found = (file.parent / value.expanduser()).resolve()
                there = found.exists()
            except (OSError, RuntimeError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                raise StudyError(
                    f"{file}: {field}: not a usable path ({why}). Found: {_shown(str(value))}."
                ) from error
            if not there:
                raise StudyError(f"{file}: {field}: no such file or folder. Found: {found}.")
            return found
        if isinstance(value, BaseModel):
            return value.model_copy(
                update={
                    name: resolve(getattr(value, name), f"{field}.{name}".lstrip("."))
                    for name in type(value).model_fields
                }
            )
        if isinstance(value, dict):
            return {name: resolve(part, f"{field}.{name}") for name, part in value.items()}
        if isinstance(value, tuple):
            return tuple(resolve(part, f"{field}[{i}]") for i, part in enumerate(value))
        return value

    resolved: Study = resolve(study, "")
    return resolved

"""Read a study file; whatever is wrong with it becomes one message for the person who wrote it."""

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from studies.spec import Study


class StudyError(ValueError):
    """A study that cannot be read; the message is for the person who wrote the file."""


def load_study(path: str | Path) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path
        A YAML file, or the name of a study that ships with grokpath (`nano`, `smoke`).

    Raises
    ------
    StudyError
        With one message that names the file, each bad field, what was found and what is allowed.
    """
    file = _find(path)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{file}: not readable as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise StudyError(f"{file}: expected a mapping of fields, found {type(raw).__name__}")
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(dict(problem), raw) for problem in error.errors()]
        raise StudyError("\n".join(f"{file}: {line}" for line in lines)) from error
    return _resolve_paths(study, file)


def shipped_studies() -> dict[str, Path]:
    """Study files that come with grokpath, by name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.yaml"))}


def _find(path: str | Path) -> Path:
    file = Path(path)
    if file.is_file():
        return file
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
    shown = "" if isinstance(found, dict) else f" Found: {found!r}."
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
            found = (file.parent / value.expanduser()).resolve()
            if not found.exists():
                raise StudyError(f"{file}: {field}: no such file or folder. Found: {found}.")
            return found
        if isinstance(value, BaseModel):
            return value.model_copy(
                update={
                    name: resolve(getattr(value, name), f"{field}.{name}".lstrip("."))
                    for name in type(value).model_fields
                }
            )
        if isinstance(value, tuple):
            return tuple(resolve(part, f"{field}[{i}]") for i, part in enumerate(value))
        return value

    resolved: Study = resolve(study, "")
    return resolved

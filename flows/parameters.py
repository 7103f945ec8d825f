"""Parameters that flows share: what they are in the form of Prefect's page, and what they mean.

A study as a form of its own would have some two hundred fields; a name and a few changes are what
a person types. Prefect takes the descriptions from the flows' docstrings, in Google's format only.
"""

from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import flow_run
from pydantic import WithJsonSchema

from studies.load import load_study
from studies.spec import Study

StudyChoice = Annotated[Study | str, WithJsonSchema({"type": "string"})]
"""A study's name or file; code may pass the study itself."""

Changes = dict[str, Any]
"""Fields of a study, nested as in its file, that differ for this run."""


def asked_study(study: Study | str, overlays: tuple[str, ...], changes: Changes) -> Study:
    """The study that a flow's parameters ask for.

    Raises
    ------
    studies.load.StudyError
        With one message that names the file, the field, what was found and what is allowed.
    """
    if isinstance(study, Study):
        if overlays or changes:
            raise ValueError("overlays and changes are laid over a study file; give its name")
        return study
    return load_study(study, overlays, changes)


def run_name() -> str:
    """Name of a flow run: the study's, or that of the file it is asked by, without its folder."""
    asked = flow_run.parameters["study"]
    if isinstance(asked, str):
        return Path(asked).stem if asked.endswith((".yaml", ".yml")) else asked
    return str(asked["name"] if isinstance(asked, dict) else asked.name)

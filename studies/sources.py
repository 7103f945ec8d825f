"""Where a study's checkpoints and samples come from: one frozen part per kind of source."""

import string
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from studies.base import Frozen, Seed, strictly_rising, unique
from studies.nano_model import CorpusSpec, PretrainingSpec

# ---------------------------------------------------------------- checkpoints

Repository = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$",
        max_length=160,
        description="owner/name on the Hugging Face hub (HF_ENDPOINT for another one).",
    ),
]


class NanoSource(Frozen):
    """Checkpoints of the nano model, pretrained on the spot."""

    kind: Literal["nano"] = "nano"
    corpus: CorpusSpec = CorpusSpec()
    pretraining: PretrainingSpec = PretrainingSpec()
    shuffle_answers: bool = Field(
        default=False,
        description="Shuffle the training answers inside each domain: the control in which "
        "nothing can generalize.",
    )


class LocalSource(Frozen):
    """A folder of checkpoints in Hugging Face format, as a training run writes them.

    Each checkpoint is a subfolder named `step<N>`, `step<N>-tokens<M>[K|M|B|T]` or `checkpoint-<N>`
    holding config.json, *.safetensors and the tokenizer files. One that is not complete is left
    out until it is; one that was measured and is deleted later stays in the series.
    """

    kind: Literal["local"] = "local"
    path: Path = Field(description="The folder; relative paths start at the study file.")
    steps: tuple[int, ...] | None = Field(
        default=None, min_length=2, description="Which steps to take; all when left out."
    )
    skip_steps: tuple[int, ...] = Field(
        default=(), description="Steps to leave out, such as one whose weights are broken."
    )
    complete_marker: str | None = Field(
        default=None,
        pattern=r"^[^/]+$",
        description="File that the training run writes into a checkpoint last, such as "
        "trainer_state.json; a checkpoint without it is not complete.",
    )

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, steps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if steps is None else strictly_rising(steps)


class HubSource(Frozen):
    """Revisions of a repository on the Hugging Face hub, named `step<N>-tokens<M>[K|M|B|T]`.

    Taken are the listed `revisions` or `steps`; or those between `first_step` and `last_step`; or,
    of these, `count` that are as evenly spaced as can be. Each revision is resolved to a commit
    once.
    """

    kind: Literal["hub"] = "hub"
    repository: Repository
    revisions: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Names of the branches."
    )
    steps: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="Steps of the branches, whatever else they say."
    )
    prefix: str = Field(
        default="", description="What branches are called before `step`, such as `stage1-`."
    )
    count: int | None = Field(default=None, ge=2, description="So many, equidistant in steps.")
    first_step: int | None = Field(default=None, ge=0, description="None before this step.")
    last_step: int | None = Field(default=None, ge=0, description="None after this step.")
    skip_steps: tuple[int, ...] = Field(
        default=(), description="Steps to leave out, such as one whose weights are broken."
    )
    allow_identical: bool = Field(
        default=False, description="Admit two revisions with the same weights, byte for byte."
    )

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, steps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if steps is None else strictly_rising(steps)

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> Self:
        if self.revisions is not None:
            unique("revision", list(self.revisions))
        by_range = (self.count, self.first_step, self.last_step) != (None, None, None)
        if (self.revisions is not None) + (self.steps is not None) + by_range > 1:
            raise ValueError(
                "choose revisions in one way: `revisions`, or `steps`, or `count`, `first_step` "
                "and `last_step`"
            )
        if None not in (self.first_step, self.last_step) and self.first_step > self.last_step:  # type: ignore[operator]
            raise ValueError(f"first_step {self.first_step} is above last_step {self.last_step}")
        return self


CheckpointSource = Annotated[NanoSource | LocalSource | HubSource, Field(discriminator="kind")]

# ---------------------------------------------------------------- samples


class CorpusSamples(Frozen):
    """Samples of the nano corpus (only for series with `kind: nano`)."""

    kind: Literal["corpus"] = "corpus"


def _plain_fields(template: str) -> str:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"not a template: {error}; write braces as {{{{ and }}}}") from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.replace("_", "").isalnum() or form or conversion):
            raise ValueError(f"expected plain fields such as {{question}}, found {{{name}}}")
    if not any(name for _, name, _, _ in parts):
        raise ValueError("expected at least one field such as {question}")
    return template


Template = Annotated[str, AfterValidator(_plain_fields)]


class Contains(Frozen):
    """Keep samples with a text in one of their fields."""

    field: str = Field(min_length=1)
    text: str = Field(min_length=1, description="Looked for as it is; case does not matter.")


class Samples(Frozen):
    """What all files and data sets of samples have in common.

    A sample is one text, cut into tokens by the series' tokenizer. Samples that are alike token by
    token are one sample.
    """

    text_field: str = Field(default="text", min_length=1, description="Field with the text.")
    template: Template | None = Field(
        default=None, description="Text composed of several fields, in place of text_field."
    )
    answer_field: str | None = Field(
        default=None,
        description="Text appended after the text; when given, only its tokens count in the loss.",
    )
    separator: str = Field(default=" ", description="Between text and answer.")
    keep: Contains | None = Field(default=None, description="Which samples; all when left out.")
    limit: int | None = Field(default=None, ge=1, description="At most so many samples.")
    seed: Seed | None = Field(
        default=None, description="Choose `limit` samples at random; the first when left out."
    )
    overlong: Literal["cut", "drop"] = Field(
        default="cut", description="Samples longer than the study's max_length."
    )
    unusable: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="Samples that are malformed, empty or too short to have a loss: stop with a "
        "message, or leave them out and count them.",
    )
    duplicates: Literal["keep", "drop"] = Field(
        default="drop", description="Samples whose tokens were there already."
    )


class JsonlSamples(Samples):
    """Samples from a JSON-lines file, one object per line."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path = Field(description="The file; relative paths start at the study file.")


class ParquetSamples(Samples):
    """Samples from a Parquet file, or from all Parquet files below a folder in order of name."""

    kind: Literal["parquet"] = "parquet"
    path: Path = Field(description="File or folder; relative paths start at the study file.")


class TextSamples(Samples):
    """Samples from a text file, or from all *.txt files below a folder in order of name."""

    kind: Literal["text"] = "text"
    path: Path = Field(description="File or folder; relative paths start at the study file.")
    per: Literal["file", "paragraph", "line"] = Field(
        default="paragraph", description="What one sample is; paragraphs end at an empty line."
    )

    @model_validator(mode="after")
    def _only_text(self) -> Self:
        if self.text_field != "text" or self.template is not None or self.answer_field is not None:
            raise ValueError(
                "a text file has no fields; leave text_field, template and answer_field out"
            )
        return self


class HubSamples(Samples):
    """Samples from a data set on the Hugging Face hub, read as a stream, never completely.

    With a seed the stream is shuffled inside a window of `shuffle_window` samples, so the choice is
    random near the beginning of the data, not over all of it.
    """

    kind: Literal["hub"] = "hub"
    repository: Repository
    revision: str = Field(
        default="main", min_length=1, description="Branch, tag or commit; resolved once."
    )
    subset: str | None = Field(default=None, description="Configuration of the data set.")
    data_dir: str | None = Field(default=None, description="Folder inside the repository.")
    split: str = Field(default="train", min_length=1)
    limit: int | None = Field(default=10_000, ge=1, description="At most so many samples.")
    seed: Seed | None = Field(
        default=0, description="Choose `limit` samples at random; the first when left out."
    )
    shuffle_window: int = Field(default=10_000, ge=1, description="In samples.")
    max_read: int | None = Field(
        default=None, ge=1, description="Read at most so many samples in search of `limit`."
    )
    unusable: Literal["refuse", "drop"] = Field(
        default="drop",
        description="Samples that are malformed, empty or too short to have a loss: stop with a "
        "message, or leave them out and count them.",
    )


FileSamples = JsonlSamples | ParquetSamples | TextSamples | HubSamples
ReadSource = Annotated[FileSamples, Field(discriminator="kind")]
SampleSource = Annotated[CorpusSamples | FileSamples, Field(discriminator="kind")]

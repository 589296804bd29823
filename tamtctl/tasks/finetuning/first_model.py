"""The model that the first seed of a fine-tuning begins with, and what belongs to it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.foundations.one_at_a_time import random_state_lock
from tamtctl.models.loading import load_tokenizer
from tamtctl.models.pipeline_files import PipelineFiles
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.starting_point import StartingPoint
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.task import Task


@dataclass(frozen=True)
class FirstModel:
    """A loaded model, with its tokenizer and files.

    Attributes:
        model: The model, with its pruned weights at zero.
        pruned: Name → mask of its pruned weights; True prunes.
        tokenizer: A tokenizer that is kept unused, as using one changes what it saves.
        pipeline: The files of the base model that still apply to a new head.
        inputs: Turns texts into the model's inputs.
        notes: Notes on the model, a line each.
    """

    model: PreTrainedModel
    pruned: dict[str, Tensor]
    tokenizer: PreTrainedTokenizerFast
    pipeline: PipelineFiles
    inputs: TextInputs
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, config: FinetuneConfig, start: StartingPoint, task: Task, scale: LabelScale | None
    ) -> FirstModel:
        """Load what the first seed begins with."""
        tokenizer = load_tokenizer(start.model, start.revision)
        pipeline = PipelineFiles.of_a_part(start.model, start.revision)
        notes = [*filter(None, [pipeline.left_out])]
        with random_state_lock:
            model, pruned = start.load(task, config.seeds[0], scale=scale, note=notes.append)
        unused = copy.deepcopy(tokenizer)
        inputs = TextInputs.of(model, tokenizer, task.max_length, config.max_length)
        return cls(model, pruned, unused, pipeline, inputs, tuple(notes))

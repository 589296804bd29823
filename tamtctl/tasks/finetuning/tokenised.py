"""The examples of a fine-tuning run as inputs of the model."""

from __future__ import annotations

from dataclasses import dataclass

from tamtctl.data.padded_batches import Features
from tamtctl.foundations.devices import Compute
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.finetuning.measured_sets import MeasuredSets
from tamtctl.tasks.finetuning.run_examples import RunExamples
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.task import Task


@dataclass(frozen=True)
class Tokenised:
    """The examples of a run as inputs of the model.

    Attributes:
        features: The training set.
        apart: The training set without the held-out part.
        dev: The sets to measure on.
        held_out: The held-out part of the training set; None if nothing is held out.
    """

    features: Features
    apart: Features
    dev: MeasuredSets
    held_out: MeasuredSets | None

    @classmethod
    def of(cls, task: Task, inputs: TextInputs, compute: Compute, read: RunExamples) -> Tokenised:
        """Tokenise the examples of a run."""
        kind = kind_of(task)
        features = kind.encode(inputs, read.train).features
        is_whole = read.apart is read.train
        apart = features if is_whole else kind.encode(inputs, read.apart).features
        dev = MeasuredSets.of(task, inputs, compute, read.dev)
        if read.held_out is None:
            return cls(features, apart, dev, None)
        # The held-out part takes the names of metrics from the first dev set.
        sets = {next(iter(read.dev)): read.held_out}
        return cls(features, apart, dev, MeasuredSets.of(task, inputs, compute, sets))

    def standardise(self, scale: LabelScale) -> None:
        """Standardise the labels that are trained on, in place."""
        for one in {id(one): one for one in (self.features, self.apart)}.values():
            one.labels = scale.standardised(one.labels)

"""Opening the model of a search, and checking that model and machine suit the request."""

from __future__ import annotations

from typing import Any

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import NoHeadError, UsageError
from tamtctl.foundations.public_names import public_model
from tamtctl.foundations.watching import Watcher
from tamtctl.models.encoder import Encoder, check_length
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import CRITERIA
from tamtctl.pruning.methods import TAMT
from tamtctl.pruning.objectives.pooling import sentence_pooling


def open_model(config: SearchConfig, watcher: Watcher[Any]) -> tuple[Compute, Encoder]:
    """Return device and precision of a search, and its model with all of its matrices.

    Args:
        config: The whole search.
        watcher: Is told of the progress.

    Raises:
        UsageError: The device or the model does not support what the search asks for.
        ModelError: The model cannot be loaded.
    """
    world().check_batch(config.batch_size)
    compute = Compute.choose(config.device, config.precision, config.threads)
    if config.low_memory and compute.device.type != "cpu":
        raise UsageError(
            f"--low-memory is for --device cpu: on {compute.device.type} the frozen weights "
            "are needed where the model is"
        )
    if config.compile:
        watcher.status("trying the compiler")
        compute.check_compiler()
    if config.base_model is not None and public_model(config.model)[0] == config.model:
        raise UsageError(
            f"--base-model is for a --model in a local folder, and {config.model!r} is none"
        )
    watcher.status(f"loading model {config.model}")
    encoder = world().in_turn(lambda: _loaded(config))
    check_length(config.sequence_length, encoder.model, what="--sequence-length")
    return compute, encoder


def _loaded(config: SearchConfig) -> Encoder:
    """Return the model of a search, with its head if the objective or a criterion needs one.

    Raises:
        NoHeadError: The model has no head; the message names what needs it.
        ModelError: A term needs sentence embeddings, and the model does not say how it makes them.
    """
    try:
        sentence_pooling(config.model, None, config.terms)  # raises before the model is loaded
        return load_encoder(config.model, with_head=config.needs_head)
    except NoHeadError as error:
        row = next((one for one in config.criteria if one.needs_head), None)
        if row is None:
            raise
        option = "method" if config.method != TAMT else "init"
        if row.name != config.criterion.name:
            option = "budget-criterion"
        others = [one.name for one in CRITERIA.values() if one.needs_text and not one.needs_head]
        raise NoHeadError(
            f"--{option} {row.name} needs a masked-LM head, which model {config.model!r} does not "
            f"have; give one that needs none, such as {', '.join(others)}"
        ) from error

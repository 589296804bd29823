"""Opening the model of a search, and checking that model and machine suit the request."""

from __future__ import annotations

from typing import Any

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.public_names import public_model
from tamtctl.foundations.watching import Watcher
from tamtctl.models.encoder import Encoder, check_length
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.lending import loaded


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
    encoder = world().in_turn(lambda: loaded(config))
    check_length(config.sequence_length, encoder.model, told="--sequence-length")
    return compute, encoder

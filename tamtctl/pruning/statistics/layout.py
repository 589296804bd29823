"""The layout of an encoder: where its matrices are used, found by running two sequences.

A matrix is the weight of linear layers, or the table of word embeddings. A layer may be used
several times, as in ALBERT, and several layers may have the same input, as query, key and value
have.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tamtctl.data.batch import Batch
from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import Encoder


@dataclass(frozen=True)
class Layout:
    """Where the matrices of an encoder are used.

    Attributes:
        shapes: Name → shape of every matrix that is used, in module order.
        tables: Names of the matrices that tokens are looked up in.
        leaders: Name → the first matrix with the same inputs, which may be the matrix itself.
        is_of_tokens: Name → for each use, whether it has an input for every token of the batch;
            otherwise its inputs are the same for every sequence.
    """

    shapes: dict[str, tuple[int, ...]]
    tables: frozenset[str]
    leaders: dict[str, str]
    is_of_tokens: dict[str, tuple[bool, ...]]

    @property
    def has_common_inputs(self) -> bool:
        """Whether a use has the same inputs for all sequences: its gradient is then the batch's."""
        return not all(all(uses) for uses in self.is_of_tokens.values())

    @classmethod
    def of(cls, encoder: Encoder, batch: Batch) -> Layout:
        """Run the first two sequences of a batch, and one of them, on the device of the model.

        Inputs are compared by identity and version. All of them are kept until the end, so that no
        memory is reused, and a tensor that was written to in between counts as a different one.

        Raises:
            ModelError: The model has other positions than the batch, such as padding of its own, so
                that nothing can be learnt from the tokens of a sequence.
        """
        few = batch.split(min(2, len(batch.input_ids)))[0]
        seen, alone = _uses(encoder, few), _uses(encoder, few.split(1)[0])
        first: dict[tuple[tuple[int, int], ...], str] = {}
        leaders = {
            name: first.setdefault(tuple((id(one), version) for one, version in uses), name)
            for name, uses in seen.items()
        }
        names = [name for name in encoder.matrices if name in seen]
        embeddings = encoder.base.get_input_embeddings().weight
        are_tokens = {name: _are_tokens(name, encoder, few, seen, alone) for name in names}
        return cls(
            shapes={name: tuple(encoder.matrices[name].shape) for name in names},
            tables=frozenset(n for n in names if encoder.matrices[n] is embeddings),
            leaders={name: leaders[name] for name in names},
            is_of_tokens=are_tokens,
        )


_Uses = dict[str, list[tuple[Tensor, int]]]  # name → inputs and their version, for each use


def _uses(encoder: Encoder, batch: Batch) -> _Uses:
    seen: _Uses = {}

    def see(name: str, module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        inputs = arguments[0]
        version = 0 if inputs.is_inference() else inputs._version
        seen.setdefault(name, []).append((inputs, version))

    with torch.no_grad(), hooked(encoder, see):
        run(encoder, batch)
    return seen


def _are_tokens(
    name: str, encoder: Encoder, batch: Batch, seen: _Uses, alone: _Uses
) -> tuple[bool, ...]:
    """Return for each use of a matrix whether it has an input for every token of the batch.

    Else its inputs are the same for every sequence, and so as many for one alone, or one for each.
    """
    shape, found, uses = batch.input_ids.shape, [], seen[name]
    singles = alone.get(name, [])
    for i, (inputs, _) in enumerate(uses):
        is_same = len(singles) != len(uses) or inputs.shape == singles[i][0].shape
        rows = len(inputs) if inputs.dim() == 2 else 0
        is_flat = rows == shape.numel() and not is_same
        found.append(inputs.shape[:2] == shape or is_flat)
        if not (found[-1] or is_same or rows == shape[0]):
            raise ModelError(
                f"{name} of this {type(encoder.base).__name__} has inputs of the shape "
                f"{list(inputs.shape)} for {shape[0]} sequences of {shape[1]} tokens: what a "
                "criterion would learn from the text is not that of its tokens; use --init "
                "magnitude (--method: magnitude or random) and --allocation uniform"
            )
    return tuple(found)


def run(encoder: Encoder, batch: Batch, *, with_head: bool = False, states: bool = False) -> Any:
    """Run a batch through the encoder, and its masked positions through the head.

    Args:
        encoder: With a head if it is wanted.
        batch: On the device of the model.
        with_head: Whether the head follows.
        states: Whether the hidden states of all layers are wanted.
    """
    options: dict[str, Any] = {"output_hidden_states": states, "return_dict": True}
    if batch.attention_mask is not None:
        options["attention_mask"] = batch.attention_mask
    if not with_head:
        return encoder.base(input_ids=batch.input_ids, **options)

    def keep_masked(module: nn.Module, inputs: Any, output: Any) -> Any:
        states = output.last_hidden_state  # (B, T, H)
        output["last_hidden_state"] = states.flatten(0, 1)[batch.masked].unsqueeze(0)
        return output

    hook = encoder.base.register_forward_hook(keep_masked)
    try:
        return encoder.model(input_ids=batch.input_ids, **options)
    finally:
        hook.remove()


@contextmanager
def hooked(encoder: Encoder, see: Any) -> Iterator[None]:
    """Call ``see(name, module, arguments, output)`` after every use of a matrix in this context."""
    names = {id(parameter): name for name, parameter in encoder.matrices.items()}
    embeddings = encoder.base.get_input_embeddings()
    with ExitStack() as hooks:
        for module in encoder.base.modules():
            if not isinstance(module, nn.Linear) and module is not embeddings:
                continue
            if (name := names.get(id(module.weight))) is not None:
                hooks.callback(module.register_forward_hook(partial(see, name)).remove)
        yield

"""Finding the transformers models inside a wrapped model.

Models are wrapped by `torch.compile`, data parallelism, sentence-transformers or a user's own
modules, or held by a pipeline. If the weights differ in form from the checkpoint's (sharded,
quantised, with adapters), no mask fits, and an error names the class.
"""

from __future__ import annotations

from torch import nn
from transformers import Pipeline, PreTrainedModel

from tamtctl.foundations.errors import TicketError
from tamtctl.models.encoder import base_encoder

# Name of a class → reason and remedy; by name, since the libraries may not be installed.
_BEFORE = "apply the ticket to the model before it is wrapped"
_NOT_THE_WEIGHTS = {
    "FullyShardedDataParallel": f"which holds shards of the weights; {_BEFORE}",
    "FSDPModule": f"which holds shards of the weights; {_BEFORE}",
    "DeepSpeedEngine": f"which holds weights of its own; {_BEFORE}",
    "PeftModel": "in which adapters stand beside the weights; apply the ticket to the model before "
    "get_peft_model",
}


def models_inside(model: object) -> list[PreTrainedModel]:
    """Return the transformers models inside a model, or inside an object that holds one.

    Args:
        model: A transformers model; one wrapped by `torch.compile`, DistributedDataParallel or
            DataParallel, also nested; a SentenceTransformer or CrossEncoder; any other module
            with transformers models inside; a pipeline of transformers.

    Returns:
        The outermost models, each once; a SentenceTransformer with a Router has several.

    Raises:
        TicketError: There is none, or its weights are sharded or have adapters.
    """
    if isinstance(model, Pipeline):
        model = model.model
    if not isinstance(model, nn.Module):
        raise TicketError(f"a ticket applies to a transformers model, not to {_called(model)}")
    found: list[PreTrainedModel] = []
    _collect(model, found)
    if not found:
        raise TicketError(
            f"a ticket applies to a transformers model, and there is none in {_called(model)}"
        )
    return found


def is_data_parallel(model: object) -> bool:
    """Whether a DistributedDataParallel is in the model: several processes share its gradients."""
    return isinstance(model, nn.Module) and any(
        isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules()
    )


def layer_at(model: PreTrainedModel, name: str) -> str | None:
    """Return the name of the layer in place of a plain Linear or Embedding; None if plain.

    That is the name of its class and, where torch has another class of this name, its package, such
    as ``Linear of peft``.

    Args:
        model: A model whose layers may be quantised or have adapters.
        name: Name of the layer's matrix, in the base encoder.
    """
    layer: object = base_encoder(model)
    for part in name.split(".")[:-1]:
        layer = getattr(layer, part, None)
    if not isinstance(layer, nn.Module) or isinstance(layer, nn.Linear | nn.Embedding):
        return None
    has_weight = hasattr(layer, "weight") or hasattr(layer, "base_layer")  # base_layer: peft
    name, package = type(layer).__name__, type(layer).__module__.partition(".")[0]
    called = f"{name} of {package}" if hasattr(nn, name) else name
    return called if has_weight else None


def _collect(module: nn.Module, found: list[PreTrainedModel]) -> None:
    for kind in type(module).__mro__:
        if remedy := _NOT_THE_WEIGHTS.get(kind.__name__):
            raise TicketError(
                f"a ticket applies to a transformers model, not to {_called(module)}, {remedy}"
            )
    if isinstance(module, PreTrainedModel):
        if not any(module is other for other in found):
            found.append(module)
        return
    for child in module.children():
        _collect(child, found)


def _called(model: object) -> str:
    if model is None:
        return "None"
    name = type(model).__name__
    called = f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
    if isinstance(model, str):
        return f"{called}; load it first (AutoModel.from_pretrained)"
    if isinstance(getattr(model, "model", None), nn.Module) and not isinstance(model, nn.Module):
        return f"{called}; give its .model"
    return called

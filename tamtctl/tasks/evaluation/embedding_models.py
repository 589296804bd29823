"""Loading models that embed texts: an encoder, pruned by its ticket, and its pooling."""

from __future__ import annotations

from dataclasses import replace

from tamtctl.foundations.devices import Compute
from tamtctl.models.encoder import Encoder
from tamtctl.models.onnx.encoder import find_graph, load_graph
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.pruning.trained.folded_weights import fold
from tamtctl.tasks.evaluation.checkpoint import FineTuned
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.evaluation.losses import id_of, load_for, masks_of
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.ticket.ticket import Ticket


def load_embedding_model(
    config: EvaluateConfig, ticket: Ticket | None, fine_tuned: FineTuned | None, compute: Compute
) -> tuple[Encoder, SentencePipeline]:
    """Return an encoder on its device, pruned by the ticket, and how it makes embeddings.

    A folder with an ONNX graph and no weights for torch is measured by ONNX Runtime.

    Raises:
        ModelError: The model cannot be loaded, or its pooling is not supported.
        TicketError: The ticket was found for other weights.
    """
    if not ticket and (graph := find_graph(config.name)):
        loaded = load_graph(config.name, graph, config.threads)
        return loaded, SentencePipeline.of(config.name)
    encoder = load_for(config, ticket)
    if ticket:
        masks = masks_of(ticket, encoder)
        fold(encoder.matrices, {n: p.detach().clone() for n, p in encoder.matrices.items()}, masks)
    compute.place(encoder.model)
    if fine_tuned:
        pipeline = fine_tuned.pipeline()
        if kind_of(fine_tuned.task).ranks:
            note = (
                f"{config.name} is a reranker, which reads query and passage together: these are "
                "embeddings of its encoder, and say nothing of its ranking"
            )
            pipeline = replace(pipeline, note=note)
        return encoder, pipeline
    return encoder, SentencePipeline.of(*id_of(config, ticket))

"""How a model's files say that sentence embeddings are made, for the terms that need them.

A model without this information is refused. Its users may take the mean of the tokens or the first
token, and a mask that was trained for the wrong one would look as good as any other.
"""

from __future__ import annotations

from tamtctl.foundations.errors import ModelError
from tamtctl.models.files import MODULES
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.pruning.objectives.table import Terms, headless


def sentence_pooling(name: str, revision: str | None, terms: Terms) -> SentencePipeline | None:
    """Return how a model makes sentence embeddings; None if no term needs them.

    No prompt is put before the rows of a text.

    Args:
        name: ``nano``, a folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        terms: The terms of the objective.

    Raises:
        ModelError: The model does not say how, or in a way that is not known here.
    """
    if not terms.need_embeddings:
        return None
    pipeline = SentencePipeline.of(name, revision)
    if pipeline.is_own:
        return pipeline
    wanting = " and ".join(term.name for term in terms if term.needs_embeddings)
    reason = pipeline.note or f"it has no {MODULES}"
    raise ModelError(
        f"{wanting} takes sentence embeddings, and model {name!r} does not say how its "
        f"tokens are pooled ({reason}); save it with sentence-transformers, or take "
        f"{headless().name}"
    )

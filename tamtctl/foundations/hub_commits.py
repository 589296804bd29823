"""The current commit of a dataset on the Hub, by which a run identifies its data."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from tamtctl.foundations.cache import cache_folder, keep_if_possible
from tamtctl.foundations.files import write_whole

_ASKED_AGAIN_AFTER = 60.0  # seconds, so that the runs of a sweep share one answer

_answers: dict[str, tuple[float, str]] = {}


def dataset_commit(repo_id: str) -> str:
    """Return the commit of a dataset's main branch.

    If the Hub does not answer, the last known commit is returned, since the data fetched then are
    the data in the cache now.

    Raises:
        huggingface_hub.errors.HfHubHTTPError: The Hub refuses.
        ConnectionError: The Hub does not answer, and no commit is known from before.
    """
    from huggingface_hub import HfApi, errors

    # The base class of its HTTP library's errors, which it exports without listing it.
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    asked, commit = _answers.get(repo_id, (0.0, ""))
    if commit and time.monotonic() - asked < _ASKED_AGAIN_AFTER:
        return commit
    kept = _kept(repo_id)
    try:
        commit = HfApi().dataset_info(repo_id, timeout=30).sha or ""
    except errors.HfHubHTTPError:
        raise
    except (http_error, ConnectionError, TimeoutError):
        with suppress(OSError, UnicodeDecodeError):
            return kept.read_text(encoding="ascii")
        raise
    _answers[repo_id] = time.monotonic(), commit
    keep_if_possible(kept, lambda file: write_whole(file, commit.encode("ascii")))
    return commit


def _kept(repo_id: str) -> Path:
    return cache_folder("commits") / hashlib.sha256(repo_id.encode()).hexdigest()

"""Where a model is: in a folder, inside the package, in the Hub's cache, or on the Hub."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tamtctl.foundations.errors import HubError, ModelError
from tamtctl.foundations.hub_requests import TIMEOUT, HubRequests, UnreachableError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.plain_files import is_special
from tamtctl.models.files import CONFIG_FILE, encoder_folder, encoder_on_hub, nano_path


def model_folder(name: str) -> Path | None:
    """Return the folder of a local model; None for one on the Hub.

    Raises:
        ModelError: The name is that of a file, or of a folder that holds no model.
    """
    source = Path(source_of(name))
    return source if name == "nano" or source.is_dir() else None


def source_of(name: str) -> str:
    """Return the name that transformers loads a model by: the path of a folder, or a Hub id.

    Raises:
        ModelError: The name is that of a file, or of a folder that holds no model.
    """
    if name == "nano":
        return str(nano_path())
    folder = expanded(name)
    if folder.is_dir():
        if odd := next((file for file in sorted(folder.iterdir()) if is_special(file)), None):
            raise ModelError(
                f"model folder {name!r} holds {odd.name}, a pipe, a socket or a device; remove it"
            )
        if encoder := encoder_folder(folder):
            return source_of(str(encoder))
        if not (folder / CONFIG_FILE).is_file():
            raise ModelError(f"model folder {name!r} has no config.json; give a saved checkpoint")
        if os.fsencode(folder).decode(errors="ignore") != str(folder):
            raise ModelError(
                f"model folder {name!r} has a name that is not UTF-8, which no weights can be read "
                "by; rename it"
            )
        return str(folder)
    if folder.exists():
        raise ModelError(f"model {name!r} is a file; give the folder of a saved checkpoint")
    return name


@lru_cache
def reach(name: str, revision: str | None) -> Path:
    """Return the path of a Hub model's configuration file, after fetching it if necessary.

    It is fetched here because transformers does not report what the Hub answers. If the Hub does
    not answer, the copy in the cache is used.

    Args:
        name: A Hub id.
        revision: Branch, tag or commit; None for ``main``.

    Raises:
        ModelError: The name is no Hub id, the Hub refuses it, or the Hub does not answer and the
            cache has no copy.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ModelError(
            f"model {name!r} is neither a folder nor the name of a model on the Hub; give one of "
            "them, or use --model nano"
        ) from error
    hub = HubRequests(name, revision)

    def fetch() -> str:
        try:
            return hf_hub_download(
                name, CONFIG_FILE, revision=revision, token=hub.token or False,
                library_name="tamtctl",
            )  # fmt: skip
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
            raise ModelError(_no_configuration(name)) from error

    try:
        try:  # fails at once without a network, where a download would be retried for minutes
            hub.ask(lambda: hub.api.model_info(name, revision=revision, timeout=TIMEOUT))
        except UnreachableError:
            found = try_to_load_from_cache(name, CONFIG_FILE, revision=revision)
            if not isinstance(found, str):
                raise
            return Path(found)
        return Path(hub.ask(fetch))
    except HubError as error:
        raise ModelError(not_reachable(name, error)) from error


def commit_of(name: str, revision: str | None = None) -> str | None:
    """Return the commit of a model on the Hub; None for one in a folder.

    Args:
        name: ``nano``, a folder, or a Hub id.
        revision: Branch, tag or commit; None for ``main``.

    Raises:
        ModelError: As `model_folder` and `reach` do.
    """
    if model_folder(name) is not None:
        return None
    # The cache has a folder of files for each commit; transformers no longer tells which it read.
    snapshot = reach(name, revision).parent
    assert snapshot.parent.name == "snapshots"
    return snapshot.name


def _no_configuration(name: str) -> str:
    if encoder := encoder_on_hub(name):
        return (
            f"the encoder of the sentence-transformers model {name} is in its folder {encoder}; "
            f"fetch the model (hf download {name} --local-dir FOLDER) and give FOLDER/{encoder}"
        )
    return f"{name} on the Hub is no model: it has no {CONFIG_FILE}"


def not_reachable(name: str, why: object) -> str:
    """Return the message that a model is no folder, and why the Hub does not give it."""
    return f"model {name!r} is neither a folder nor reachable on the Hub: {why}"

"""Copying a model's original vocabulary files, such as ``vocab.txt``, for other tools.

A checkpoint is written with ``tokenizer.json``, which transformers reads. Other tools need the
``vocab.txt`` or ``spm.model`` that the tokenizer was made from.
"""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.plain_files import leads_out, read_regular
from tamtctl.models.files import ModelFiles
from tamtctl.models.sources import model_folder

_MOST_BYTES = 2**28


def copy_vocabulary(
    name: str, revision: str | None, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Copy a model's vocabulary files into a checkpoint's folder, except links out of its folder.

    Args:
        name: ``nano``, a folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        tokenizer: The model's tokenizer, whose class knows the names of these files.
        folder: The checkpoint's folder; files that it already has stay.

    Raises:
        ModelError: A file cannot be read.
    """
    files = ModelFiles(name, model_folder(name), revision)
    for file in sorted(set(tokenizer.vocab_files_names.values())):
        is_odd = Path(file).name != file or (folder / file).exists()
        if is_odd or (files.folder is not None and leads_out(files.folder, file)):
            continue
        if source := files.path(file):
            try:
                content = read_regular(source, _MOST_BYTES)
            except OSError as error:
                raise ModelError(f"model {name!r}: cannot read {file} ({error})") from error
            (folder / file).write_bytes(content)

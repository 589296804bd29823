"""Searches of a model on the Hub: its commit is recorded, and a new one is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_commands import run_with_hub
from hub_server import running_hub

pytestmark = pytest.mark.usefixtures("working_folder")


def test_the_commit_is_recorded_and_a_new_one_is_noticed(tiny_model: Path, text_file: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}
    search = f"search --method magnitude --sparsity 0.5 --model org/bert --corpus {text_file}"
    search += " --sequence-length 16 --output-dir found"
    with running_hub(lfs=True) as hub:
        commit = hub.add("org/bert", files)
        for _ in range(2):
            ((code, _, error),) = run_with_hub([search], HF_ENDPOINT=hub.url)
            assert code == 0, error
        hub.repos["org/bert"].commit(files | {"README.md": b"words"})
        ((code, _, error),) = run_with_hub([search], HF_ENDPOINT=hub.url)
    ticket = json.loads(Path("found/ticket/ticket.json").read_text())
    assert (ticket["base_model"]["id"], ticket["base_model"]["revision"]) == ("org/bert", commit)
    assert code == 1
    assert "commit of model org/bert" in error

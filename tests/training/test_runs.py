from __future__ import annotations

import json
from pathlib import Path

import pytest

from tamtctl.foundations.errors import TamtctlError, UsageError
from tamtctl.training.run_folder import RunFolder, write_json


def test_a_run_is_finished_once_its_result_is_written(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a" / "run", {"steps": 3})
    assert run.finished() is None
    assert not run.path.exists()
    run.start()
    assert run.finished() is None  # unfinished: it may start over
    run.finish({"loss": 1.5})
    assert run.finished() == {"loss": 1.5}
    assert run.finished(force=True) is None
    run.start()
    assert run.finished() is None


def test_another_configuration_or_other_content_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {"steps": 3}).start()
    with pytest.raises(UsageError, match="not empty"):
        RunFolder(tmp_path / "run", {"steps": 4}).finished()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="choose another --output-dir"):
        RunFolder(tmp_path / "mine", {"steps": 3}).finished(force=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder(tmp_path / "file", {}).finished()
    with pytest.raises(TamtctlError, match=r"cannot be written: there is a file .*/file'"):
        RunFolder(tmp_path / "file" / "run", {}).finished()


def test_json_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]

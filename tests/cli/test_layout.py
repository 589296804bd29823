"""Text set out for a screen: nothing is cut off, and what does not fit has a line of its own."""

from __future__ import annotations

import io

from rich.cells import cell_len
from rich.console import Console

from tamtctl.cli.console import PlainTable
from tamtctl.cli.layout import Column, bar, beside, fitting, table
from tamtctl.cli.wrapping import hanging

LONG = "runs/" + "a" * 70
NAMES = Column("ticket", ["nano-0.5", "日本語", LONG])
NUMBERS = Column("loss", ["4.044", "10.5", "–"], right=True)


def test_a_name_too_long_for_its_column_has_a_line_of_its_own() -> None:
    lines = table([NAMES, NUMBERS], 40)
    assert LONG in lines
    assert [cell_len(line) for line in lines if line != LONG] == [40] * 4
    assert lines[0].split() == ["ticket", "loss"]
    assert lines[-1].split() == ["–"]


def test_a_wide_screen_has_one_line_for_each_row() -> None:
    heading, *rows = table([NAMES, NUMBERS], 200)
    assert [row.split() for row in rows] == [["nano-0.5", "4.044"], ["日本語", "10.5"], [LONG, "–"]]
    assert len({cell_len(line) for line in (heading, *rows)}) == 1


def test_columns_that_do_not_fit_are_left_out_from_the_end() -> None:
    columns = [NAMES, NUMBERS, Column("size", ["1 kB"] * 3), Column("model", ["m" * 20] * 3)]
    assert [column.heading for column in fitting(columns, 40, 2)] == ["ticket", "loss", "size"]
    assert len(fitting(columns, 200, 2)) == 4
    assert len(fitting(columns, 5, 2)) == 2


def test_words_hang_behind_their_label_and_paths_stay_whole() -> None:
    path = "/a/long/path-that-is-not/broken-anywhere"
    lines = hanging("where", f"it is in {path} or so", 8, 30)
    assert lines[0].startswith("where   it")
    assert all(line.startswith(" " * 8) for line in lines[1:])
    assert any(path in line for line in lines)
    assert hanging("", "a b", 0, 80) == ["a b"]


def test_bars_show_shares() -> None:
    assert bar(1, 4) == "████"
    assert bar(0.5, 4) == "██"
    assert bar(0, 4) == ""
    assert bar(1e-9, 4) == "▏"  # something is not nothing
    assert bar(7, 4) == "████"


def test_blocks_stand_side_by_side_if_there_is_room() -> None:
    assert beside(["a", "bb"], ["1"], 20) == ["a    1", "bb"]
    assert beside(["a", "bb"], ["1"], 4) == ["a", "bb", "", "1"]


def test_a_table_on_a_narrow_screen_folds_what_is_too_wide() -> None:
    shown = PlainTable("ticket", "× dense")
    shown.add_row("tiny-bert-0.5-tamt-mlm-1077cdc5", "1.05 [0.71, 1.70]")
    stream = io.StringIO()
    Console(file=stream, width=24).print(shown)
    cells = [line.split("│")[1:3] for line in stream.getvalue().splitlines() if "│" in line]
    names, numbers = (
        "".join(cell.strip() for cell in column) for column in zip(*cells, strict=True)
    )
    assert names == "tiny-bert-0.5-tamt-mlm-1077cdc5"
    assert numbers.replace(" ", "") == "1.05[0.71,1.70]"

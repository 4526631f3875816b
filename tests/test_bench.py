"""The benchmark's page, and its sides: what is measured is what is said."""

import pytest
import torch
from conftest import ROOT

from mae_ablation.bench import __main__ as bench
from mae_ablation.bench import page
from mae_ablation.bench.pairs import Row, in_turn, quotients
from mae_ablation.bench.shapes import SHAPES, Shape
from mae_ablation.bench.sides import SIDES

ABOUT = {"machine": "a CPU, 2 cores", "commit": "abc", "date": "2026-01-01"}
TOY = Shape(
    name="toy",
    image_size=8,
    patch_size=2,
    channels=3,
    encoder=(16, 1, 2),
    decoder=(8, 1, 2),
    batch=6,
    threads=1,
    steps=1,
)


def a_row(**changes):
    values = {"what": "a step", "against": "theirs", "target": 2.0, "values": (2.5, 1.5, 2.0)}
    return Row(**(values | changes))


def test_a_row_is_met_by_its_median():
    assert a_row().is_met and not a_row(target=2.1).is_met
    assert a_row(relation="<=").is_met and not a_row(relation="<=", target=1.9).is_met


def test_both_sides_are_measured_in_turn():
    said = []
    ours, theirs = in_turn(lambda: said.append("o") or 2.0, lambda: said.append("t") or 6.0, 2)
    assert "".join(said) == "otot" and quotients(theirs, ours) == (3.0, 3.0)


def test_the_page_keeps_what_other_parts_measured(tmp_path):
    slow = a_row(what="a share", target=0.05, relation="<=", values=(0.1,), note="Measured once.")
    page.keep(tmp_path, "steps", ABOUT, page.as_json([a_row(ours=(1.0,), theirs=(2.0,))]))
    page.keep(tmp_path, "data", ABOUT, page.as_json([slow]))
    page.keep(tmp_path, "steps", {**ABOUT, "commit": "def"}, page.as_json([a_row()]))
    text = (tmp_path / page.PAGE).read_text()
    assert "| a step | theirs | 2 (1.5, 2.5) | ≥ 2 | met |" in text
    assert "| a share | theirs | 0.1 (once) | ≤ 0.05 | missed |" in text
    assert "**steps**: a CPU, 2 cores; commit def; 2026-01-01." in text
    assert "- a share, against theirs: Measured once." in text


def test_what_cannot_be_measured_here_stays_as_another_machine_had_it(tmp_path, monkeypatch):
    page.keep(tmp_path, "bfloat16", ABOUT, page.as_json([a_row()]))
    before = page.known(tmp_path)
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(bench.PARTS, "bfloat16", lambda rounds: {"rows": []})
    monkeypatch.setattr("sys.argv", ["bench", "bfloat16", "--reports", str(tmp_path)])
    assert bench.main() == 0 and page.known(tmp_path) == before


@pytest.mark.parametrize("side", ["ours", "ours, bfloat16"])
def test_our_side_takes_steps(side):
    step = SIDES[side](TOY)
    images = torch.randn(TOY.batch, TOY.channels, TOY.image_size, TOY.image_size)
    step(images)
    step(images)


def test_shapes_mask_three_quarters():
    assert [shape.patches for shape in SHAPES.values()] == [36, 64, 196]
    assert all(4 * shape.keep == shape.patches for shape in SHAPES.values())

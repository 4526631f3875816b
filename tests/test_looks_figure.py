"""The picture of looks: an axis for each row, with its intervals until it is decided."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from mae_ablation.report.looks_figure import draw_looks, draw_row
from mae_ablation.report.sequential import decide
from mae_ablation.study.seeds import Sequential

DECLARED = Sequential(looks=(3, 5, 8), margin=0.5)
ROWS = {
    "0.1": [-3.0, -3.1, -2.9, -3.2],
    "0.5": [0.1, -0.1, 0.0, 0.05, -0.05, 0.1, 0.0, 0.1],
    "0.6": [1.0, -1.0, 2.0, 0.3, -0.4, 1.0],
    "0.7": [0.4],
    "0.9": [],
}


def differences():
    return {name: dict(enumerate(values)) for name, values in ROWS.items()}


def test_every_row_is_drawn(tmp_path):
    draw_looks(differences(), DECLARED, range(8), tmp_path, "looks")
    with Image.open(tmp_path / "looks.png") as picture:
        assert picture.width > picture.height > 100
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


@pytest.mark.parametrize(
    ("name", "intervals", "said"),
    [
        ("0.1", 1, "different after 3 seeds"),
        ("0.5", 2, "no difference after 5 seeds"),
        ("0.6", 2, "undecided so far, 5 of 8 seeds"),
        ("0.7", 0, "undecided so far, 0 of 8 seeds"),
    ],
)
def test_a_row_ends_with_the_look_that_decided_it(name, intervals, said):
    found = decide(differences(), DECLARED, range(8))[name]
    figure, axis = plt.subplots()
    row = np.array([*ROWS[name], *[np.nan] * (8 - len(ROWS[name]))])
    draw_row(axis, name, row, found, DECLARED)
    drawn = [
        line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_color() != "0.3"
    ]
    assert len(drawn) == intervals and axis.get_title().endswith(said)
    widths = [np.ptp(line.get_ydata()) for line in drawn]
    assert widths == sorted(widths, reverse=True)
    plt.close(figure)

"""Toy: studies whose trials take seconds, and notes of when each trial began and ended."""

import json
from pathlib import Path
from typing import NamedTuple

RECIPE = """\
data: {{image_size: 30, train_images: 2000, validation_images: 100}}
model:
  patch_size: 5
  encoder_width: 16
  encoder_depth: 1
  encoder_heads: 2
  decoder_width: 8
  decoder_depth: 1
  decoder_heads: 2
pretrain: {{epochs: {epochs}, warmup_epochs: 0, batch_size: 50}}
linear_probe: {{epochs: 2, warmup_epochs: 1, batch_size: 50}}
"""
NOTES = "times.jsonl"


class Span(NamedTuple):
    """When something was at work, in seconds since the epoch."""

    begin: float
    end: float


def write_study(place: Path, name: str, field: str, levels: list[float], epochs: int = 1) -> Path:
    """studies/NAME.yaml with one factor, and the toy recipe beside it."""
    studies = place / "studies"
    (studies / "recipes").mkdir(parents=True, exist_ok=True)
    (studies / "recipes" / "toy.yaml").write_text(RECIPE.format(epochs=epochs))
    lines = "".join(f"    - {level:.8f}\n" for level in levels)
    study = studies / f"{name}.yaml"
    study.write_text(f"recipe: toy\nfactors:\n  {field}:\n{lines}")
    return study


def note(folder: Path, begin: float, end: float) -> None:
    """Append a span to the folder's notes."""
    with (folder / NOTES).open("a") as file:
        file.write(json.dumps([begin, end]) + "\n")


def noted(folder: Path) -> list[Span]:
    """The spans of a folder, in order."""
    lines = (folder / NOTES).read_text().splitlines()
    return sorted(Span(*json.loads(line)) for line in lines)


def gaps(spans: list[Span]) -> list[float]:
    """Seconds between the end of each and the beginning of the next."""
    return [b.begin - a.end for a, b in zip(spans, spans[1:], strict=False)]

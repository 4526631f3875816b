"""Presets: the paper's and the official code's fine-tuning settings, by the model's size.

A preset lies beneath what a recipe says itself: `preset: paper_table9` with `epochs: 5` takes
everything but the epochs from Table 9.
"""

from typing import Any

SIZES = {(768, 12): "B", (1024, 24): "L", (1280, 32): "H"}
"""size of the encoder by its width and depth; any other takes the values of ViT-B"""

_TABLE_9 = {
    "warmup_epochs": 5,
    "batch_size": 1024,
    "base_lr": 1e-3,
    "weight_decay": 0.05,
    "beta1": 0.9,
    "beta2": 0.999,
    "layer_decay": 0.75,
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "randaugment_magnitude": 9,
    "random_erasing": 0.0,
}
# from scratch (Table 11), where it differs from fine-tuning
_TABLE_11 = {
    **_TABLE_9,
    "warmup_epochs": 20,
    "batch_size": 4096,
    "base_lr": 1e-4,
    "weight_decay": 0.3,
    "beta2": 0.95,
    "layer_decay": 1.0,
    "ema": 0.9999,
}
# the official code's instructions, which differ from the paper in these
_REPO = {**_TABLE_9, "random_erasing": 0.25}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper_table9": {
        "B": {**_TABLE_9, "epochs": 100, "drop_path": 0.1},
        "L": {**_TABLE_9, "epochs": 50, "drop_path": 0.1},
        "H": {**_TABLE_9, "epochs": 50, "drop_path": 0.2},
    },
    "repo_finetune_md": {
        "B": {**_REPO, "epochs": 100, "drop_path": 0.1, "base_lr": 5e-4, "layer_decay": 0.65},
        "L": {**_REPO, "epochs": 50, "drop_path": 0.2},
        "H": {**_REPO, "epochs": 50, "drop_path": 0.3},
    },
    "paper_table11": {
        "B": {**_TABLE_11, "epochs": 300, "drop_path": 0.1},
        "L": {**_TABLE_11, "epochs": 200, "drop_path": 0.2},
        "H": {**_TABLE_11, "epochs": 200, "drop_path": 0.2},
    },
}


def model_size(encoder_width: int, encoder_depth: int) -> str:
    """Name the size of an encoder: "B", "L" or "H"."""
    return SIZES.get((encoder_width, encoder_depth), "B")


def difference(preset: str, other: str, size: str) -> dict[str, tuple[Any, Any]]:
    """Find the settings in which two presets differ, each with both values."""
    one, two = PRESETS[preset][size], PRESETS[other][size]
    return {name: (one[name], two[name]) for name in one if one[name] != two[name]}

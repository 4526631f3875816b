"""Linear probe on features encoded once, against images encoded anew in every epoch."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.evaluation import clear_features, evaluate
from mae_ablation.train.run import PhaseRun

from .compare import Row, in_turn, laptop
from .training import pretrained

EPOCHS = 90  # paper, Table 10
TIMED = 3  # epochs of the other side, whose seconds are taken for all


def probe(rounds: int, recipe=None) -> list[Row]:
    """Compares the protocols "cached" and "paper" of the phase itself, with one thread."""
    torch.set_num_threads(1)
    recipe = recipe or laptop()
    with tempfile.TemporaryDirectory() as folder:
        place, taken = Path(folder), []
        upstream, _ = pretrained(recipe, place)

        def phase_s(protocol: str, epochs: int) -> float:
            settings = replace(
                recipe.linear_probe, protocol=protocol, epochs=epochs, warmup_epochs=0
            )
            taken.append(place / str(len(taken)))
            taken[-1].mkdir()
            clear_features()  # each side encodes for itself
            run = PhaseRun(folder=PhaseFolder.at(taken[-1]))
            changed = replace(recipe, linear_probe=settings)
            done = evaluate(changed, "linear_probe", 0, run, source="pretrain", upstream=upstream)
            return done["seconds"]

        ours, theirs = in_turn(
            lambda: phase_s("cached", EPOCHS),
            lambda: phase_s("paper", TIMED) / TIMED * EPOCHS,
            rounds,
        )
    return [
        Row(
            what=f"linear probe of {EPOCHS} epochs",
            against="every image encoded anew in every epoch, as the paper has it",
            ours=ours,
            theirs=theirs,
            note="Recipe laptop, one thread, the phase's own protocols cached and paper. The "
            f"other side is computed: {EPOCHS} / {TIMED} of a phase of {TIMED} epochs.",
        )
    ]

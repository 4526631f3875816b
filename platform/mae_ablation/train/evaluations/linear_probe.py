"""Linear classifier on the frozen encoder (paper, appendix A.1, Table 10).

Three protocols:

    converged   features of every image extracted once; logistic regression to its one solution
                (train/converged_probe.py)
    cached      the same features; SGD with momentum (train/gradient_probe.py)
    paper       random crops and flips encoded afresh in every epoch; LARS (likewise)
"""

from dataclasses import field
from typing import Literal

from mae_ablation.recipe.checks import (
    RUNTIME,
    PrecisionName,
    above,
    at_least,
    check,
    check_encoding,
    check_labels,
    settings_used,
    warms_up,
)
from mae_ablation.recipe.words import format_rate, format_schedule
from mae_ablation.registry import register

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""tried by the converged protocol, strongest first; scikit-learn's C is 1 / (images x penalty)"""
BY_GRADIENT_STEPS = ("epochs", "warmup_epochs", "batch_size", "base_lr", "weight_decay", "momentum")
UNUSED = {
    "converged": (*BY_GRADIENT_STEPS, "crop_min_area", "penalty"),
    "cached": ("crop_min_area", "penalty"),
    "paper": ("penalty",),
}
"""settings that a protocol has no use for; its penalties are listed instead"""


@register.evaluation("linear_probe", version=2)
class LinearProbe:
    """A linear classifier on the frozen encoder."""

    order = 10
    title, head, place_in_table_1 = "Linear probe", "lin", 2
    paper_noise = 0.6
    has_curve = by_epoch = lends_features = True

    protocol: Literal["converged", "cached", "paper"] = "cached"
    """converged: logistic regression on features extracted once, to its one solution; cached: the
    same features, SGD for some epochs; paper: LARS, random crops, every epoch"""
    penalty: float | None = None
    """converged protocol: weight of half the squared weights beside the mean loss; null: the best
    of PENALTIES on validation"""
    labels: int | float | None = None
    """class-balanced training images whose labels are seen, drawn by the seed: a number, or a share
    such as 0.01; null or 1: all"""
    pooling: Literal["cls", "mean"] = "cls"
    """class token, or mean of the patch tokens, after the encoder's last norm; k-NN takes it too"""
    epochs: int = 90
    warmup_epochs: float = 10
    batch_size: int = 16384
    """at most the number of training images is used"""
    base_lr: float = 0.1
    """learning rate per 256 images: lr = base_lr x batch size / 256"""
    weight_decay: float = 0.0
    momentum: float = 0.9
    crop_min_area: float = 0.08
    """paper protocol: smallest share of the image's area in a training crop"""
    image_size: int | None = None
    """side in pixels if it differs from pre-training's; positions are interpolated"""
    precision: PrecisionName = "float32"
    """in which images are encoded; the classifier is trained in float32"""
    checkpoint_every_s: float = field(default=30.0, metadata=RUNTIME)
    """seconds between checkpoints, taken after the next step; 0: after every one"""

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "batch_size", "image_size")
        check_labels(self)
        at_least(self, 0, "warmup_epochs", "weight_decay", "checkpoint_every_s")
        above(self, 0, "base_lr", "crop_min_area", "penalty")
        warms_up(self)
        check(0 <= self.momentum < 1, "momentum must lie in [0, 1)", "momentum")
        check(self.crop_min_area <= 1, "crop_min_area must be at most 1", "crop_min_area")

    @property
    def penalties(self) -> tuple[float, ...]:
        """Lists the penalties that the converged protocol tries, from strong to weak."""
        return PENALTIES if self.penalty is None else (float(self.penalty),)

    def check(self, recipe) -> None:
        check_encoding(recipe, self)

    def document(self, recipe, source: str) -> dict:
        used = settings_used(self, recipe)
        if self.protocol == "converged":
            used["penalties"] = list(self.penalties)
        unused = UNUSED[self.protocol]
        unused += ("pooling", "precision") if source == "pixels" else ()
        return {name: value for name, value in used.items() if name not in unused}

    def describe(self, recipe) -> str:
        return f"{self.protocol}-{self.pooling}"

    def settings_line(self, recipe) -> str:
        if self.protocol == "converged":
            tried = ", ".join(f"{penalty:g}" for penalty in self.penalties)
            choice = " (best on validation)" if len(self.penalties) > 1 else ""
            how = f"logistic regression by L-BFGS, L2 penalty {tried}{choice}"
        else:
            how = (
                f"{'LARS' if self.protocol == 'paper' else 'SGD'}, "
                f"{format_rate(self.base_lr, self.batch_size)}, "
                f"weight decay {self.weight_decay:g}, momentum {self.momentum:g}, "
                f"{format_schedule(self)}"
            )
        return f"{self.protocol} protocol, {how}, {self.pooling}{self.on_labels()}"

    def method(self, recipe) -> str:
        if self.protocol == "converged":
            choice = "chosen on validation" if len(self.penalties) > 1 else f"{self.penalty:g}"
            return (
                f"linear probe brought to convergence (logistic regression on {self.pooling} "
                f"features, L2 penalty {choice}){self.on_labels()}"
            )
        return (
            f"linear probe after its last epoch ({self.protocol} protocol, {self.pooling} "
            f"features, {self.epochs} epochs){self.on_labels()}"
        )

    def work(self, recipe, data, source: str, encoded: bool):
        from mae_ablation.study import speed

        images, encode, encode_all = speed.encoding_flops(self, recipe, data, source)
        if self.protocol == "converged":
            width = speed.feature_width(recipe, data, source)
            tried = len(self.penalties)
            classifier = speed.classifier_flops(width, data.classes, tried)
            return speed.converged_work(images, encode_all, classifier, tried)
        flops = speed.probe_flops(encode, self.epochs, self.protocol == "paper")
        return speed.Work(kind="linear_probe", images=images, flops=flops)

    @staticmethod
    def measured(result: dict):
        from mae_ablation.study.speed import Work, converged_work, probe_flops

        # a converged probe's rate is per image, a trained one's per image and epoch
        images = result["images_per_s"] * result["seconds"]
        if classifier := result.get("classifier_flops_per_image"):
            encode, tried = result["flops_per_image"] - classifier, result["penalties"]
            return converged_work(images, encode, classifier, tried)
        if "encoder_flops_per_image" not in result or "penalty" in result:
            return None
        encode, epochs = result["encoder_flops_per_image"], result["epochs"]
        afresh = 0 < encode < result["flops_per_image"]
        flops = probe_flops(encode, epochs, afresh)
        return Work(kind="linear_probe", images=images / epochs, flops=flops)

    def evaluate(self, job) -> dict:
        if self.protocol == "converged":
            from mae_ablation.train.converged_probe import converged_probe as probe
        else:
            from mae_ablation.train.gradient_probe import gradient_probe as probe
        return probe(job, self.component.name)

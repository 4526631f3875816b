"""Tokens of patches (paper, Table 1d; Bao et al., 2021).

in_domain: a small vector-quantised autoencoder trained on the study's own training images, one
token per patch; a stand-in, and labelled so. dalle: the encoder of the DALL-E dVAE as in the paper,
from a file of the user's.
"""

from pathlib import Path
from typing import Literal

from mae_ablation.recipe.checks import above, at_least, between, check
from mae_ablation.registry import path, register


class GateClosed(RuntimeError):
    """The tokens are not good enough to be predicted."""

    on_all_ranks = True  # it follows from a result that all ranks read


@register.target("dvae_token", version=2, section="tokenizer")
class Tokens:
    """Tokens of a tokeniser: an in-domain stand-in, or the DALL-E encoder of a file."""

    needs = "tokenizer"
    fit_flops = 1.3e8

    source: Literal["in_domain", "dalle"] = "in_domain"
    file: str | None = path()
    """dalle: weights of the encoder, a plain state dict (.pt, .pth) or .safetensors"""
    sha256: str | None = None
    """dalle: hash of the file"""
    codes: int = 512
    epochs: int = 10
    batch_size: int = 256
    lr: float = 1e-3
    min_perplexity: float = 8.0
    """gate: codes in effective use, exp of their entropy, on validation images"""
    min_explained: float = 0.5
    """gate: share of the pixels' variance that the codes explain, on validation images"""

    def __post_init__(self) -> None:
        at_least(self, 1, "codes", "epochs", "batch_size", "min_perplexity")
        above(self, 0, "lr")
        between(self, 0, 1, "min_explained")
        if self.source == "dalle":
            check(self.file is not None, "source dalle needs file: PATH", "source")
            check(self.sha256 is not None, "source dalle needs sha256: HASH", "source")

    @property
    def stand_in(self) -> bool:
        return self.source == "in_domain"  # the paper's tokens are DALL-E's

    def width(self, patch_values: int) -> int:
        return 8192 if self.source == "dalle" else self.codes  # a score per code

    def document(self, recipe, channels: int) -> dict:
        return {}  # which tokens they are, the phase says that makes them

    def note(self, recipe, channels: int) -> str:
        return "stand-in tokeniser, in-domain" if self.stand_in else ""

    def check_data(self, recipe, channels: int) -> None:
        # the user's file is the one that the recipe means
        if self.source == "dalle":
            from mae_ablation.study.places import require_hash

            require_hash(self.place, self.sha256, "")

    def require_files(self) -> None:
        if self.source == "dalle":
            from mae_ablation.mae.dalle import load_dalle

            load_dalle(self.place, self.sha256)

    @property
    def place(self) -> Path:
        return Path(self.file).expanduser()

    def preparation(self, recipe, data: dict) -> dict:
        # trained with one seed of its own, so that all seeds of a study predict the same tokens
        if self.source == "dalle":
            return {"tokenizer": {"source": self.source, "sha256": self.sha256}}
        names = ("source", "codes", "epochs", "batch_size")  # gates are no part of it
        settings = {name: getattr(self, name) for name in names} | {"lr": float(self.lr)}
        return {"data": data, "patch_size": recipe.model.patch_size, "tokenizer": settings}

    def preparation_name(self, recipe) -> str:
        return self.source

    def fit(self, fitting) -> dict:
        """Train the in-domain tokeniser; a DALL-E encoder is there already.

        Raises:
            GateClosed: it is not good enough.
        """
        if self.source == "dalle":
            return {"source": self.source, "sha256": self.sha256, "seconds": 0.0}
        import torch

        # one seed for every study: the tokens are part of the data
        torch.manual_seed(0)  # the layers' own initialisation
        model = self.untrained(fitting.recipe, fitting.data.channels).to(fitting.device)
        codes = fitting.generator("codes")
        seconds = fitting.train(
            model,
            torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=0.0),
            lambda pixels: model(pixels).loss,
            epochs=self.epochs,
            batch_size=self.batch_size,
            after_step=lambda pixels: model.update(pixels, codes),
            generators={"codes": codes},
        )
        # a bad tokeniser ends its phase with a reason, before hours of pre-training
        result = {"source": self.source, **self.measure_quality(model, fitting)}
        self.require_quality(result)
        return {**result, "seconds": seconds}

    def measure_quality(self, model, fitting) -> dict[str, float]:
        """Measure the perplexity of the codes, and the share of the pixels' variance that they
        explain, on validation images."""
        import torch

        from mae_ablation.mae.tokenizer import perplexity

        model.eval()
        tokens, wrong, varied = [], 0.0, 0.0
        # against the mean image, as explained variance is defined
        mean = torch.tensor(fitting.data.mean, device=fitting.device).view(1, -1, 1, 1)
        with torch.no_grad():
            for pixels in fitting.validation():
                quantised = model(pixels)
                tokens.append(quantised.tokens)
                wrong += (quantised.reconstruction - pixels).square().sum().item()
                varied += (pixels - mean).square().sum().item()
        model.train()
        used = perplexity(torch.cat(tokens), model.vocabulary)
        return {"perplexity": used, "explained": 1 - wrong / varied}

    @staticmethod
    def saves(result: dict) -> bool:
        return result.get("source") != "dalle"  # that one is the user's own file

    def error(self, predicted, target):
        # cross-entropy of scores (n, C, codes) and tokens (n, C)
        from torch.nn import functional as F

        return F.cross_entropy(predicted.transpose(1, 2), target, reduction="none")

    def of_images(self, recipe, channels: int, fitted, result: dict, device: str):
        """Map pixels (n, c, h, w) in [0, 1] to tokens (n, L) int64.

        Raises:
            GateClosed: the tokeniser is not good enough.
        """
        # the DALL-E encoder of the user's file, or the in-domain tokeniser of its finished phase
        if self.source == "dalle":
            from mae_ablation.mae.dalle import load_dalle

            tokenizer = load_dalle(self.place, self.sha256)
        else:
            self.require_quality(result)
            tokenizer = self.untrained(recipe, channels)
            tokenizer.load_state_dict(fitted()["model"])
        tokenizer.to(device).eval()

        def tokens(pixels):
            return tokenizer.tokens(pixels, (recipe.grid, recipe.grid))

        tokens.width = tokenizer.vocabulary
        return tokens

    def untrained(self, recipe, channels: int):
        from mae_ablation.mae.tokenizer import PatchTokenizer

        patch = recipe.model.patch_size
        return PatchTokenizer(channels=channels, patch_size=patch, codes=self.codes)

    def require_quality(self, result: dict) -> None:
        """Check an in-domain tokeniser, whoever trained it, against the recipe's gates.

        Raises:
            GateClosed: too few codes are in use, or they explain too little of the pixels.
        """
        used, explained = result["perplexity"], result["explained"]
        if used < self.min_perplexity:
            raise GateClosed(
                f"code perplexity {used:.1f} is below tokenizer.min_perplexity "
                f"{self.min_perplexity:g}"
            )
        if explained < self.min_explained:
            raise GateClosed(
                f"the codes explain {explained:.0%} of the pixels' variance, "
                f"tokenizer.min_explained is {self.min_explained:.0%}"
            )

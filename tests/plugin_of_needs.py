"""Components that need more than one call: read by test_components.py as a user's file."""

from mae_ablation import register


@register.target("frequencies", version=1)
class Frequencies:
    """Pixels, compared in the frequency domain; errors far from what is visible weigh more."""

    pull: float = 0.1
    """weight of the squared features of the encoder"""

    def error(self, predicted, target, patch_size, channels, index, shuffle, keep, grid, encoded):
        import torch

        images = (predicted - target).unflatten(-1, (patch_size, patch_size, channels))
        error = torch.fft.fft2(images, dim=(-3, -2), norm="ortho").abs().square().flatten(2).mean(2)
        asked, seen = (
            torch.stack([places // grid[1], places % grid[1]], dim=-1).float()
            for places in (index, shuffle[:, :keep])
        )
        distance = torch.cdist(asked, seen).amin(dim=-1)
        return error * distance + self.pull * encoded.square().mean()


@register.sampler("curriculum", version=1)
class Curriculum:
    """More patches are removed from epoch to epoch."""

    first: float = 0.25

    def kept(self, patches, mask_ratio, epoch, epochs):
        share = self.first + (mask_ratio - self.first) * epoch / (epochs - 1)
        return round(patches * (1 - share))

    def shuffle(self, n, grid, keep, generator):
        import torch

        return torch.rand(n, grid[0] * grid[1], generator=generator).argsort(dim=1)


@register.dataset("five_channels", version=1)
class FiveChannels:
    """Noise around a level that is the class."""

    def read(self):
        import numpy as np

        rng, arrays = np.random.default_rng(0), {}
        for part, count in (("train", 100), ("test", 40)):
            labels = np.arange(count) % 2
            noise = rng.integers(0, 120, (count, 5, 12, 12))
            arrays[f"{part}_images"] = np.uint8(noise + 100 * labels[:, None, None, None])
            arrays[f"{part}_labels"] = labels
        return arrays


@register.evaluation("two_numbers", version=1)
class TwoNumbers:
    """Accuracy of the nearest mean, and its accuracy on the worst class."""

    numbers = {"acc1": "Nearest mean", "worst": "Nearest mean, worst class"}

    def evaluate(self, job):
        import torch

        data = job.data
        train, test = job.features(data.train), job.features(data.test)
        means = torch.stack([train[data.train.labels == c].mean(0) for c in range(data.classes)])
        right = torch.cdist(test, means).argmin(dim=1)
        classes = [right[data.test.labels == c] == c for c in range(data.classes)]
        worst = min(100 * each.double().mean().item() for each in classes)
        return {**job.save_predictions(right), "test_worst": worst}

"""CIFAR-100, read by torchvision."""

from mae_ablation.data.sources import Archive
from mae_ablation.registry import register


@register.dataset("cifar100", version=1)
class Cifar100(Archive):
    """CIFAR-100: 50,000 and 10,000 colour images of 32 pixels."""

    order = 30
    reader = "CIFAR100"
    fingerprint = "cifar100-eb9058c3a382ffc7106e4002c42a8d85"
    classes = 100
    train_images, test_images = 50_000, 10_000
    side = 32
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    files = tuple(f"cifar-100-python/{part}" for part in ("train", "test", "meta"))

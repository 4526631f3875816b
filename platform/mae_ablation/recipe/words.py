"""Settings of a training in words, as plans and tables show them."""


def format_rate(base_lr: float, batch_size: int) -> str:
    """Write "lr 0.001 x 512 / 256 = 0.002"."""
    return f"lr {base_lr:g} x {batch_size} / 256 = {base_lr * batch_size / 256:g}"


def format_schedule(section) -> str:
    """Write "8 epochs (1 warm-up, cosine)"."""
    return f"{section.epochs} epochs ({section.warmup_epochs:g} warm-up, cosine)"

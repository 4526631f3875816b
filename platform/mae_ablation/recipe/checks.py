"""Checks of a recipe's values, made where a value is born."""


class Invalid(ValueError):
    """A value that cannot be. `fields` names those involved: the last one said is to blame."""

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields


def check(holds: bool, message: str, *fields: str) -> None:
    if not holds:
        raise Invalid(message, *fields)


def at_least(section: object, low: float, *names: str) -> None:
    for name in names:
        value = getattr(section, name)
        check(value is None or value >= low, f"{name} is {value}, must be at least {low}", name)


def above(section: object, low: float, *names: str) -> None:
    for name in names:
        value = getattr(section, name)
        check(value is None or value > low, f"{name} is {value}, must be above {low}", name)


def between(section: object, low: float, high: float, *names: str) -> None:
    """Both ends included."""
    for name in names:
        value = getattr(section, name)
        check(low <= value <= high, f"{name} is {value}, must lie in [{low}, {high}]", name)


def warms_up(section: object) -> None:
    """The warm-up must end before the training does."""
    warmup, epochs = section.warmup_epochs, section.epochs
    check(
        warmup < epochs,
        f"warmup_epochs {warmup:g} is not below the {epochs} epochs of the training",
        "warmup_epochs",
        "epochs",
    )


def shares(section: object, *names: str) -> None:
    """Values in [0, 1)."""
    for name in names:
        check(0 <= getattr(section, name) < 1, f"{name} must lie in [0, 1)", name)

"""Plan: the trials of a study, each once, what of them is in the store, and what the rest costs."""

from dataclasses import dataclass, replace

from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.cost import pretrain_flops, training_flops
from mae_ablation.study.identity import identity, pretrain_document, probe_document
from mae_ablation.study.recipe import Recipe
from mae_ablation.study.study import Factor, Level, Study

REFERENCES = {"random": "random encoder", "pixels": "raw pixels"}
"""Reference rows under every table: the probe without any pre-training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """What a plan has to know about a data set without opening it."""

    fingerprint: str
    channels: int
    train_images: int
    test_images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One training with a result."""

    kind: str
    """"pretrain" or "linear_probe" """
    identity: str
    document: dict
    recipe: Recipe
    name: str
    """readable part of the folder's name"""

    def folder(self, store: Store) -> PhaseFolder:
        return store.phase(self.kind, self.name, self.identity)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One pre-training identity with the evaluations that hang on it; or a reference row."""

    label: str
    """level and seed, for people: "mask_ratio=0.75 seed 0" """
    source: str
    """"pretrain", or what the probe sees instead: "random", "pixels" """
    seed: int
    phases: tuple[Phase, ...]
    flops: float
    """all FLOPs of its pre-training, forward and backward"""

    @property
    def id(self) -> str:
        """Identity of the first phase, which all evaluations share."""
        return self.phases[0].identity

    @property
    def result_id(self) -> str:
        """Identity of the last phase, which a table's cell shows."""
        return self.phases[-1].identity

    @property
    def recipe(self) -> Recipe:
        return self.phases[0].recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table: a level, or a reference, and its trial for every seed."""

    label: str
    trials: dict[int, Trial]
    """by seed, with the evaluations of this row only"""
    factor: Factor | None = None
    level: Level | None = None
    """None: the baseline where no level equals it, or a reference"""
    is_baseline: bool = False
    same_as: str | None = None
    """label of an earlier row of the same factor that is the same training"""

    def why_same(self) -> str:
        """Why it is the same training, where rounding is the reason."""
        if self.factor.field != "pretrain.mask_ratio":
            return ""
        kept = self.level.recipe
        return f": both keep {kept.kept_patches} of {kept.patches} patches"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a study needs. `rows` are in the study's order, `references` stand below them."""

    study: Study
    rows: tuple[Row, ...]
    references: tuple[Row, ...]
    store: Store
    data: DataFacts

    @property
    def cells(self) -> list[Trial]:
        """What the table's cells show, each once: rows that differ in an evaluation are two."""
        rows = (*self.rows, *self.references)
        return list({t.result_id: t for row in rows for t in row.trials.values()}.values())

    @property
    def trials(self) -> list[Trial]:
        """Every trial once, with the evaluations of all rows, the longest first.

        Short ones fill the gaps at the end.
        """
        merged: dict[str, Trial] = {}
        for cell in self.cells:
            merged[cell.id] = merge(merged[cell.id], cell) if cell.id in merged else cell
        return sorted(merged.values(), key=lambda trial: -trial.flops)

    def unfinished(self, trial: Trial) -> list[Phase]:
        """Phases of a trial that have no result in the store."""
        return [p for p in trial.phases if p.folder(self.store).result() is None]

    def missing(self) -> list[Trial]:
        """Trials with an unfinished phase."""
        return [trial for trial in self.trials if self.unfinished(trial)]


def make_plan(study: Study, store: Store, data: DataFacts) -> Plan:
    """Expand a study into rows and trials. Equal trainings become one trial."""
    known: dict[str, Trial] = {}

    def trials(recipe: Recipe, source: str, label: str) -> dict[int, Trial]:
        made = [make_trial(study, recipe, seed, source, label, data) for seed in study.seeds]
        return {trial.seed: known.setdefault(trial.result_id, trial) for trial in made}

    levels = [
        (factor, level, trials(level.recipe, "pretrain", f"{factor.name}={level.label}"))
        for factor in study.factors
        for level in factor.levels
    ]
    baseline = trials(study.baseline, "pretrain", "baseline")
    rows: list[Row] = []
    for factor, level, mine in levels:
        twins = [row.label for row in rows if row.factor == factor and row.trials == mine]
        rows.append(
            Row(
                label=level.label,
                factor=factor,
                level=level,
                is_baseline=mine == baseline,
                same_as=twins[0] if twins else None,
                trials=mine,
            )
        )
    if not any(row.is_baseline for row in rows):
        rows.insert(0, Row(label="baseline", is_baseline=True, trials=baseline))
    probed = "linear_probe" in study.phases
    references = tuple(
        Row(label=label, trials=trials(study.baseline, source, label))
        for source, label in REFERENCES.items()
        if probed
    )
    return Plan(study=study, rows=tuple(rows), references=references, store=store, data=data)


def merge(one: Trial, other: Trial) -> Trial:
    """A trial with the evaluations of both."""
    known = {phase.identity for phase in one.phases}
    more = tuple(phase for phase in other.phases if phase.identity not in known)
    label = one.label if one.label == other.label else f"{one.label} + {other.label}"
    return replace(one, label=label, phases=one.phases + more)


def make_trial(
    study: Study, recipe: Recipe, seed: int, source: str, label: str, facts: DataFacts
) -> Trial:
    """A trial with its phases and their identities."""
    data = f"{recipe.data.name}-{recipe.data.image_size}px"
    phases, upstream, flops = [], None, 0.0
    if source == "pretrain":
        document = pretrain_document(recipe, seed, facts.fingerprint)
        upstream = identity(document)
        name = (
            f"{data}-keep{recipe.kept_patches}of{recipe.patches}-{recipe.pretrain.target}"
            f"-{recipe.pretrain.epochs}ep-s{seed}"
        )
        phases.append(
            Phase(kind="pretrain", identity=upstream, document=document, recipe=recipe, name=name)
        )
        images = recipe.pretrain.epochs * training_images(recipe, facts)
        flops = images * training_flops(pretrain_flops(recipe, facts.channels))
    if "linear_probe" in study.phases:
        document = probe_document(recipe, seed, facts.fingerprint, source, upstream)
        probe = recipe.linear_probe
        name = f"{data}-{source}-{probe.protocol}-{probe.pooling}-s{seed}"
        phases.append(
            Phase(
                kind="linear_probe",
                identity=identity(document),
                document=document,
                recipe=recipe,
                name=name,
            )
        )
    return Trial(
        label=f"{label} seed {seed}",
        source=source,
        seed=seed,
        phases=tuple(phases),
        flops=flops,
    )


def training_images(recipe: Recipe, facts: DataFacts) -> int:
    """Images of the training split that a training sees in an epoch."""
    return recipe.data.train_images or facts.train_images - recipe.data.validation_images

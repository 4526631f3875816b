"""Plan: the trials of a study, each once, what of them is in the store, and what the rest costs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.cost import pretrain_flops, training_flops
from mae_ablation.study.identity import (
    evaluation_document,
    identity,
    pca_document,
    pretrain_document,
    tokenizer_document,
)
from mae_ablation.study.recipe import Data, Recipe
from mae_ablation.study.study import Factor, Level, Study

REFERENCES = {"random": "random encoder", "pixels": "raw pixels", "scratch": "from scratch"}
"""Reference rows under every table: the evaluations without any pre-training."""
ON_FROZEN_FEATURES = ("linear_probe", "knn")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """What a plan has to know about a data set without opening it."""

    fingerprint: str
    channels: int
    train_images: int
    test_images: int
    classes: int
    missing: str = ""
    """what is not on this machine, and how to get it; empty if the images are there"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One training with a result."""

    kind: str
    """"pca", "tokenizer", "pretrain" or an evaluation, such as "linear_probe" """
    identity: str
    document: dict
    recipe: Recipe
    name: str
    """readable part of the folder's name"""
    column: str = ""
    """evaluation of the table it is shown under; "" where it is none"""

    @property
    def prefix(self) -> str:
        """Of its metrics: the kind; each of the epochs tried is a curve of its own."""
        epochs = f"_{self.recipe.partial.epochs}ep" if self.kind == "partial" else ""
        return self.kind + epochs

    def folder(self, store: Store) -> PhaseFolder:
        return store.phase(self.kind, self.name, self.identity)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One pre-training identity with the evaluations that hang on it; or a reference row, or what
    several pre-trainings need first (a PCA, a tokeniser)."""

    label: str
    """level and seed, for people: "mask_ratio=0.75 seed 0" """
    source: str
    """"pretrain", what an evaluation sees instead ("random", "pixels", "scratch"), or "prepare" """
    seed: int
    phases: tuple[Phase, ...]
    flops: float
    """all FLOPs of its pre-training, forward and backward"""
    needs: "Trial | None" = None
    """finished before this one starts"""

    @property
    def id(self) -> str:
        """Identity of the first phase, which all evaluations share."""
        return self.phases[0].identity

    @property
    def result_id(self) -> tuple[str, ...]:
        """Identities of all its phases: what a table's cells show."""
        return tuple(phase.identity for phase in self.phases)

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

    @property
    def recipe(self) -> Recipe:
        return next(iter(self.trials.values())).recipe

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
        """Every trial once, with the evaluations of all rows, the longest first."""
        return joined(self.cells)

    def missing(self) -> list[Trial]:
        """Trials with an unfinished phase, after what they need."""
        return missing(self.trials, self.store)

    def chosen(self, trial: Trial, column: str) -> tuple[Phase, dict] | None:
        """The phase behind a cell and its result; None while one of its phases has none.

        Where several epochs were tried it is the one best on validation, the shortest of equals.
        """
        phases = [phase for phase in trial.phases if phase.column == column]
        results = [phase.folder(self.store).result() for phase in phases]
        if not phases or None in results:
            return None
        pairs = list(zip(phases, results, strict=True))
        return max(pairs, key=lambda pair: (pair[1]["validation_acc1"], -pair[1].get("epochs", 0)))

    def level_label(self, trial: Trial, factor: Factor) -> str:
        """Level of a factor that a trial has, in the study's words: its row's, or the baseline's.

        A stand-in says so.
        """
        mine = [row for row in self.rows if row.factor == factor and row.level]
        for row in mine:
            if row.trials[trial.seed].result_id == trial.result_id:
                return row.level.name
        base = next((row.level.name for row in mine if row.is_baseline), None)
        return base or str(_value(self.study.baseline, factor.field))


def _value(recipe: Recipe, field: str | None) -> Any:
    if field is None or field.endswith(".preset"):
        return "baseline"
    section, name = field.split(".")
    return getattr(getattr(recipe, section), name)


def trials_of(plans: Sequence[Plan]) -> list[Trial]:
    """Trials of some studies, each once, labelled with its study where they are several."""

    def cells() -> Iterable[Trial]:
        for plan in plans:
            name = f"{plan.study.name} " if len(plans) > 1 else ""
            yield from (replace(cell, label=name + cell.label) for cell in plan.cells)

    return joined(cells())


def joined(cells: Iterable[Trial]) -> list[Trial]:
    """Trials of one plan or of many, each once with all its evaluations, the longest first.

    Short ones fill the gaps at the end.
    """
    merged: dict[str, Trial] = {}
    for cell in cells:
        merged[cell.id] = merge(merged[cell.id], cell) if cell.id in merged else cell
    return sorted(merged.values(), key=lambda trial: -trial.flops)


def unfinished(trial: Trial, store: Store) -> list[Phase]:
    """Phases of a trial that have no result in the store."""
    return [phase for phase in trial.phases if phase.folder(store).result() is None]


def missing(trials: Iterable[Trial], store: Store) -> list[Trial]:
    """Trials with an unfinished phase, and first what their pre-trainings need."""
    wanted = [(trial, unfinished(trial, store)) for trial in trials]
    wanted = [(trial, phases) for trial, phases in wanted if phases]
    first = {
        trial.needs.id: trial.needs
        for trial, phases in wanted
        if trial.needs and phases[0].kind == "pretrain"
    }
    needed = [trial for trial in first.values() if unfinished(trial, store)]
    waiting = [
        trial if phases[0].kind == "pretrain" else replace(trial, needs=None)
        for trial, phases in wanted
    ]
    return needed + waiting


def make_plan(study: Study, store: Store, facts_of: Callable[[Data], DataFacts]) -> Plan:
    """Expand a study into rows and trials. Equal trainings become one trial."""
    data = facts_of(study.baseline.data)
    known: dict[str, Trial] = {}

    def trials(recipe: Recipe, source: str, label: str) -> dict[int, Trial]:
        facts = facts_of(recipe.data)
        made = [make_trial(study, recipe, seed, source, label, facts) for seed in study.seeds]
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
    references = tuple(
        Row(label=label, trials=trials(study.baseline, source, label))
        for source, label in REFERENCES.items()
        if evaluations(study, source)
    )
    return Plan(study=study, rows=tuple(rows), references=references, store=store, data=data)


def evaluations(study: Study, source: str) -> list[str]:
    """Evaluations of a study that a row of this source has."""
    if source == "pretrain":
        return [kind for kind in study.phases if kind not in ("pretrain", "scratch")]
    if source == "scratch":
        return [kind for kind in study.phases if kind == "scratch"]
    if source == "pixels" and study.baseline.data.reading == "stream":
        return []  # 150,528 pixels of an image as its features: too many to keep or to classify
    return [kind for kind in study.phases if kind in ON_FROZEN_FEATURES]


def merge(one: Trial, other: Trial) -> Trial:
    """A trial with the evaluations of both."""
    known = {phase.identity for phase in one.phases}
    more = tuple(phase for phase in other.phases if phase.identity not in known)
    label = one.label if not more or one.label == other.label else f"{one.label} + {other.label}"
    return replace(one, label=label, phases=one.phases + more)


def make_trial(
    study: Study, recipe: Recipe, seed: int, source: str, label: str, facts: DataFacts
) -> Trial:
    """A trial with its phases and their identities."""
    phases, upstream, flops, needs = [], None, 0.0, None
    if source == "pretrain":
        needs = preparation(recipe, facts)
        timed = study.measure == "hours"
        phases.append(pretrain_phase(recipe, seed, facts, needs, timed))
        upstream = phases[0].identity
        images = recipe.pretrain.epochs * training_images(recipe, facts)
        flops = images * training_flops(pretrain_flops(recipe, facts.channels))
    for column in evaluations(study, source):
        phases += evaluation_phases(column, recipe, seed, facts, source, upstream)
    return Trial(
        label=f"{label} seed {seed}",
        source=source,
        seed=seed,
        phases=tuple(phases),
        flops=flops,
        needs=needs,
    )


def place_name(recipe: Recipe) -> str:
    return f"{recipe.data.name}-{recipe.data.image_size}px"


def preparation(recipe: Recipe, facts: DataFacts) -> Trial | None:
    """What a pre-training's target needs first: principal components, or a tokeniser."""
    target = recipe.pretrain.target
    if target not in ("pca", "dvae_token"):
        return None
    if target == "pca":
        kind, document = "pca", pca_document(recipe, facts.fingerprint)
        name = f"{place_name(recipe)}-patch{recipe.model.patch_size}"
    else:
        kind, document = "tokenizer", tokenizer_document(recipe, facts.fingerprint)
        name = f"{place_name(recipe)}-{recipe.tokenizer.source}"
    phase = Phase(
        kind=kind, identity=identity(document), document=document, recipe=recipe, name=name
    )
    return Trial(label=f"{kind} {name}", source="prepare", seed=0, phases=(phase,), flops=0.0)


def pretrain_phase(
    recipe: Recipe, seed: int, facts: DataFacts, needs: Trial | None, timed: bool
) -> Phase:
    """`timed`: its hours are what is wanted. It is then not shared with other studies, whose
    trainings may have run beside others or on other machines."""
    usual = replace(recipe, pretrain=replace(recipe.pretrain, pca_components=None))
    if usual.pca_components(facts.channels) == recipe.pretrain.pca_components:
        recipe = usual  # said or not, it is the same number
    document = pretrain_document(
        recipe, seed, facts.fingerprint, needs.id if needs else None, timed
    )
    name = (
        f"{place_name(recipe)}-keep{recipe.kept_patches}of{recipe.patches}"
        f"-{recipe.pretrain.target}-{recipe.pretrain.epochs}ep{'-timed' * timed}-s{seed}"
    )
    return Phase(
        kind="pretrain", identity=identity(document), document=document, recipe=recipe, name=name
    )


def evaluation_phases(
    column: str, recipe: Recipe, seed: int, facts: DataFacts, source: str, upstream: str | None
) -> list[Phase]:
    """The phases behind one evaluation: several where the best of several epochs is taken.

    Tuning no block at all is linear probing (paper, Figure 9).
    """
    kind, recipes = column, [recipe]
    if column == "partial" and recipe.partial.blocks == 0:
        kind = "linear_probe"
    elif column == "partial":
        tried = recipe.partial.epochs_tried
        recipes = [replace(recipe, partial=replace(recipe.partial, epochs=e)) for e in tried]
    out = []
    for each in recipes:
        document = evaluation_document(kind, each, seed, facts.fingerprint, source, upstream)
        out.append(
            Phase(
                kind=kind,
                identity=identity(document),
                document=document,
                recipe=each,
                name=f"{place_name(each)}-{source}-{_describe(kind, each)}-s{seed}",
                column="finetune" if column == "scratch" else column,
            )
        )
    return out


def _describe(kind: str, recipe: Recipe) -> str:
    probe = recipe.linear_probe
    if kind == "linear_probe":
        return f"{probe.protocol}-{probe.pooling}"
    if kind == "knn":
        return f"{recipe.knn.neighbours}nn"
    blocks = f"{recipe.partial.blocks:g}blocks-" if kind == "partial" else ""
    return f"{blocks}{getattr(recipe, kind).epochs}ep"


def training_images(recipe: Recipe, facts: DataFacts) -> int:
    """Images of the training split that a training sees in an epoch."""
    return recipe.data.train_images or facts.train_images - recipe.data.validation_images

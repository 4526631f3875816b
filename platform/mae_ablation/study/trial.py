"""Trial: one pre-training with the evaluations that hang on it, and each phase's identity."""

from dataclasses import dataclass, replace

from mae_ablation.recipe.cost import pretrain_flops
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import column_of, find_component
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.identity import (
    evaluation_document,
    identity,
    preparation_document,
    pretrain_document,
)
from mae_ablation.study.study import Study


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
    left_out: str = ""
    """what lies in the folder and is not taken, counted, in one line; empty: nothing"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One training with a result."""

    kind: str
    """what a target needs first, "pretrain", or an evaluation's name"""
    identity: str
    document: dict
    recipe: Recipe
    name: str
    """readable part of the folder's name"""
    column: str = ""
    """evaluation of the table it is shown under; "" where it is none"""
    search: str = ""
    """the search that may stop it early; "" where none may. No part of its identity"""

    @property
    def prefix(self) -> str:
        """Of its metrics: the kind; each of the epochs tried is a curve of its own."""
        if not self.is_evaluation:
            return self.kind
        return self.recipe.chosen("evaluation", self.kind).prefix()

    @property
    def is_evaluation(self) -> bool:
        return bool(self.column)

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
    data: DataFacts
    """of the images it is trained on"""
    needs: "Trial | None" = None
    """finished before this one starts"""
    tried: str = ""
    """what is tuned of it, for people: "base_lr 0.1"; "" for nothing, or several values"""

    @property
    def name(self) -> str:
        """ "mask_ratio=0.75 seed 0, base_lr 0.1"."""
        return f"{self.label}, {self.tried}" if self.tried else self.label

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


def evaluations(study: Study, source: str) -> list[str]:
    """Evaluations of a study that a row of this source has."""
    if source == "pixels" and study.baseline.data.reading == "stream":
        return []  # 150,528 pixels of an image as its features: too many to keep or to classify
    rows = {kind: find_component("evaluation", kind).cls.rows for kind in study.phases[1:]}
    return [kind for kind in rows if source in rows[kind]]


def merge(one: Trial, other: Trial) -> Trial:
    """A trial with the evaluations of both. What one of them is to finish no search may stop."""
    known = {phase.identity for phase in one.phases}
    theirs = {phase.identity: phase.search for phase in other.phases}
    mine = tuple(
        replace(phase, search="")
        if phase.search and theirs.get(phase.identity, phase.search) != phase.search
        else phase
        for phase in one.phases
    )
    more = tuple(phase for phase in other.phases if phase.identity not in known)
    label = one.label if not more or one.label == other.label else f"{one.label} + {other.label}"
    tried = one.tried if not more or one.tried == other.tried else ""
    return replace(one, label=label, tried=tried, phases=mine + more)


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
        images = pretraining_images(recipe, facts)
        flops = images * pretrain_flops(recipe, facts.channels)
    for column in evaluations(study, source):
        phases += evaluation_phases(column, recipe, seed, facts, source, upstream)
    return Trial(
        label=f"{label} seed {seed}",
        source=source,
        seed=seed,
        phases=tuple(phases),
        flops=flops,
        data=facts,
        needs=needs,
    )


def place_name(recipe: Recipe) -> str:
    return f"{recipe.data.name}-{recipe.data.image_size}px"


def preparation(recipe: Recipe, facts: DataFacts) -> Trial | None:
    """What a pre-training's target needs first, such as principal components or a tokeniser."""
    target = recipe.target
    if not target.needs:
        return None
    document = preparation_document(recipe, facts.fingerprint)
    name = f"{place_name(recipe)}-{target.preparation_name(recipe)}"
    phase = Phase(
        kind=target.needs, identity=identity(document), document=document, recipe=recipe, name=name
    )
    label = f"{target.needs} {name}"
    return Trial(label=label, source="prepare", seed=0, phases=(phase,), flops=0.0, data=facts)


def pretrain_phase(
    recipe: Recipe, seed: int, facts: DataFacts, needs: Trial | None, timed: bool
) -> Phase:
    """`timed`: its hours are what is wanted. It is then not shared with other studies, whose
    trainings may have run beside others or on other machines."""
    document = pretrain_document(
        recipe, seed, facts.fingerprint, facts.channels, needs.id if needs else None, timed
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
    """The phases behind one evaluation: several where the best of several epochs is taken."""
    out = []
    for kind, each in recipe.chosen("evaluation", column).phases(recipe):
        document = evaluation_document(kind, each, seed, facts.fingerprint, source, upstream)
        told = each.chosen("evaluation", kind).describe(each)
        out.append(
            Phase(
                kind=kind,
                identity=identity(document),
                document=document,
                recipe=each,
                name=f"{place_name(each)}-{source}-{told}-s{seed}",
                column=column_of(column),
            )
        )
    return out


def steps_per_epoch(recipe: Recipe, images: int) -> int:
    """Optimiser steps of an epoch of pre-training; an incomplete last batch is dropped."""
    whole = images // recipe.pretrain.batch_size
    return min(recipe.pretrain.steps_per_epoch or whole, whole)


def pretraining_images(recipe: Recipe, facts: DataFacts) -> int:
    """Images that a whole pre-training sees, each as often as it comes."""
    steps = steps_per_epoch(recipe, training_images(recipe, facts))
    return recipe.pretrain.epochs * steps * recipe.pretrain.batch_size


def training_images(recipe: Recipe, facts: DataFacts) -> int:
    """Images of the training split that a training sees in an epoch."""
    return recipe.data.train_images or facts.train_images - recipe.data.validation_images

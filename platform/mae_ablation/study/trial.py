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
    """Facts about a data set that a plan has to know without opening it."""

    fingerprint: str
    channels: int
    train_images: int
    test_images: int
    classes: int
    missing: str = ""
    """files that are not on this machine, and how to get them; empty if the images are there"""
    left_out: str = ""
    """files in the folder that are not taken, counted, in one line; empty: none"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One training with a result."""

    kind: str
    """"pretrain", an evaluation's name, or that of a target's preparation"""
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
        """Prefix of its metrics: the kind; each of the epochs tried is a curve of its own."""
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
    """One pre-training identity with the evaluations on it, a reference row, or a preparation."""

    label: str
    """level and seed, for people: "mask_ratio=0.75 seed 0" """
    source: str
    """"pretrain", what an evaluation sees instead ("random", "pixels", "scratch"), or "prepare" """
    seed: int
    phases: tuple[Phase, ...]
    flops: float
    """all FLOPs of its pre-training, forward and backward"""
    data: DataFacts
    """facts about the images it is trained on"""
    needs: "Trial | None" = None
    """finished before this one starts"""
    tried: str = ""
    """its tuned values, for people: "base_lr 0.1"; "" for none, or several tries'"""

    @property
    def name(self) -> str:
        """Label and tuned values: "mask_ratio=0.75 seed 0, base_lr 0.1"."""
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
    """Return the evaluations of a study that a row of this source has."""
    if source == "pixels" and study.baseline.data.reading == "stream":
        return []  # 150,528 pixels of an image as its features: too many to keep or to classify
    rows = {kind: find_component("evaluation", kind).cls.rows for kind in study.phases[1:]}
    return [kind for kind in rows if source in rows[kind]]


def merge(one: Trial, other: Trial) -> Trial:
    """Return a trial with the evaluations of both."""
    # one training may be a row of several studies; what one of them is to finish no search may stop
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
    """Return a trial with its phases and their identities."""
    phases, upstream, flops, needs = [], None, 0.0, None
    if source == "pretrain":
        needs = _preparation(recipe, facts)
        # trainings for their hours are not shared with studies that may run beside others
        timed = study.measure == "hours"
        upstream_of = needs.id if needs else None
        document = pretrain_document(
            recipe, seed, facts.fingerprint, facts.channels, upstream_of, timed
        )
        name = (
            f"{_data_name(recipe)}-keep{recipe.kept_patches}of{recipe.patches}"
            f"-{recipe.pretrain.target}-{recipe.pretrain.epochs}ep{'-timed' * timed}-s{seed}"
        )
        phases.append(_phase("pretrain", document, recipe, name))
        upstream = phases[0].identity
        flops = pretraining_images(recipe, facts) * pretrain_flops(recipe, facts.channels)

    # its evaluations, each on what it trained, or on what stands in for that
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


def _phase(kind: str, document: dict, recipe: Recipe, name: str, column: str = "") -> Phase:
    return Phase(
        kind=kind,
        identity=identity(document),
        document=document,
        recipe=recipe,
        name=name,
        column=column,
    )


def _data_name(recipe: Recipe) -> str:
    return f"{recipe.data.name}-{recipe.data.image_size}px"


def _preparation(recipe: Recipe, facts: DataFacts) -> Trial | None:
    """Return the trial that a target needs first, such as one of principal components."""
    target = recipe.target
    if not target.needs:
        return None
    name = f"{_data_name(recipe)}-{target.preparation_name(recipe)}"
    document = preparation_document(recipe, facts.fingerprint)
    phases = (_phase(target.needs, document, recipe, name),)
    label = f"{target.needs} {name}"
    return Trial(label=label, source="prepare", seed=0, phases=phases, flops=0.0, data=facts)


def evaluation_phases(
    column: str, recipe: Recipe, seed: int, facts: DataFacts, source: str, upstream: str | None
) -> list[Phase]:
    """Return the phases of one evaluation: several where the best of several epochs is taken."""
    # each of several epochs tried is a phase of its own, which other studies may share
    out = []
    for kind, each in recipe.chosen("evaluation", column).phases(recipe):
        document = evaluation_document(kind, each, seed, facts.fingerprint, source, upstream)
        told = each.chosen("evaluation", kind).describe(each)
        name = f"{_data_name(each)}-{source}-{told}-s{seed}"
        out.append(_phase(kind, document, each, name, column_of(column)))
    return out


def steps_per_epoch(recipe: Recipe, images: int) -> int:
    """Count the optimiser steps of an epoch of pre-training; an incomplete batch is dropped."""
    whole = images // recipe.pretrain.batch_size
    return min(recipe.pretrain.steps_per_epoch or whole, whole)


def pretraining_images(recipe: Recipe, facts: DataFacts) -> int:
    """Count the images that a whole pre-training sees, each as often as it comes."""
    steps = steps_per_epoch(recipe, training_images(recipe, facts))
    return recipe.pretrain.epochs * steps * recipe.pretrain.batch_size


def training_images(recipe: Recipe, facts: DataFacts) -> int:
    """Count the images of the training split that a training sees in an epoch."""
    return recipe.data.train_images or facts.train_images - recipe.data.validation_images

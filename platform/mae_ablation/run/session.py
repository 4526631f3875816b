"""Session: a request loaded once. Study files are read when it is made; its store is opened and
its trials are planned when they are first needed, and handed down from here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from mae_ablation.data.catalog import facts, require_fit, require_present
from mae_ablation.recipe.recipe import Data, Recipe
from mae_ablation.registry import load_plugins
from mae_ablation.store.folder import Store
from mae_ablation.study.budget import with_budget
from mae_ablation.study.places import open_store
from mae_ablation.study.plan import Plan, make_plan, trials_of
from mae_ablation.study.request import Selection
from mae_ablation.study.study import Study
from mae_ablation.study.suite import Suite, load_all
from mae_ablation.study.trial import DataFacts


@dataclass(frozen=True, kw_only=True, eq=False)
class Session:
    """Holds what a request asks for: its studies, its store, and their plans."""

    request: Selection
    studies: tuple[Study, ...]
    suites: tuple[Suite, ...]
    facts_there: Callable[[Data], DataFacts | None] | None = None
    """finds what a cluster knows of the data its results are of; None: the data is here"""
    opened: Store | None = None
    """the store, where somebody has opened it already"""

    @classmethod
    def load(cls, request: Selection, opened: Store | None = None) -> "Session":
        """Load the components that a request names, and read its study files.

        Raises:
            UserError: with file and line of what cannot be.
        """
        load_plugins(request.plugins)
        studies, suites = load_all(request)
        return cls(request=request, studies=tuple(studies), suites=tuple(suites), opened=opened)

    def at_home(self, facts_there: Callable[[Data], DataFacts | None], opened: Store) -> "Session":
        """Return the session of results that came from a cluster into a store here."""
        home = replace(self.request, store=opened.root)
        return replace(self, request=home, facts_there=facts_there, opened=opened)

    @cached_property
    def store(self) -> Store:
        """The store, opened and found to answer.

        Raises:
            UserError: it cannot be read.
        """
        return self.opened or open_store(self.request.store)

    @cached_property
    def plans(self) -> list[Plan]:
        """A plan of each study over the store. Starts and writes nothing.

        Raises:
            UserError: data or a level of a study cannot be, with file and line.
        """
        store = self.store
        return [self._plan(study, store) for study in self.studies]

    def _plan(self, study: Study, store: Store) -> Plan:
        if self.facts_there:  # the cluster has checked the data, which need not be here

            def facts_of(data: Data) -> DataFacts:
                return self.facts_there(data) or facts(data)

            return make_plan(with_budget(study, facts_of), store, facts_of)
        require_study_fits(study)
        study = with_budget(study, facts).with_recipes(with_absolute_paths)
        return make_plan(study, store, facts)

    def fetch_data(self) -> None:
        """Have every data set on this machine; what was fetched is planned with again.

        Raises:
            UserError: one is missing, and its recipe does not say `download: true`.
        """
        # a set that several trials share is fetched once
        fetched = False
        for data in dict.fromkeys(trial.recipe.data for trial in trials_of(self.plans)):
            if data.download and facts(data).missing:
                from mae_ablation.data.catalog import fetch_images

                fetch_images(data)
                fetched = True
            require_present(data, f"data.name {data.name}")
        if fetched:
            del self.__dict__["plans"]


def require_study_fits(study: Study) -> None:
    """Check the baseline and every level against the data.

    Raises:
        UserError: one does not fit; it names the study's file and the level.
    """
    said_by = ", ".join([f"recipe {study.recipe_name}", *(f"--set {c}" for c in study.changed)])
    require_fit(study.baseline, f"{study.path}, {said_by}", study.phases)
    for factor in study.factors:
        for level in factor.levels:
            require_fit(level.recipe, f"{study.path}, {factor.name} {level.label}", study.phases)


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return a recipe whose files are found from any folder, for workers run in their own."""
    # lanes work in a folder of Ray's, where a relative path means another place
    data = recipe.data
    if folder := data.set.location(data):
        data = replace(data, folder=str(folder))
    chosen = [part for part in recipe.components if part.component.settings]
    parts = {part.component.section: part.with_absolute_paths() for part in chosen}
    return replace(recipe, data=data, **parts)

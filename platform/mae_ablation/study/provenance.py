"""Provenance: the code behind a plan's results, and what of it is not the code at work.

Results are found by their identity, which holds the version of every component and, of a user's,
the hash of its source. What a plan says here is what no identity can: that results are of another
commit, of a tree with changes, or that a plug-in's source has changed and older results are left.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mae_ablation.registry import Plugin, plugins
from mae_ablation.study.plan import Plan, trials_of
from mae_ablation.study.trial import Phase


def plugins_of(phases: Iterable[Phase]) -> list[Plugin]:
    """List the plug-ins that some phases use, in the order they were loaded."""
    used = set()
    for phase in phases:
        parts = phase.recipe.components
        if phase.is_evaluation:
            parts += (phase.recipe.chosen("evaluation", phase.kind),)
        used |= {part.component.plugin for part in parts}
    return [plugin for plugin in plugins() if plugin in used]


def plugins_in(phases: Iterable[Phase]) -> str:
    """Name the plug-ins that some phases use, with the hashes of their sources; "" for none."""
    return ", ".join(map(str, plugins_of(phases)))


def plugin_lines(plans: Sequence[Plan]) -> list[str]:
    """Say which plug-ins some plans use, and which of them have changed since results were made."""
    words = plugins_in(_phases(plans))
    return [f"plug-ins: {words}", *_changed_plugins(plans)] if words else []


def commit_lines(plans: Sequence[Plan], commit: str) -> list[str]:
    """Say which finished results are of another commit, and of changes that no commit holds."""
    lines, folders = [], [phase.folder(plans[0].store) for phase in _phases(plans)]
    made_by = Counter(r["commit"] for folder in folders if (r := folder.result()) and "commit" in r)
    others = {made: count for made, count in sorted(made_by.items()) if made != commit}
    if others:
        each = ", ".join(f"{count} by {made}" for made, count in others.items())
        lines.append(
            f"cached results of other code: {each}; this is {commit}. Versions of components "
            "agree, so they count; another --store makes them anew"
        )
    if commit.endswith("+changes"):
        lines.append(f"this code has changes that no commit holds: new results say {commit}")
    return lines


def _phases(plans: Sequence[Plan]) -> list[Phase]:
    """List every phase of some plans once, what targets need included."""
    trials = trials_of(plans)
    needed = [trial.needs for trial in trials if trial.needs]
    found = (phase for trial in (*needed, *trials) for phase in trial.phases)
    return list({phase.identity: phase for phase in found}.values())


def _changed_plugins(plans: Sequence[Plan]) -> list[str]:
    """Say which plug-ins have changed since results that differ in nothing else were made."""
    store, changed = plans[0].store, Counter()
    asked = {p.identity: p for p in _phases(plans) if _sources(p.document)}
    for kind in {phase.kind for phase in asked.values()}:
        mine = {phase.name: [] for phase in asked.values() if phase.kind == kind}
        for phase in asked.values():
            if phase.kind == kind and not phase.folder(store).finished():
                mine[phase.name].append(phase)
        for folder in store.folders(kind):
            name = folder.name.split("/", 1)[1].rsplit("-", 1)[0]
            for phase in mine.get(name, ()):
                theirs = folder.document() if folder.identity != phase.identity else None
                if theirs and _without_sources(theirs) == _without_sources(phase.document):
                    before, now = _sources(theirs), _sources(phase.document)
                    changed.update(
                        (n, before.get(n), now[n]) for n in now if before.get(n) != now[n]
                    )
    return [
        f"{name} has changed since {count} results of the store were made (source {before}, now "
        f"{now}): they do not count, and stay; the old source finds them again"
        for (name, before, now), count in sorted(changed.items())
    ]


def _sources(document: Any) -> dict[str, str]:
    """Hashes of the sources in a document, by component."""
    found: dict[str, str] = {}
    for name, value in document.items() if isinstance(document, dict) else ():
        if isinstance(value, dict):
            found |= {name: value["source"]} if _is_code(value) else _sources(value)
    if document.get("source") and "phase" in document:  # of a preparation
        found[document["phase"]] = document["source"]
    return found


def _is_code(value: dict) -> bool:
    return value.keys() == {"version", "source"}


def _without_sources(value: Any) -> Any:
    """A document without the hashes of sources."""
    if not isinstance(value, dict):
        return value
    plain = {k: v for k, v in value.items() if not (k == "source" and {"version"} <= value.keys())}
    return {name: _without_sources(each) for name, each in plain.items()}


def mixed(commits: Iterable[str]) -> str:
    """What a table says of results of several commits, or of changes that none holds."""
    found = set(commits)
    notes = ["results of several versions of the code"] if len(found) > 1 else []
    notes += ["changes that no commit holds"] if any(c.endswith("+changes") for c in found) else []
    return f" ({'; '.join(notes)})" if notes else ""

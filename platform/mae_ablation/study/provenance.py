"""Provenance: the code behind a plan's results, and what of it is not the code at work.

Results are found by their identity, which holds the version of every component and, of a user's,
the hash of its source. What a plan says here is what no identity can: that results are of another
commit, of a tree with changes, or that a plug-in's source has changed and older results are left.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from mae_ablation.registry import plugins
from mae_ablation.store.plugin import Plugin
from mae_ablation.study.identity import identity
from mae_ablation.study.plan import Plan, trials_of
from mae_ablation.study.trial import Phase


def plugins_of(phases: Iterable[Phase]) -> list[Plugin]:
    """List the plug-ins that some phases use, in the order they were loaded."""
    # an evaluation is no part of the recipe's components until a study asks for it
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
    # versions in identities agree, so these count: it is said, not refused
    lines, folders = [], [phase.folder(plans[0].store) for phase in _phases(plans)]
    made_by = Counter(r["commit"] for folder in folders if (r := folder.result()) and "commit" in r)
    others = {made: count for made, count in sorted(made_by.items()) if made != commit}
    if others:
        each = ", ".join(f"{count} by {made}" for made, count in others.items())
        agree = "Versions of components agree, so they count; another --store makes them anew"
        lines.append(f"cached results of other code: {each}; this is {commit}. {agree}")
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
    now = {plugin.hash: plugin.name for plugin in plugins()}
    meant: dict[str, dict[tuple[str, str], tuple[str, set[str]]]] = {}
    for phase in _phases(plans):
        sources, rest = _split_sources(phase.document)
        if sources and not phase.folder(store).finished():
            mine = meant.setdefault(phase.kind, {})
            mine[phase.name, identity(rest)] = phase.identity, sources

    # results of the same name and meaning, whose sources alone are others
    for kind, mine in meant.items():
        for folder in store.folders(kind):
            sources, rest = _split_sources(folder.document() or {})
            name = folder.name.split("/", 1)[1].rsplit("-", 1)[0]
            asked, new = mine.get((name, identity(rest)), ("", set()))
            if asked and asked != folder.identity and folder.finished():
                changed.update((now[each], each) for each in new - sources if each in now)
    return [
        f"{name} has changed since {count} result{'s' * (count > 1)} of the store "
        f"{'were' if count > 1 else 'was'} made: its source is now {source}. These do not count "
        "and stay; the old source finds them again"
        for (name, source), count in sorted(changed.items())
    ]


def _split_sources(document: dict) -> tuple[set[str], dict]:
    """Return the hashes of sources in a document, and the document without them."""
    # a component's code, or the preparation of a user's target
    keys = document.keys()
    own = keys == {"version", "source"} or {"phase", "version", "source"} <= keys
    sources, rest = set(), {}
    for name, value in document.items():
        if own and name == "source":
            sources.add(value)
        elif isinstance(value, dict):
            nested, rest[name] = _split_sources(value)
            sources |= nested
        else:
            rest[name] = value
    return sources, rest


def mixed(commits: Iterable[str]) -> str:
    """Say in brackets if results are of several commits, or of changes that none holds."""
    found = set(commits)
    notes = ["results of several versions of the code"] if len(found) > 1 else []
    notes += ["changes that no commit holds"] if any(c.endswith("+changes") for c in found) else []
    return f" ({'; '.join(notes)})" if notes else ""

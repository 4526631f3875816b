"""The small files of phases that a cluster ran, packed there and unpacked here.

Curves, results, failures and pictures are downloaded; checkpoints stay where they were made. The
archive also says what was found of the data: a set that only the cluster has gives its phases
their identities, and a plan made here has to have the same.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from mae_ablation.recipe.checks import section
from mae_ablation.recipe.recipe import Data
from mae_ablation.store import archive, atomic, declaration
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.trial import DataFacts, Trial

FACTS = "facts.json"
FactsThere = Callable[[Data], DataFacts | None]
"""finds what the cluster knows of a data set; None: it says nothing of it"""


def begun_folders(trials: Iterable[Trial], store: Store) -> list[PhaseFolder]:
    """Return the folders of phases that have begun, of trials and of what they need, each once."""
    found = {}
    for trial in trials:
        # a fitted target comes home, too: a report names it
        for phase in (*(trial.needs.phases if trial.needs else ()), *trial.phases):
            found[phase.identity] = phase.folder(store)
    return [folder for folder in found.values() if folder.exists()]


def pack_results(
    path: Path,
    folders: Iterable[PhaseFolder],
    facts: Iterable[tuple[Data, DataFacts]],
    declared: Mapping[str, bytes],
) -> None:
    """Write the phases' small files, what is known of their data and what was declared into an
    archive."""
    known = [[section(data), asdict(found)] for data, found in facts]
    notes = {FACTS: atomic.to_json(known), **declared}
    archive.pack(path, folders, notes, pictures=True)


def unpack_results(path: Path, store: Store) -> tuple[int, FactsThere]:
    """Put an archive's phases into a store. Returns how many, and what it says of the data.

    Raises:
        BadArchive: the archive is damaged.
    """
    # phases have identities by their data, which may be on the cluster alone
    found = archive.read(path)
    known = json.loads(found.notes.get(FACTS, b"[]"))
    facts = {_key(where): DataFacts(**said) for where, said in known}
    declared = declaration.packed_in(found.notes)
    if not declaration.contradictions(declared, store.files):  # else what is declared here stands
        declaration.add_declarations(declared, store.files)
    put = sum(archive.put_phase(phase, store, "download") for phase in found.phases)
    return put, lambda data: facts.get(_key(section(data)))


def _key(where: dict) -> str:
    return json.dumps(where, sort_keys=True)

"""Home: the small files of phases that a cluster ran, packed there and unpacked here.

Curves, results, failures and pictures come home; checkpoints stay where they were made. The
archive also says what was found of the data: a set that only the cluster has gives its phases
their identities, and a plan made here has to have the same.
"""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from mae_ablation.store import atomic
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.identity import section
from mae_ablation.study.recipe import Data
from mae_ablation.study.trial import DataFacts, Trial

SMALL = ("phase.json", "journal.jsonl", "result.json", "failure.json")
"""in the order they are put in place: a result stands for all the others"""
FACTS = "facts.json"
FactsThere = Callable[[Data], DataFacts | None]
"""what the cluster found of a data set; None: it says nothing of it"""
MEMBER = re.compile(
    r"(?P<kind>[a-z_]+)/(?P<name>[\w.=+-]+)-(?P<identity>[0-9a-f]{12})/"
    r"(?P<file>phase\.json|journal\.jsonl|result\.json|failure\.json"
    r"|pictures/reconstruction-\d+\.png)"
)


def folders_of(trials: Iterable[Trial], store: Store) -> list[PhaseFolder]:
    """Phases of trials and of what they need, each once, that have begun."""
    found = {}
    for trial in trials:
        for phase in (*(trial.needs.phases if trial.needs else ()), *trial.phases):
            found[phase.identity] = phase.folder(store)
    return [folder for folder in found.values() if folder.exists()]


def pack(
    archive: Path, folders: Iterable[PhaseFolder], facts: Iterable[tuple[Data, DataFacts]]
) -> None:
    """Write the phases' small files, and what is known of their data, into a .tar.gz."""
    known = [[section(data), asdict(found)] for data, found in facts]
    with atomic.replacing(archive) as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        _add(tar, FACTS, atomic.to_json(known))
        for folder in folders:
            pictures = (f"pictures/reconstruction-{step:08d}.png" for step in folder.pictures())
            for name in (*SMALL[:2], *pictures, *SMALL[2:]):
                data = folder.files.read(f"{folder.name}/{name}")
                if data is not None:
                    _add(tar, f"{folder.name}/{name}", data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def unpack(archive: Path, store: Store) -> tuple[int, FactsThere]:
    """Put an archive's phases into a store. Returns how many, and what it says of the data.

    A phase that is finished here is left alone, and so is one that is at work here or has
    checkpoints here while the archive's is not finished. A finished one takes the place of an
    unfinished one: its checkpoints are of another, interrupted training.
    """
    found: dict[tuple[str, str, str], dict[str, bytes]] = {}
    facts: dict[str, DataFacts] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            data = tar.extractfile(member).read() if member.isfile() else b""
            match = MEMBER.fullmatch(member.name)
            if member.name == FACTS:
                facts = {_key(where): DataFacts(**said) for where, said in json.loads(data)}
            elif match:
                files = found.setdefault((match["kind"], match["name"], match["identity"]), {})
                files[match["file"]] = data
    put = sum(_settle(store.phase(*where), files) for where, files in found.items())
    return put, lambda data: facts.get(_key(section(data)))


def _key(where: dict) -> str:
    return json.dumps(where, sort_keys=True)


def _settle(folder: PhaseFolder, files: dict[str, bytes]) -> bool:
    """Whether the files were put there."""
    if folder.result() is not None or ("result.json" not in files and folder.checkpoints()):
        return False
    claim = folder.claim("home")
    if claim is None:
        return False
    try:
        folder.files.remove(folder.name)
        for name, data in files.items():
            folder.files.write(f"{folder.name}/{name}", data)
        return True
    finally:
        claim.release()

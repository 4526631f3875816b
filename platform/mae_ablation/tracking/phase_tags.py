"""Keeps results of phases in a run's tags at full precision: a report needs MLflow alone.

    result.3f2a9c0d1e4b    {"epochs":7,"test_acc1":84.931,...}     a finished phase's result
    failure.3f2a9c0d1e4b   {"reason":"pretrain: Diverged: ..."}    of a phase that failed when tried
    stopped.3f2a9c0d1e4b   {"search":"..."}                        of one a search stopped early
    error                  the first of these reasons, for people

Tags come with the search for runs: a report takes one query, however many phases it rests on.
"""

import json
from collections.abc import Mapping

RESULT, FAILURE, STOPPED, ERROR = "result.", "failure.", "stopped.", "error"
TAG_KINDS = (RESULT, FAILURE, STOPPED)
LIMIT = 8000
"""Characters of a tag: MLflow cuts longer ones."""

REASON = 3900
"""Characters of a reason: its line breaks and quotes take two in JSON."""


def make_phase_tags(
    results: Mapping[str, dict], failures: Mapping[str, dict], stops: Mapping[str, dict]
) -> dict[str, str]:
    """Make tags of a run. All arguments go by identity."""
    tags = {RESULT + identity: pack_result(result) for identity, result in results.items()}
    for identity, stop in stops.items():
        tags[STOPPED + identity] = _compact({"search": stop.get("search")})
    for identity, failure in failures.items():
        tags[FAILURE + identity] = _compact({"reason": failure["reason"][:REASON]})
        tags.setdefault(ERROR, failure["reason"][:REASON])
    return tags


def pack_result(result: dict) -> str:
    """Write a result without its packages' versions; of one too long for a tag, its plain
    values."""
    kept = {name: value for name, value in result.items() if name != "versions"}
    if len(_compact(kept)) > LIMIT:
        kept = {name: v for name, v in kept.items() if not isinstance(v, list | dict)}
    return _compact(kept)


def _compact(value: dict) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def read_phase_tags(tags: Mapping[str, str], kind: str) -> dict[str, dict]:
    """Read a run's results, failures or stops of phases, by identity.

    Raises:
        ValueError: somebody has changed a tag.
    """
    return {
        key.removeprefix(kind): json.loads(v) for key, v in tags.items() if key.startswith(kind)
    }

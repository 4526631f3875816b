"""What a run's tags say of its phases at full precision, so that a report needs MLflow alone.

    result.3f2a9c0d1e4b    {"epochs":7,"test_acc1":84.931,...}     a finished phase's result
    failure.3f2a9c0d1e4b   {"reason":"pretrain: Diverged: ..."}    of a phase that failed when tried
    stopped.3f2a9c0d1e4b   {"search":"..."}                        of one a search stopped early
    error                  the first of these reasons, for people

Tags come with the search for runs: a report takes one query, however many phases it rests on.
"""

import json
from collections.abc import Iterable, Mapping

RESULT, FAILURE, STOPPED, ERROR = "result.", "failure.", "stopped.", "error"
KINDS = (RESULT, FAILURE, STOPPED)
LIMIT = 8000
"""characters of a tag: MLflow cuts longer ones"""
REASON = 3900
"""characters of a reason: its line breaks and quotes take two in JSON"""


def tags_about(
    results: Mapping[str, dict], failures: Mapping[str, dict], stops: Mapping[str, dict]
) -> dict[str, str]:
    """Tags of a run. All go by identity."""
    tags = {RESULT + identity: packed(result) for identity, result in results.items()}
    for identity, stop in stops.items():
        tags[STOPPED + identity] = compact({"search": stop.get("search")})
    for identity, failure in failures.items():
        tags[FAILURE + identity] = compact({"reason": failure["reason"][:REASON]})
        tags.setdefault(ERROR, failure["reason"][:REASON])
    return tags


def packed(result: dict) -> str:
    """A result without its packages' versions; of one too long for a tag, its plain values."""
    told = {name: value for name, value in result.items() if name != "versions"}
    if len(compact(told)) > LIMIT:
        told = {name: v for name, v in told.items() if not isinstance(v, list | dict)}
    return compact(told)


def compact(value: dict) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def about_phases(tags: Mapping[str, str]) -> dict[str, str]:
    """Those of a run's tags that `tags_about` makes."""
    return {k: v for k, v in tags.items() if k == ERROR or k.startswith(KINDS)}


def outdated(known: Iterable[str], identities: Iterable[str], now: Mapping[str, str]) -> list[str]:
    """Of the `known` tags those about these phases that no longer hold."""
    names = {kind + identity for kind in KINDS for identity in identities} | {ERROR}
    return [key for key in known if key in names and key not in now]


def read(tags: Mapping[str, str], kind: str) -> dict[str, dict]:
    """What a run says of its phases' results, failures or stops, by identity.

    Raises:
        ValueError: somebody has changed a tag.
    """
    return {
        key.removeprefix(kind): json.loads(v) for key, v in tags.items() if key.startswith(kind)
    }

"""Gate: verdicts that make a command fail, such as in continuous integration."""

from collections import Counter

from mae_ablation.errors import UserError, unknown
from mae_ablation.report.readings import Readings
from mae_ablation.report.results import results_frame
from mae_ablation.report.table import table_frame
from mae_ablation.report.verdict import SIGNS, format_verdict, verdict_column
from mae_ablation.run.session import Session
from mae_ablation.study.plan import Plan


def check_verdicts(session: Session, fail_on: str) -> tuple[list[str], list[str]]:
    """Count the verdicts of studies as their results have them by now; nothing is written.

    Args:
        fail_on: verdicts that are not accepted, with commas between them.

    Returns a line for every study, and one for every row whose verdict is not accepted.

    Raises:
        UserError: there is no such verdict, or the store cannot be read.
    """
    # words of a shell need no quotes: no-difference
    refused = [word.strip().replace("-", " ") for word in fail_on.split(",")]
    for word in refused:
        if word not in SIGNS:
            raise UserError(unknown("verdict", word, list(SIGNS)), "--fail-on")

    # every verdict of a table, those on a study's own references too
    lines, failed = [], []
    for plan in session.plans:
        name = plan.study.experiment
        verdicts = _list_verdicts(plan)
        counts = Counter(verdict for verdict, _ in verdicts)
        said = ", ".join(f"{counts[each]} {each}" for each in SIGNS if counts[each])
        lines.append(f"{name}: {said or 'no verdict: the study names no published numbers'}")
        failed += [f"{name}: {row}" for verdict, row in verdicts if verdict in refused]
    return lines, failed


def _list_verdicts(plan: Plan) -> list[tuple[str, str]]:
    """List verdicts, each with its row in words; "incomplete" once where nothing is finished."""
    readings = Readings(plan.store)
    results = results_frame(plan, readings)
    # a table of nothing has no rows to judge
    if not (results["status"] == "finished").any():
        return [("incomplete", "incomplete: no trial is finished")]
    found = []
    # the paper's verdict, and then those on the study's own references
    for row in table_frame(plan, results, readings).to_dict("records"):
        where = f"{row['metric'].removeprefix('test_')} of {row['level']}"
        if row["verdict"] in SIGNS:
            found.append((row["verdict"], f"{where}: {format_verdict(row)}"))
        for each in plan.study.references:
            word = row.get(verdict_column(each))
            if word in SIGNS:
                found.append((word, f"{where}: {word} against {each.source}"))
    return found

"""The document of a study: everything that its report says, once, for all of its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mae_ablation.report.findings import list_detectable, list_findings
from mae_ablation.report.headline import count_decisions, list_cautions, write_preamble
from mae_ablation.report.method import (
    describe_conditions,
    describe_cost,
    describe_data,
    describe_protocol,
    explain_columns,
    list_remarks,
    run_command,
)
from mae_ablation.report.metrics import HOURS, quantity_of
from mae_ablation.study.plan import Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One measured quantity: its rows of the table, and the sentences around them."""

    metric: str
    rows: pd.DataFrame
    decisions: str
    """What the rows decide, with their counted verdicts."""
    cautions: list[str]
    """What belongs beside the verdicts."""
    news: str
    """What is new since the last report; "" where nothing is."""
    findings: list[str]
    detectable: list[str]
    """What this many seeds could have seen."""
    protocol: str
    conditions: str
    """Under what hours were measured."""

    @property
    def title(self) -> str:
        return quantity_of(self.metric).title

    @property
    def headline(self) -> str:
        """The sentences above the table."""
        return " ".join(filter(None, [self.decisions, *self.cautions]))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportDocument:
    """A study's report, before it is written in any format."""

    plan: Plan
    table: pd.DataFrame
    results: pd.DataFrame
    preamble: str
    """What a reader has to know before the first table."""
    descriptive: str
    """That the tables are descriptive only, and why; "" where they are not."""
    caption: str
    sections: list[Section]
    columns: str
    """Explains the columns that are there."""
    remarks: list[str]
    published: Sequence[dict[str, str]]
    """Reports of the study that ship with the project."""
    command: str
    cost: str

    @property
    def title(self) -> str:
        return self.plan.study.title


def make_document(
    plan: Plan,
    table: pd.DataFrame,
    results: pd.DataFrame,
    finished: Sequence[dict] = (),
    *,
    descriptive: str = "",
    news: Mapping[str, str] | None = None,
    published: Sequence[dict[str, str]] = (),
) -> ReportDocument:
    """Say everything there is to say of a study.

    Args:
        finished: the result of every training behind it, each once.
        descriptive: that its tables are descriptive only, and why, or "".
        news: by metric what is new since the last report, in a line.
        published: reports of the study that ship with the project.
    """
    sections = []
    for metric in dict.fromkeys(table["metric"]):
        rows = table[table["metric"] == metric]
        sections.append(
            Section(
                metric=metric,
                rows=rows,
                decisions=count_decisions(plan, metric, rows),
                cautions=list_cautions(plan, metric, table, results),
                news=(news or {}).get(metric, ""),
                findings=list_findings(plan, metric, results, table),
                detectable=list_detectable(plan, metric, results, table),
                protocol=describe_protocol(plan, metric),
                conditions=describe_conditions(rows) if metric == HOURS else "",
            )
        )
    return ReportDocument(
        plan=plan,
        table=table,
        results=results,
        preamble=write_preamble(plan, descriptive),
        descriptive=descriptive,
        caption=describe_data(plan, results),
        sections=sections,
        columns=explain_columns(plan, table, results),
        remarks=list_remarks(plan, finished),
        published=published,
        command=run_command(plan),
        cost=describe_cost(plan, finished),
    )

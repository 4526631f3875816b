"""The document of a study: everything that its report says, once, for all of its files."""

from collections.abc import Mapping, Sequence

import pandas as pd

from mae_ablation.report import method
from mae_ablation.report.cells import reference_cells
from mae_ablation.report.findings import list_detectable, list_findings
from mae_ablation.report.headline import count_decisions, list_cautions, write_preamble
from mae_ablation.report.metrics import HOURS, quantity_of, references_of
from mae_ablation.study.plan import Plan


class Section:
    """One measured quantity: its rows of the table, and the sentences around them, as texts."""

    def __init__(
        self, plan: Plan, metric: str, table: pd.DataFrame, results: pd.DataFrame, news: str
    ) -> None:
        self.metric, self.title = metric, quantity_of(metric).title
        self.rows = table[table["metric"] == metric]

        # above the table: verdicts, counted, with what belongs beside them wherever they are
        self.decisions = count_decisions(plan, metric, self.rows)
        self.cautions = list_cautions(plan, metric, table, results)
        self.headline = " ".join(filter(None, [self.decisions, *self.cautions]))

        # other published numbers beside ours: columns and rows of a table of its own
        references = references_of(plan, metric)
        self.references = reference_cells(self.rows, references) if references else None

        # beneath it: what is new since the last report, what is found, and could have been
        self.news = news
        self.findings = list_findings(plan, metric, results, table)
        self.detectable = list_detectable(plan, metric, results, table)
        self.protocol = method.describe_protocol(plan, metric)
        self.conditions = method.describe_conditions(self.rows) if metric == HOURS else ""


class ReportDocument:
    """A study's report, before it is written in any format."""

    def __init__(
        self,
        plan: Plan,
        table: pd.DataFrame,
        results: pd.DataFrame,
        finished: Sequence[dict] = (),
        *,
        descriptive: str = "",
        news: Mapping[str, str] | None = None,
        published: Sequence[dict[str, str]] = (),
    ) -> None:
        """Say everything there is to say of a study.

        Args:
            finished: the result of every training behind it, each once.
            descriptive: why its tables are descriptive only, or "".
            news: by metric what is new since the last report, in a line.
            published: reports of the study that ship with the project.
        """
        self.plan, self.table, self.results, self.published = plan, table, results, published
        self.title, self.command = plan.study.title, method.run_command(plan)
        self.sections = [
            Section(plan, metric, table, results, (news or {}).get(metric, ""))
            for metric in dict.fromkeys(table["metric"])
        ]

        # before the first table, and what explains all of them
        self.preamble, self.descriptive = write_preamble(plan, descriptive), descriptive
        self.caption = method.describe_data(plan, results)
        self.columns = method.explain_columns(plan, table, results)
        self.remarks = method.list_remarks(plan, finished)
        self.cost = method.describe_cost(plan, finished)

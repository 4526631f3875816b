"""Pages: one file each, every cell leads to its trials, the same store gives the same bytes."""

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from toys import session_of

from mae_ablation import cli
from mae_ablation.api import plan_studies, plan_study
from mae_ablation.report import reconstructions
from mae_ablation.report.curves import curves_svg, mean_curve, read_curve, thin_out
from mae_ablation.report.document import ReportDocument
from mae_ablation.report.drawing import inline_svg
from mae_ablation.report.figure import draw_figure, draw_heatmap, draw_panel, find_grid
from mae_ablation.report.how_to_read import emphasise
from mae_ablation.report.html import safe_address
from mae_ablation.report.latex import escape, latex_table
from mae_ablation.report.readings import trials_behind
from mae_ablation.report.reconstructions import list_reconstructions, say_left_out_levels
from mae_ablation.report.report import write_report
from mae_ablation.report.results import results_frame
from mae_ablation.report.table import table_frame

STUDY = """\
title: Masking <ratio> & 100 %
paper: figure_5
recipe: toy
factors:
  mask_ratio: [0.5, 0.75, 0.9]
seeds: 3
"""
SUITE = "title: Two at once\nstudies: [x, depth]\n"
DEPTH = "title: Depth\npaper: table_1a\nrecipe: toy\nfactors:\n  decoder_depth: [1, 2]\nseeds: 3\n"


def finish(plan, *, only=None):
    """Results, journals and pictures of a plan's trials, of some levels and seeds if `only`."""
    for number, row in enumerate((*plan.rows, *plan.references)):
        for seed, trial in row.trials.items():
            if only and not only(row.label, seed):
                continue
            for phase in trial.phases:
                finish_phase(phase.folder(plan.store), phase, 70 + number + seed / 4)


def finish_phase(folder, phase, accuracy):
    folder.begin(phase.document)
    numbers = {"seconds": 1.5, "commit": "abc", "epochs": 2, "images_per_s": 9.0, "train_loss": 0.5}
    numbers |= {"test_acc1": accuracy, "validation_acc1": accuracy, "device": "cpu"}
    if not folder.journal.read():
        for epoch in (1, 2):
            quantity = "loss" if phase.kind == "pretrain" else "validation_acc1"
            point = {f"{phase.prefix}/epoch": epoch, f"{phase.prefix}/{quantity}": accuracy / epoch}
            folder.journal.append(4 * epoch, point)
    if phase.kind == "pretrain":
        folder.save_picture(8, picture())
    folder.finish(numbers)


def picture():
    file = io.BytesIO()
    Image.new("L", (8 * 120, 4 * 120), 100).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def plan(write_study, tmp_path):
    plan = plan_study(write_study(STUDY), store=tmp_path / "store")
    finish(plan, only=lambda level, seed: (level, seed) != ("0.9", 2))
    return plan


class Page(HTMLParser):
    """What a page refers to."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.resources, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" and "href" in attrs else []
        self.resources += [v for k, v in attrs.items() if k in ("src", "xlink:href", "srcset")]
        self.resources += (
            [attrs["href"]] if tag in ("link", "use", "image") and attrs.get("href") else []
        )


def test_a_page_needs_nothing_else_and_every_cell_leads_to_its_trials(plan, tmp_path):
    first = plan.rows[0].trials[0]
    runs = {",".join(first.result_id): "http://127.0.0.1:5000/#/run/1?a=1&b=2"}
    files = write_report(plan, tmp_path / "reports" / "x", runs=runs)
    text = (tmp_path / "reports" / "x" / "index.html").read_text()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert [x for x in page.links if x.startswith("#runs-")] == [
        f"#runs-linear_probe_acc1-{i}" for i in range(5)
    ]
    assert [x for x in page.links if "://" in x] == ["http://127.0.0.1:5000/#/run/1?a=1&b=2"]
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in page.resources)
    assert "script" not in page.tags and "url(http" not in text and "@import" not in text
    assert "<h1>Masking &lt;ratio&gt; &amp; 100 %</h1>" in text
    assert first.phases[-1].identity in text and first.phases[0].folder(plan.store).name in text
    assert "2 of 3 seeds" in text and "<td>missing</td>" in text
    assert text.count("data:image/png;base64,") == 3 and text.count("<svg ") == 2
    beside = {link for link in page.links if "/" not in link and "#" not in link}
    assert beside < {path.name for path in files}
    assert json.loads(files[-1].read_text())["files"] == [path.name for path in files]


def test_only_addresses_of_pages_are_linked():
    assert safe_address("https://host/run") == "https://host/run"
    assert safe_address("javascript:alert(1)") is None and safe_address(None) is None
    assert emphasise("*sd*: <over> seeds") == "<em>sd</em>: &lt;over&gt; seeds"


def test_two_figures_in_a_page_do_not_share_names():
    svg = '<?xml?><svg x="1" width="72pt" height="72pt"><metadata>http://x</metadata>'
    svg += '<g id="a"/><use xlink:href="#a"/><g clip-path="url(#a)"/></svg>'
    assert inline_svg(svg, "f") == (
        '<svg x="1" style="width:100%;height:auto;max-width:96px"><g id="f-a"/>'
        '<use xlink:href="#f-a"/><g clip-path="url(#f-a)"/></svg>'
    )


def test_curves_are_means_of_the_epochs_that_all_seeds_have(plan):
    row = plan.rows[0]
    curves = [read_curve(plan, "0.5", row.trials[seed], "linear_probe") for seed in (0, 1, 2)]
    assert curves[1].epochs == (1, 2) and curves[1].values == (70.25, 70.25 / 2)
    shorter = curves[2]._replace(epochs=(1,), values=(71.0,))
    assert mean_curve([curves[0], shorter]).values == (70.5,)
    assert len(thin_out(range(1000))) == 150 and thin_out(range(1000))[-1] == 999
    assert read_curve(plan, "0.9", plan.rows[2].trials[2], "pretrain") is None


def test_without_journals_and_pictures_nothing_is_said_of_them(write_study, tmp_path):
    plan = plan_study(write_study(STUDY), store=tmp_path / "none")
    assert curves_svg(plan, results_frame(plan)) is None
    assert list_reconstructions(plan, results_frame(plan)) == []
    write_report(plan, tmp_path / "reports" / "x")
    text = (tmp_path / "reports" / "x" / "index.html").read_text()
    assert "Training curves" not in text and "Reconstructions" not in text
    assert "0 of 3 seeds" in text


def test_reconstructions_are_small_and_of_the_last_epoch(plan):
    found = list_reconstructions(plan, results_frame(plan))
    assert [(r.level, r.seed, r.step) for r in found] == [
        ("0.5", 0, 8),
        ("0.75", 0, 8),
        ("0.9", 0, 8),
    ]
    assert (found[0].width, found[0].height) == (280, 224) and len(found[0].data) < 2000


def test_a_page_says_how_many_reconstructions_it_shows(plan, monkeypatch):
    assert say_left_out_levels(plan) == ""
    monkeypatch.setattr(reconstructions, "MOST_LEVELS", 2)
    assert say_left_out_levels(plan) == "Shown are the first 2 of 3 levels."
    assert len(list_reconstructions(plan, results_frame(plan))) == 2


RATES = "recipe: toy\nfactors:\n  pretrain.base_lr: [1e-3, 2e-3, 4e-3, 8e-3]\n"


def test_geometric_levels_are_drawn_on_a_logarithmic_axis(write_study, tmp_path):
    import matplotlib.pyplot as plt

    plan = plan_study(write_study(RATES), store=tmp_path / "store")
    finish(plan)
    results = results_frame(plan)
    table = table_frame(plan, results)
    figure, axis = plt.subplots()
    draw_panel(plan.study.factors[0], "linear_probe_acc1", axis, table, results)
    assert axis.get_xscale() == "log"
    assert axis.get_xticks().tolist() == [0.001, 0.002, 0.004, 0.008]
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        "0.001",
        "0.002",
        "0.004",
        "0.008",
    ]
    plt.close(figure)
    assert draw_figure(plan, table, results, tmp_path)


GRID = """\
recipe: toy
design: grid
factors:
  mask_ratio: [0.5, 0.75]
  decoder_depth: [1, 2, 4]
exclude: [{mask_ratio: 0.5, decoder_depth: 4}]
"""


def test_a_grid_of_two_factors_is_a_heat_map(write_study, tmp_path):
    import matplotlib.pyplot as plt

    plan = plan_study(write_study(GRID), store=tmp_path / "store")
    finish(plan, only=lambda level, seed: level != "mask_ratio=0.75, decoder_depth=4")
    grid = find_grid(plan.study)
    assert (grid.columns.name, grid.index.name) == ("mask_ratio", "decoder_depth")
    assert list(grid.columns) == [0.5, 0.75] and list(grid.index) == [1, 2, 4]
    figure, axis = plt.subplots()
    draw_heatmap(grid, axis, table_frame(plan, results_frame(plan)), "accuracy (%)")
    assert [text.get_text() for text in axis.texts] == ["70.00", "72.00", "71.00", "73.00"]
    assert len(axis.patches) == 2  # the baseline's frame
    plt.close(figure)
    assert find_grid(replace(plan.study, design="zip")) is None
    results = results_frame(plan)
    draw_figure(plan, table_frame(plan, results), results, tmp_path)
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 1.8 * 1080  # beside the levels


def test_what_is_left_out_of_a_grid_does_not_disorder_it(write_study, tmp_path):
    import matplotlib.pyplot as plt

    text = GRID.replace("[0.5, 0.75]", "[0.5, 0.75, 0.9]")
    text = text.replace("decoder_depth: 4}", "decoder_depth: 1}, {mask_ratio: 0.75}")
    plan = plan_study(write_study(text), store=tmp_path / "store")
    grid = find_grid(plan.study)
    assert list(grid.columns) == [0.5, 0.9] and list(grid.index) == [1, 2, 4]
    figure, axis = plt.subplots()
    draw_heatmap(grid, axis, table_frame(plan, results_frame(plan)), "accuracy (%)")
    assert axis.get_title() == "means" and not axis.patches
    plt.close(figure)


def test_a_dollar_in_a_title_or_a_level_is_a_dollar(write_study, tmp_path):
    text = "title: For $1 or $_\nrecipe: toy\nfactors:\n  how:\n    a $x^{: {}\n"
    plan = plan_study(write_study(text + "    b $: {mask_ratio: 0.5}\n"), store=tmp_path / "store")
    finish(plan)
    results = results_frame(plan)
    assert draw_figure(plan, table_frame(plan, results), results, tmp_path)
    assert "<svg" in curves_svg(plan, results)


TUNED = """\
recipe: toy
factors:
  mask_ratio: [0.5, 0.75]
tune:
  linear_probe.base_lr: [0.05, 0.1]
"""


def test_cells_lead_to_the_chosen_try(write_study, tmp_path):
    plan = plan_study(write_study(TUNED), store=tmp_path / "store")
    for row in (*plan.rows, *plan.references):
        for better, each in enumerate(row.tries):
            for phase in each.trials[0].phases:
                finish_phase(phase.folder(plan.store), phase, 70 + better)
    results = results_frame(plan)
    behind = trials_behind(plan, results, "linear_probe_acc1", 0)
    assert behind == {0: plan.rows[0].tries[1].trials[0]}
    write_report(plan, tmp_path / "reports" / "x")
    text = (tmp_path / "reports" / "x" / "index.html").read_text()
    assert behind[0].phases[1].folder(plan.store).name in text
    assert (
        "base_lr 0.1 (tuned, 2 tries each; at the edge: base_lr 0.1 is the highest tried)" in text
    )


@pytest.mark.usefixtures("without_figures")
def test_a_line_says_what_is_new_since_the_last_report(write_study, tmp_path):
    study, folder = write_study(STUDY), tmp_path / "reports" / "x"

    def report(seeds):
        plan = plan_study(study, store=tmp_path / "store", seeds=seeds)
        finish(plan)
        return {path.name: path.read_text("utf-8") for path in write_report(plan, folder)}

    assert "New since" not in report(3)["table.md"]
    files, news = report(5), "New since the last report: seeds 3, 4 of every row."
    assert news in files["table.md"] and news in files["index.html"]
    assert news not in files["table.csv"] + files["trials.csv"] + files["table.tex"]
    assert report(5) == files  # written again it says the same
    (folder / "report.json").write_text('{"news": 3')
    assert "New since" not in report(5)["table.md"]  # damaged it does no harm
    write_study(STUDY.replace("0.9]", "0.9, 0.25]"))
    assert "New since the last report: level 0.25.\n" in report(5)["table.md"]
    assert "New since" not in report(4)["table.md"]


@pytest.fixture
def place(write_study, tmp_path, monkeypatch):
    """A working directory with a suite of two finished studies."""
    write_study(STUDY)
    (tmp_path / "studies" / "depth.yaml").write_text(DEPTH)
    (tmp_path / "studies" / "both.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    for plan in plan_studies([Path("studies/both.yaml")], store="store"):
        finish(plan)
    return tmp_path


@pytest.mark.usefixtures("without_figures")
def test_a_suite_has_a_page_and_all_reports_an_index(place, capsys):
    asked = ["report", "studies/both.yaml", "--reports", "reports"]
    assert cli.main(asked) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "reports/both/index.html",
        "reports/index.html",
    ]
    text = (place / "reports" / "both" / "index.html").read_text()
    page = Page(text)
    assert "Two at once" in text and text.index("(a) ") < text.index("Figure 5: Masking")
    for link in page.links:
        path, _, anchor = link.partition("#")
        other = place / "reports" / "both" / path
        assert other.is_file() and (not anchor or f'id="{anchor}"' in other.read_text())
    index = Page((place / "reports" / "index.html").read_text())
    assert [x for x in index.links if x.endswith("html")] == [
        "both/index.html",
        "depth/index.html",
        "x/index.html",
    ]
    assert index.resources == ["depth/figure.png", "x/figure.png"]
    before = {p: p.read_bytes() for p in (place / "reports").rglob("*") if p.is_file()}
    assert cli.main(asked) == 0
    assert before == {p: p.read_bytes() for p in (place / "reports").rglob("*") if p.is_file()}


def test_a_suite_with_another_recipe_has_a_folder_of_its_own(place):
    both = Path("studies/both.yaml")
    (suite,) = session_of(both, "studies/x.yaml").suites
    changed = plan_studies([both], store="store", changes=["pretrain.epochs=3"])
    assert suite.experiment([plan.study for plan in changed]) == "both-pretrain.epochs=3"
    assert suite.experiment([p.study for p in plan_studies([both], store="store")]) == "both"


def test_any_text_is_latex():
    assert escape("a_b & 50 % {x} #1 ~^\\ $") == (
        r"a\_b \& 50 \% \{x\} \#1 \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )
    assert escape("Größe ± 3 – µ \u4e2d\n") == "Größe $\\pm$ 3 -- ? ? "


def test_a_row_is_no_argument_of_the_line_above(plan):
    results = results_frame(plan)
    table = table_frame(plan, results)

    def tex(table):
        return latex_table(ReportDocument(plan, table, results))

    text = tex(table.replace({"level": {"0.5": "[a]", "0.9": "*b"}}))
    assert "\n{}[a]$" in text and "\n{}*b" in text
    assert "p: paired t test" not in text and "95 \\%" not in text  # there are none
    spread = tex(table.assign(low=0.1, high=0.2, p_holm=0.5))
    assert "$\\Delta$ [95 \\%]" in spread and "with 95 \\% t interval" in spread
    assert "& p " not in spread and "p: paired t test" not in spread  # no room for that column
    alone = tex(table.assign(p_holm=0.5, paper=None, verdict=""))
    assert "& p " in alone and "p: paired t test" in alone


@pytest.mark.skipif(
    not (shutil.which("tectonic") or shutil.which("pdflatex")), reason="no LaTeX on this machine"
)
def test_the_table_compiles_and_fits_the_text(plan, tmp_path):
    odd = replace(plan.study, title=r"A_b & 50% {x} #1 ~^\ $ <µ> 中", recipe_name="a_b%")
    plan = replace(plan, study=odd)
    results = results_frame(plan)
    text = latex_table(ReportDocument(plan, table_frame(plan, results), results))
    (tmp_path / "table.tex").write_text(text)
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        "\\input{table}\n\\end{document}\n"
    )
    tool = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    if shutil.which("tectonic"):
        tool = ["tectonic", "--keep-logs", "paper.tex"]
    done = subprocess.run(tool, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    assert not re.findall(r"Overfull \\hbox.*", (tmp_path / "paper.log").read_text("latin-1"))
    assert text.count("\\textbf{0.75}") == 1
    assert re.search(r"\$\^\{[a-z]\}\$ no pre-training", text)

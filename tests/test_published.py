"""Reports that ship with the project stand apart from one's own, which link to them."""

import json

import pytest
from conftest import ROOT
from toys import give_accuracies

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.report.overviews import write_index
from mae_ablation.report.report import write_report

pytestmark = pytest.mark.usefixtures("without_figures")
SHIPPED = ROOT / "reports" / "published"
STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\nseeds: 3\n"
ACCURACY = {
    "0.75": [60.0, 61.0, 62.0],
    "0.5": [50.0, 51.0, 52.0],
    "random encoder": [40.0, 40.0, 40.0],
    "raw pixels": [65.0, 65.0, 65.0],
}


@pytest.fixture
def plan(write_study, tmp_path):
    plan = plan_study(write_study(STUDY), store=tmp_path / "store")
    give_accuracies(plan, ACCURACY)
    return plan


def test_one_s_own_page_links_to_the_published_one_and_leaves_it_alone(plan, tmp_path):
    reports = tmp_path / "reports"
    write_report(plan, reports / "published" / "x-overnight")
    shipped = {p: p.read_bytes() for p in (reports / "published").rglob("*") if p.is_file()}
    write_report(plan, reports / "x")
    assert {p: p.read_bytes() for p in shipped} == shipped
    for name, link in (("table.md", "table.md"), ("index.html", "index.html")):
        assert f"../published/x-overnight/{link}" in (reports / "x" / name).read_text("utf-8")
    shown = (reports / "published" / "x-overnight" / "table.md").read_text("utf-8")
    assert "Published results" not in shown


def test_the_published_report_of_another_study_is_not_linked(plan, tmp_path):
    reports = tmp_path / "reports"
    write_report(plan, reports / "published" / "x-overnight")
    other = plan.study.path.with_name("y.yaml")
    other.write_text(STUDY)
    write_report(plan_study(other, store=tmp_path / "store"), reports / "y")
    assert "../published" not in (reports / "y" / "table.md").read_text("utf-8")


def test_the_index_leads_to_what_is_published(plan, tmp_path):
    reports = tmp_path / "reports"
    write_report(plan, reports / "x")
    assert 'href="published/index.html"' not in write_index(reports).read_text("utf-8")
    write_report(plan, reports / "published" / "x-overnight")
    write_index(reports / "published")
    assert 'href="published/index.html"' in write_index(reports).read_text("utf-8")


def test_published_reports_name_studies_of_this_repository():
    reports = list(SHIPPED.glob("*/report.json"))
    assert reports
    for report in reports:
        named = json.loads(report.read_text("utf-8"))["study_file"]
        assert (report.parent / named).resolve().parent == ROOT / "studies", report


def test_the_published_tables_are_made_again_from_the_results_that_ship(tmp_path, monkeypatch):
    """The golden test: nothing that changes later may alter a published number."""
    monkeypatch.chdir(ROOT)
    store = str(tmp_path / "store")
    assert main(["store", "import", str(SHIPPED / "results.zip"), "--store", store]) == 0
    study = ["studies/mask_ratio.yaml", "--recipe", "overnight", "--until-decided", "--most", "12"]
    main(["report", *study, "--store", store, "--reports", str(tmp_path / "reports")])
    again = tmp_path / "reports" / "mask_ratio-overnight"
    for name in ("table.md", "table.csv", "trials.csv", "table.tex"):
        published = (SHIPPED / "mask_ratio-overnight" / name).read_bytes()
        assert (again / name).read_bytes() == published, name

"""Every command that the documents show is run, on a small store; studies are planned, not run."""

import csv
import glob
import re
import shlex
import shutil
import subprocess

import pytest
from conftest import ROOT
from toys import give_accuracies

from mae_ablation.api import plan_study
from mae_ablation.cli import main, main_run
from mae_ablation.report.how_to_read import HOW_TO_READ, how_to_read, write_how_to_read
from mae_ablation.report.report import write_report
from mae_ablation.report.verdict import SIGNS
from mae_ablation.store.folder import Store

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "cluster.yaml")),
    *sorted((ROOT / "reports").glob("*.md")),
    *sorted((ROOT / "studies").rglob("*.md")),
    *sorted((ROOT / "studies").rglob("*.yaml")),
    *sorted((ROOT / "platform" / "mae_ablation" / "launch" / "templates").glob("*.yaml")),
]
OURS = re.compile(r"(?:python -m (?:platform|mae_ablation)(?:\.run)?|(?<=`)mae-ablation) [^\n`|>]*")
MAKE = re.compile(r"^    make (\S+)", re.MULTILINE)
ELSEWHERE = {
    "ui": "test_children.py starts it",
    "mlflow": "test_from_mlflow.py has a server",
    "FOLDER": "test_reconstruct.py has a folder",
    "gc": "test_store_commands.py has a store, and not every study to plan",
    "--gpu": "test_doctor.py has what it says; it needs a GPU",
}


def shown() -> list[str]:
    """Commands of ours in all documents, each once, without the remarks behind them."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        for match in OURS.findall(document.read_text(encoding="utf-8")):
            command = re.split(r"\s+#|\s{3,}|(?<!\.)\.\s|(?<!\.)\. *$", match)[0].strip()
            if not command.endswith("..."):
                found.setdefault(command, None)
    return list(found)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the repository's studies and reports, and one trial in its store."""
    from PIL import Image

    from mae_ablation.train.trial import run_trial

    place = tmp_path_factory.mktemp("documents")
    for name in ("studies", "reports"):
        shutil.copytree(ROOT / name, place / name)
    shutil.copy(ROOT / "cluster.yaml", place)
    quick = ["pretrain.epochs=1", "pretrain.warmup_epochs=0"]
    study = place / "studies" / "mask_ratio.yaml"
    trial = plan_study(study, store=place / "store", recipe="smoke", changes=quick).trials[0]
    assert run_trial(trial, place / "store") is None
    for name in ("mask_ratio", "tuned_probe"):  # two reports to compare
        plan = plan_study(place / "studies" / f"{name}.yaml", store=place / "fakes", recipe="smoke")
        rows = (*plan.rows, *plan.references)
        give_accuracies(plan, {row.label: [50.0 + i, 51.0 + i, 52.0] for i, row in enumerate(rows)})
        write_report(plan, place / "reports" / name)
    for split in ("train", "val"):
        folder = place / "FOLDER" / split / "cat"
        folder.mkdir(parents=True)
        Image.new("L", (30, 30), 128).save(folder / "1.png")
    shutil.copy(place / "FOLDER" / "val" / "cat" / "1.png", place / "cat.jpg")
    return place


def prepared(command: str, place) -> list[str]:
    """A document's command in words, its marks replaced by what the place has."""
    (folder,) = Store(place / "store").folders("pretrain")
    values = {"FILE_OR_TRIAL": folder.identity, "3f2a9c": folder.identity[:6]}
    values |= {"NAME": "mask_ratio", "my.yaml": "cluster.yaml", "[FILE]": ""}
    values |= {"data/imagenet100 --classes 100": "FOLDER", "s3://BUCKET/mae-ablation": "store"}
    values |= {"published/results.zip": "published/results.zip --store imported"}
    for mark, value in values.items():
        command = command.replace(mark, value)
    words = []
    for word in shlex.split(command):
        words += sorted(glob.glob(word, root_dir=place)) or [word]
    return words


@pytest.mark.parametrize("command", shown())
def test_a_command_of_the_documents(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    # Completion is written into the home of whoever runs it, for the shell that started it.
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("BASH_VERSION", "5")
    words = prepared(command, place)
    runs = words[:3] == ["python", "-m", "platform.run"]
    rest = words[3:] if words[0] == "python" else words[1:]
    if elsewhere := [ELSEWHERE[word] for word in (rest[0], rest[-1]) if word in ELSEWHERE]:
        pytest.skip(elsewhere[0])
    if runs or rest[0] == "run":
        rest = [word for word in rest if word != "--plan"] + ["--plan"]
    if rest[:2] == ["cluster", "check"]:
        assert main(rest) == 2, "the shipped file is to be filled in"
        return
    status, said = (main_run if runs else main)(rest), capsys.readouterr()
    if rest[0] == "report":  # the store has a trial of another recipe
        assert status == 1 and "the rest comes with: mae-ablation run " in said.err
        return
    assert status == 0, said.err


def test_the_page_that_explains_tables_is_that_of_this_version():
    """Any report writes it again: python -m platform report STUDY."""
    assert (ROOT / "reports" / HOW_TO_READ).read_text(encoding="utf-8") == how_to_read()


def test_every_folder_of_reports_says_why_these_tests(tmp_path):
    write_how_to_read(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "how_to_read.md",
        "verdicts.md",
        "verdicts_power.png",
    ]
    for name in ("verdicts.md", "verdicts_power.png"):
        assert (ROOT / "reports" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert "](verdicts.md)" in (tmp_path / "how_to_read.md").read_text()
    assert "](verdicts_power.png)" in (tmp_path / "verdicts.md").read_text()


VERDICTS = tuple(SIGNS)
ROW = re.compile(
    r"^\| \[[\w-]+\]\(((?:published/)?[\w-]+)/table\.md\) .*\|([^|]+)\|$", re.MULTILINE
)


def test_what_is_said_of_reports_is_in_their_tables():
    rows = ROW.findall((ROOT / "reports" / "README.md").read_text(encoding="utf-8"))
    assert bool(rows) == (ROOT / "reports" / "published").is_dir()
    for name, said in rows:
        with (ROOT / "reports" / name / "table.csv").open(encoding="utf-8", newline="") as file:
            given = {line["verdict"] for line in csv.DictReader(file)} - {""}
        assert {word for word in VERDICTS if word in said} == given, name


def test_make_has_what_the_documents_say():
    for document in DOCUMENTS:
        for target in MAKE.findall(document.read_text(encoding="utf-8")):
            done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

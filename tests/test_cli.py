"""The front door: quick, one line per error, exit statuses, nothing half-made."""

import os
import re
import resource
import shlex
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

RUN = [sys.executable, "-m", "platform.run"]
MASK_RATIO = "studies/mask_ratio.yaml"


def call(command, cwd=ROOT, **environment):
    """What a command says, and the seconds of a processor it took: others may be busy here."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        ([MASK_RATIO, "--plan"], 0),
        ([MASK_RATIO, "--set", "pretrain.epoch=1"], 2),
        (["studies/none.yaml"], 2),
        ([MASK_RATIO, "--seed", "3"], 2),
    ],
)
def test_the_front_door_answers_in_1_5_s(words, status):
    done, seconds = call(RUN + words)
    assert done.returncode == status, done.stderr
    assert seconds < (0.5 if words == ["--help"] else 1.5)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "program",
    [
        RUN,
        [sys.executable, "-m", "platform", "run"],
        [sys.executable, "-m", "mae_ablation", "run"],
        [str(ROOT / "none" / "mae-ablation"), "run"],
    ],
    ids=["platform.run", "platform", "mae_ablation", "console script"],
)
def test_all_ways_in_lead_to_the_same_plan(program):
    if program[0].endswith("mae-ablation"):
        program = [os.path.join(os.path.dirname(sys.executable), "mae-ablation"), "run"]
    done, _ = call(
        [*program, MASK_RATIO, "--plan", "--seeds", "2", "--store", "/tmp/no-such-store"]
    )
    assert done.returncode == 0, done.stderr
    assert "(10 levels + 2 references) x 2 seeds - 0 shared = 24; 0 finished" in done.stdout
    assert done.stdout.count("mask_ratio=") == 20


def refused(words, message, cwd=ROOT, **environment):
    done, _ = call(RUN + words, cwd, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for store in (tmp_path / "file", tmp_path / "file" / "store"):
        refused([MASK_RATIO, "--store", str(store)], "cannot write there")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    refused([MASK_RATIO, "--store", str(tmp_path / "store")], "is not writable")


def test_all_studies_are_checked_before_the_first_one_runs(tmp_path):
    (tmp_path / "bad.yaml").write_text("factor: 1\n")
    words = [MASK_RATIO, str(tmp_path / "bad.yaml"), "--store", str(tmp_path / "store")]
    refused(words, 'bad.yaml:1: unknown key "factor" (did you mean "factors"?)')
    assert not (tmp_path / "store").exists()


def test_ui_says_what_is_wrong(tmp_path):
    ui = [sys.executable, "-m", "mae_ablation", "ui"]
    done, _ = call(ui, cwd=tmp_path)
    assert done.returncode == 2 and "run a study first" in done.stderr
    (tmp_path / "mlflow.db").write_text("")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        done, _ = call([*ui, "--port", str(port)], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"ui: port {port} is busy: choose another with --port {port + 1}\n"


# errors that are made on purpose: one line each, exit status 2 ------------------------------------


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Types a command in a folder with studies/mask_ratio.yaml; returns the line it gets."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mask_ratio.yaml").write_text("factors: {mask_ratio: [0.5, 0.75]}\n")
    monkeypatch.chdir(tmp_path)

    def type_(*words, file=None):
        from mae_ablation.cli import main

        if file is not None:
            (tmp_path / "x.yaml").write_bytes(file)
        status, said = main(words), capsys.readouterr()
        assert status == 2, said.out
        assert said.err.count("\n") == 1 and said.out == ""
        return said.err.rstrip()

    return type_


STUDY_FILE = "studies/mask_ratio.yaml"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rn"], 'Unknown command "rn". Did you mean "run"?'),
        (["plan"], "plan: STUDIES is missing. (mae-ablation plan --help says more)"),
        (
            ["plan", STUDY_FILE, "--seed", "3"],
            "Unknown option: --seed. Did you mean --seeds? (mae-ablation plan",
        ),
        (["ui", "extra"], "Unused Tokens: ['extra']"),
        (["plan", STUDY_FILE, "--seeds", "0"], "--seeds: '0' is not a whole number from 1"),
        (["plan", STUDY_FILE, "--lanes", "x"], "--lanes: 'x' is not a whole number from 1, and"),
        (["plan", STUDY_FILE, "--lanes"], "--lanes requires an argument"),
        (["plan", STUDY_FILE, "--store", ""], "--store: no folder is named"),
        (["plan", STUDY_FILE, "--gpus", "1.5"], "'1.5' is not a part of a GPU or a number of them"),
        (["plan", STUDY_FILE, "--phases", "finetun"], '(did you mean "finetune"?)'),
        (["plan", STUDY_FILE, "--recipe", "laptp"], '(did you mean "laptop"?)'),
        (["plan", STUDY_FILE, "--price-per-gpu-hour", "x"], "'x' is not a price"),
        (
            ["plan", STUDY_FILE, "--gpus", "0", "--price-per-gpu-hour", "2"],
            "--price-per-gpu-hour: --gpus 0 asks for no GPU: leave it out",
        ),
        (
            ["run", STUDY_FILE, "--gpus", "0", "--gpu-hours", "2"],
            "--gpu-hours: --gpus 0 asks for no GPU: leave it out",
        ),
        (
            ["run", STUDY_FILE, "--max-cost", "20"],
            "--max-cost: it needs a price: add --price-per-gpu-hour P",
        ),
        (
            ["run", STUDY_FILE, "--local", "--autoscale", "4"],
            "--autoscale: it is for a cluster at an --address: leave it out",
        ),
        (["run", STUDY_FILE, "--hours", "0"], "--hours: '0' is not a number above 0"),
        (
            ["run", STUDY_FILE, "--local", "--address", "a"],
            "--local and --address name two places: leave one out",
        ),
        (
            ["reconstruct", "--checkpoint", "a", "--image", "b", "--mask-ratio", "nan"],
            "--mask-ratio: 'nan' is not between 0 and 1",
        ),
        (["ui", "--port", "0"], "'0' is not a port, 1 to 65535"),
        (["plan", "studies/mask_rato.yaml"], f'(did you mean "{STUDY_FILE}"?)'),
        (["plan", "mask_rato"], f'(did you mean "{STUDY_FILE}"?)'),
        (["init", "my_study"], "a study is a YAML file: call it my_study.yaml"),
        (["init", STUDY_FILE], "is there already: give another name"),
        (["plan", "zebra.yaml"], "zebra.yaml: cannot read it: No such file or directory"),
        (["plan", "studies"], "studies: cannot read it: a folder, not a file"),
    ],
)
def test_a_slip_of_the_hand_gets_one_line(typed, words, message):
    assert message in typed(*words)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "x.yaml:1: nothing in it; expected keys and values"),
        (b"factors:\n\tmask_ratio: [0.5]\n", "x.yaml:2: not valid YAML: found character '\\t'"),
        (b"title: caf\xe9\n", "x.yaml: cannot read it: not a text file in UTF-8"),
    ],
)
def test_a_file_that_is_no_study_gets_one_line(typed, file, message):
    assert typed("plan", "x.yaml", file=file).startswith(message)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_files_from_windows_are_read(tmp_path, start, end):
    from mae_ablation.study.document import read_yaml

    (tmp_path / "x.yaml").write_bytes(start + b"title: a" + end + b"factors: {b: [1]}" + end)
    document = read_yaml(tmp_path / "x.yaml")
    assert document.data == {"title": "a", "factors": {"b": ["1"]}}
    assert document.place("factors") == f"{tmp_path}/x.yaml:2"


def test_no_command_at_all_gets_the_help(capsys):
    from mae_ablation.cli import main

    assert main([]) == 0
    said = capsys.readouterr().out
    assert "Ablation studies of masked autoencoders." in said and "examples:" in said
    assert main(["store"]) == 0 and "Look after the results." in capsys.readouterr().out


def test_the_version_can_be_asked_for(capsys):
    from mae_ablation import __version__
    from mae_ablation.cli import main

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_a_shell_completes_commands_and_flags():
    from mae_ablation.cli import make_top

    script = make_top("mae-ablation").generate_completion(shell="bash")
    assert "--until-decided" in script and "mask_ratio" not in script


def test_help_has_examples_and_can_be_read_at_60_columns(monkeypatch, capsys):
    from mae_ablation.cli import COMMANDS, main

    monkeypatch.setenv("COLUMNS", "60")
    for command in ([], *([name] for name in COMMANDS)):
        status = main([*command, "--help"], program="python -m platform")
        text = capsys.readouterr().out
        assert status == 0 and "examples:" in text, command
        assert max(map(len, text.splitlines())) <= 60, command


def commands_in(text):
    """Commands of ours in a text, in words, with "x" for what is filled in."""
    text = re.sub(r"\\\\?\n\s*", " ", text)
    text = re.sub(r"(?:\{[^}]*\})+", " x ", text)
    for run, words in OURS.findall(text):
        yield ["run"] * bool(run) + shlex.split(words)


OURS = re.compile(r"(?:mae-ablation|python -m platform(\.run)?) ([a-z][^\n`\"|>;,()]*)")
SOURCES = sorted((ROOT / "platform" / "mae_ablation").rglob("*.py"))
SOURCES.remove(ROOT / "platform" / "mae_ablation" / "cli.py")  # its examples have their own test


def test_every_example_of_the_help_is_a_command():
    from mae_ablation.cli import EXAMPLES, make_top

    for name, text in EXAMPLES.items():
        program = "mae-ablation" if name == "mae-ablation" else f"mae-ablation {name}"
        found = list(commands_in(text % {"prog": program}))
        assert found, name
        for words in found:
            make_top("mae-ablation").parse_args(words, exit_on_error=False, print_error=False)


def test_every_command_in_a_message_is_one():
    from mae_ablation.cli import make_top

    for source in SOURCES:
        for words in commands_in(source.read_text(encoding="utf-8")):
            make_top("mae-ablation").parse_args(words, exit_on_error=False, print_error=False)


FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*(?![\w-]|\.\w)")
OTHERS = {"--shm-size", "--dashboard-host", "--autoscaling-config", "--generate"}  # docker, ray
OTHERS |= {"--short", "--porcelain", "--host", "--query-gpu", "--format"}  # git, mlflow, nvidia-smi


def flags_of(app):
    """All flags of a command and of the commands in it."""
    if app.default_command:
        yield from (name for each in app.assemble_argument_collection() for name in each.names)
    for name in app:
        yield from [name] if name.startswith("-") else flags_of(app[name])


def test_every_flag_in_a_message_is_one():
    from mae_ablation.cli import COMMANDS, make_top

    known = set(flags_of(make_top("mae-ablation", list(COMMANDS)))) | OTHERS
    for source in SOURCES:
        unknown = set(FLAG.findall(source.read_text(encoding="utf-8"))) - known
        assert not unknown, f"{source.name} names {unknown}"


PLAN = [sys.executable, "-m", "mae_ablation", "plan"]


def test_a_reader_that_has_seen_enough_is_no_error():
    shell = f"set -o pipefail; {' '.join(PLAN)} studies/paper.yaml --seeds 30 | head -1"
    done, _ = call(["bash", "-c", shell])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "50"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["narrow", "ascii"],
)
def test_a_plan_on_a_poor_terminal(tmp_path, environment):
    (tmp_path / "a.yaml").write_text(
        f"title: Größe\nrecipe: {ROOT}/studies/recipes/laptop.yaml\nfactors: {{mask_ratio: [0.5]}}",
        encoding="utf-8",
    )
    done, _ = call([*PLAN, str(tmp_path / "a.yaml"), "--store", str(tmp_path)], **environment)
    assert done.returncode == 0, done.stderr
    assert "Gr\\xf6\\xdfe" in done.stdout or "Größe" in done.stdout

"""The check that a stranger with a GPU runs: here what it says without one, and a rehearsal."""

import json

import gpu_smoke
import torch


def test_without_cuda_one_line_says_so_and_nothing_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_smoke.main(["--reports", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith(
        f"skipped: torch {torch.__version__} finds no CUDA"
    )
    assert not list(tmp_path.iterdir())


def test_rehearsed_on_a_cpu_every_point_is_a_line_and_the_page_has_it(tmp_path, capsys):
    points = ["machine", "loss", "sync", "memory"]
    asked = ["--rehearse", "--no-ray", "--only", ",".join(points), "--reports", str(tmp_path)]
    assert gpu_smoke.main(asked) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if ": " in line]
    found = json.loads((tmp_path / "gpu.json").read_text())["points"]
    assert [each["name"] for each in found] == points
    assert [each["state"] for each in found] == ["ok", "ok", "ok", "skipped"]
    for each, line in zip(found, lines, strict=True):
        assert line.startswith(f"{each['state']:<8}{each['name']}: {each['found']} (")
        assert f"| {each['name']} | {each['state']} |" in (tmp_path / "gpu.md").read_text()


def test_a_point_that_fails_is_a_line_and_the_exit_status(monkeypatch, tmp_path, capsys):
    def loss(bench):
        raise AssertionError("the loss differs by 3.0e-03 of it\nmore")

    monkeypatch.setitem(gpu_smoke.POINTS, "loss", loss)
    asked = ["--rehearse", "--only", "loss", "--reports", str(tmp_path)]
    assert gpu_smoke.main(asked) == 1
    assert "FAIL    loss: AssertionError: the loss differs by 3.0e-03 of it (" in (
        capsys.readouterr().out
    )

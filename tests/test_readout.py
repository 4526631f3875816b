"""Readouts: a probe without noise of its own, few labels, and what each test image was answered."""

import numpy as np
import pytest
import torch
from toys import QUICK, a_folder, change, trial_of

from mae_ablation.data.dataset import load_dataset
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.recipe.checks import Invalid, count_labels
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.predictions import Predictions, pack_predictions, predictions_of, unpack
from mae_ablation.study.identity import evaluation_document
from mae_ablation.study.speed import phase_work, read_speed
from mae_ablation.train import logistic_regression
from mae_ablation.train.evaluation import Job, clear_features, evaluate
from mae_ablation.train.evaluations.linear_probe import PENALTIES
from mae_ablation.train.logistic_regression import LogisticRegression
from mae_ablation.train.run import PhaseRun, Stopped


def probe(recipe, place, seed=0, source="random", **how):
    run = PhaseRun(folder=place, **how)
    return evaluate(recipe, "linear_probe", seed, run, source=source, upstream=None)


@pytest.fixture
def converged(toy):
    return change(toy, "linear_probe", protocol="converged")


# the solver -------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_the_solution_is_scikit_learn_s(penalty, monkeypatch):
    from sklearn.linear_model import LogisticRegression as Theirs

    monkeypatch.setattr(logistic_regression, "TOLERANCE", 1e-7)
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(300, 12, generator=rng, dtype=torch.float64)
    features = features @ torch.randn(12, 12, generator=rng, dtype=torch.float64) + 3
    labels = (features[:, :4] + torch.randn(300, 4, generator=rng)).argmax(dim=1)
    ours = LogisticRegression(features, labels, 4).solve(penalty)
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    standard = ((features - mean) / std).numpy()
    theirs = Theirs(C=1 / (300 * penalty), tol=1e-10, max_iter=10_000).fit(standard, labels)
    assert ours.converged
    assert np.allclose(ours.weight * std, theirs.coef_, atol=1e-4)
    apart = ours.scores(features) - torch.from_numpy(theirs.decision_function(standard))
    assert torch.allclose(apart, apart.mean(dim=1, keepdim=True), atol=1e-4)  # a shift of all four
    assert ours.scores(features).argmax(dim=1).tolist() == theirs.predict(standard).tolist()


def test_the_way_to_a_penalty_does_not_change_its_solution():
    rng = torch.Generator().manual_seed(1)
    features = torch.randn(200, 6, generator=rng, dtype=torch.float64)
    labels = torch.randint(3, (200,), generator=rng)
    direct = LogisticRegression(features, labels, 3).solve(1e-3)
    path = LogisticRegression(features, labels, 3)
    for penalty in (1e-1, 1e-2):
        path.solve(penalty)
    assert path.solve(1e-3).objective == pytest.approx(direct.objective, abs=1e-6)


def test_a_pixel_that_is_always_black_weighs_nothing():
    features = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]]).double()
    solution = LogisticRegression(features, torch.tensor([0, 0, 1, 1]), 2).solve(1e-2)
    assert solution.weight[:, 0].abs().max() < 1e-12
    assert solution.scores(features).argmax(dim=1).tolist() == [0, 0, 1, 1]


# the protocol -----------------------------------------------------------------------------------


def test_a_converged_probe_has_no_noise_of_its_own(converged, tmp_path):
    """Raw pixels are the same for every seed, and so is all that is said of them."""
    one, two = (
        probe(converged, a_folder(tmp_path, str(seed)), seed, source="pixels") for seed in (0, 1)
    )
    same = ("test_acc1", "validation_acc1", "penalty", "train_loss", "predictions_sha256")
    assert [one[key] for key in same] == [two[key] for key in same]
    assert one["converged"] and one["penalty"] in PENALTIES and one["test_acc1"] > 50
    assert one["penalty_at_edge"] == (one["penalty"] in (PENALTIES[0], PENALTIES[-1]))


def test_the_probe_and_k_nn_of_a_trial_encode_each_image_once(converged, tmp_path, monkeypatch):
    clear_features()
    passes, features_of = [], MaskedAutoencoder.features

    def counted(model, images, pooling):
        passes.append(len(images))
        return features_of(model, images, pooling)

    monkeypatch.setattr(MaskedAutoencoder, "features", counted)
    probe(converged, a_folder(tmp_path, "probe"), 3)
    once = sum(passes)
    run = PhaseRun(folder=a_folder(tmp_path, "knn"))
    after_probe = evaluate(converged, "knn", 3, run, source="random", upstream=None)
    assert sum(passes) == once > 0
    clear_features()
    afresh = evaluate(converged, "knn", 3, run, source="random", upstream=None)
    assert sum(passes) == 2 * once
    assert afresh["predictions_sha256"] == after_probe["predictions_sha256"]


def test_a_declared_penalty_is_the_only_one_and_another_identity(converged, tmp_path):
    declared = change(converged, "linear_probe", penalty=1e-2)
    result = probe(declared, a_folder(tmp_path, "x"))
    assert (result["penalty"], result["penalty_at_edge"]) == (1e-2, False)

    def asked(recipe):
        return evaluation_document("linear_probe", recipe, 0, "f", "random", None)["linear_probe"]

    assert asked(converged)["penalties"] == list(PENALTIES)
    assert asked(declared)["penalties"] == [0.01]
    assert "base_lr" not in asked(converged)
    assert "penalties" not in asked(change(converged, "linear_probe", protocol="cached"))
    with pytest.raises(Invalid, match="penalty is 0, must be above 0"):
        change(converged, "linear_probe", penalty=0)


def test_a_stop_is_heard_between_penalties(converged, folder):
    asked = iter([False, False, True])
    with pytest.raises(Stopped, match="stopped before penalty 0.001"):
        probe(converged, folder, stop=lambda: next(asked))
    assert folder.files.names(folder.name) == []


# labels -----------------------------------------------------------------------------------------


def test_evaluations_of_a_seed_see_the_same_few_labels(toy, folder):
    def drawn(labels, seed):
        run = PhaseRun(folder=folder)
        return Job(recipe=toy, seed=seed, run=run, source="random", upstream=None).labelled(labels)

    few = drawn(40, seed=3)
    assert few.labels.bincount().tolist() == [4] * 10
    assert torch.equal(few.images, drawn(40, seed=3).images)
    assert not torch.equal(few.images, drawn(40, seed=4).images)
    assert torch.equal(drawn(None, seed=3).images, load_dataset(toy.data).train.images)
    assert torch.equal(drawn(0.2, seed=3).images, few.images)  # of 200


def test_a_share_of_the_labels_is_at_least_one_of_each_class():
    counts = {0.01: 50, 0.001: 10, 700: 700, None: 5000}
    assert {each: count_labels(each, 5000, 10) for each in counts} == counts


def test_fewer_labels_train_fewer_steps(toy, folder):
    recipe = change(toy, "finetune", **QUICK, labels=100)
    evaluate(recipe, "finetune", 0, PhaseRun(folder=folder))
    assert [row["s"] for row in folder.journal.read()] == [2, 4]  # two batches of 50 in an epoch


# answers ----------------------------------------------------------------------------------------


def test_every_evaluation_keeps_its_answers_and_they_are_its_accuracy(toy, tmp_path):
    for section in ("finetune", "scratch"):
        toy = change(toy, section, **QUICK)
    toy = change(toy, "partial", **{**QUICK, "epochs_tried": (2,)}, blocks=1)
    labels = load_dataset(toy.data).test.labels.tolist()

    def probed(protocol):
        recipe = change(toy, "linear_probe", protocol=protocol)
        return lambda run: evaluate(recipe, "linear_probe", 0, run, source="random", upstream=None)

    evaluations = {name: probed(name) for name in ("converged", "cached", "paper")}
    evaluations["knn"] = lambda run: evaluate(toy, "knn", 0, run, source="random", upstream=None)
    for kind in ("finetune", "partial", "scratch"):
        evaluations[kind] = lambda run, kind=kind: evaluate(toy, kind, 0, run)
    for name, run_it in evaluations.items():
        folder = a_folder(tmp_path, name)
        result = run_it(PhaseRun(folder=folder))
        found = predictions_of(folder, result)
        assert found.predicted.dtype == np.uint8 and found.label.tolist() == labels, name
        assert result["test_acc1"] == found.acc1, name
        assert folder.files.size(f"{folder.name}/predictions.npz") < 20_000, name


def test_answers_that_are_not_those_written_are_refused(converged, folder):
    result = probe(converged, folder)
    name = f"{folder.name}/predictions.npz"
    folder.files.write(name, folder.files.read(name)[:-1] + b"x")
    with pytest.raises(Damaged, match="predictions.npz is damaged"):
        predictions_of(folder, result)
    folder.files.remove(name)
    with pytest.raises(Damaged, match="predictions.npz is missing"):
        predictions_of(folder, result)
    assert predictions_of(folder, {"test_acc1": 1.0}) is None


def test_a_thousand_classes_take_two_bytes():
    answers = Predictions(predicted=np.array([0, 999]), label=np.array([1, 999]))
    found = unpack(pack_predictions(answers, 1000))
    assert found.predicted.dtype == np.uint16 and found.predicted.tolist() == [0, 999]
    assert found.acc1 == 50 and pack_predictions(answers, 1000) == pack_predictions(answers, 1000)


# cost -------------------------------------------------------------------------------------------


def test_a_converged_probe_costs_what_a_plan_said_and_speaks_for_the_next(converged, tmp_path):
    from mae_ablation.data.catalog import facts

    phase = trial_of(converged, "pretrain", "linear_probe").phases[1]
    work = phase_work(phase, "random", facts(converged.data))
    result = {"phase": "linear_probe", **probe(converged, a_folder(tmp_path, "x"))}
    assert work.images == 200 and result["flops_per_image"] == work.flops
    known = read_speed(result)
    assert known.seconds == result["seconds"]
    assert known.work.seconds(1e9) == pytest.approx(work.seconds(1e9))

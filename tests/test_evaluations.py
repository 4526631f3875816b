"""Evaluations: what is trained, with which rates, resumed bit for bit, chosen on validation."""

import dataclasses
import hashlib
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from toys import (
    QUICK,
    Killed,
    a_folder,
    change,
    curve,
    kill_after,
    require_same_training,
    train_tokenizer,
    trial_of,
)

from mae_ablation.data.catalog import facts
from mae_ablation.data.dataset import load_dataset
from mae_ablation.mae.targets.dvae_token import GateClosed
from mae_ablation.recipe.cost import prediction_width
from mae_ablation.store.folder import Store
from mae_ablation.study.trial import evaluation_phases
from mae_ablation.train.checkpoints import load_checkpoint
from mae_ablation.train.classifier import build_classifier, freeze_all_but_last, layer_decay_adamw
from mae_ablation.train.evaluation import evaluate
from mae_ablation.train.evaluations.knn import Knn
from mae_ablation.train.models import load_target
from mae_ablation.train.optim import lr_at
from mae_ablation.train.preparation import fit_target
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun
from mae_ablation.train.supervised import validation_epochs
from mae_ablation.train.trial import run_trial


@pytest.fixture
def quick(toy):
    """The toy with two-block encoders and two-epoch evaluations."""
    toy = change(toy, "model", encoder_depth=2)
    for section in ("finetune", "partial", "scratch"):
        tried = {"epochs_tried": (1, 2)} if section == "partial" else {}
        toy = change(toy, section, **QUICK, **tried)
    toy = change(toy, "scratch", ema=0.9)
    gates = {"min_perplexity": 2, "min_explained": 0}
    return change(toy, "tokenizer", codes=16, epochs=3, batch_size=20, lr=1e-2, **gates)


# fine-tuning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_layers_learn_slower_towards_the_input(quick, pooling):
    """Ids: 0 embeddings, positions and class token; i + 1 block i; depth + 1 norm and head. The
    rate is decay^(depth + 1 - id); vectors, positions and class token do not decay."""
    data = load_dataset(quick.data)
    settings = change(quick, "finetune", pooling=pooling).finetune
    model = build_classifier(quick, settings, data, 0, None)
    optimizer = layer_decay_adamw(model, settings, 1.0)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
    names = {id(p): name for name, p in model.named_parameters()}
    seen = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            seen[names[id(p)]] = (group["lr_scale"], group["weight_decay"])

    def layer(name):
        if name.startswith(("cls_token", "pos_embed", "patch_embed")):
            return 0
        return int(name.split(".")[1]) + 1 if name.startswith("blocks") else 3

    assert set(seen) == set(names.values())
    for name, (scale, decay) in seen.items():
        assert scale == pytest.approx(0.75 ** (3 - layer(name))), name
        flat = model.get_parameter(name).ndim == 1 or name in ("cls_token", "pos_embed")
        assert decay == (0 if flat else 0.05), name


def test_the_classifier_starts_as_the_encoder_with_a_new_norm_and_head(quick, tmp_path):
    upstream = a_folder(tmp_path, "upstream")
    pretrain(quick, 0, PhaseRun(folder=upstream))
    trained = load_checkpoint(upstream.final_checkpoint(), "cpu")["model"]
    mean = build_classifier(quick, quick.finetune, load_dataset(quick.data), 0, upstream)
    assert torch.equal(mean.blocks[1].attn.qkv.weight, trained["blocks.1.attn.qkv.weight"])
    assert torch.equal(mean.fc_norm.weight, torch.ones(16))
    assert mean.pos_embed.requires_grad and mean.head.weight.abs().max() < 1e-4
    assert mean.blocks[1].drop_path1.drop_prob == pytest.approx(0.1)
    assert isinstance(mean.blocks[0].drop_path1, torch.nn.Identity)  # grows from 0
    cls = change(quick, "finetune", pooling="cls")
    model = build_classifier(cls, cls.finetune, load_dataset(quick.data), 0, upstream)
    assert torch.equal(model.norm.weight, trained["norm.weight"])


def test_positions_are_interpolated_where_the_resolution_differs(quick, tmp_path):
    larger = change(quick, "finetune", image_size=40)
    model = build_classifier(larger, larger.finetune, load_dataset(quick.data), 0, None)
    assert model.pos_embed.shape == (1, 1 + 8 * 8, 16)
    result = evaluate(larger, "finetune", 0, PhaseRun(folder=a_folder(tmp_path, "x")))
    assert 0 <= result["test_acc1"] <= 100


def test_a_killed_training_resumes_bit_for_bit(quick, tmp_path):
    """Mixup, RandAugment, erasing, drop path and averaged weights included."""
    recipe = change(quick, "scratch", random_erasing=0.5)
    whole, killed = a_folder(tmp_path, "whole"), a_folder(tmp_path, "killed")
    wanted = evaluate(recipe, "scratch", 0, PhaseRun(folder=whole))
    with pytest.raises(Killed):
        evaluate(recipe, "scratch", 0, PhaseRun(folder=killed, report=kill_after(1)))
    got = evaluate(recipe, "scratch", 0, PhaseRun(folder=killed))
    assert got["test_acc1"] == wanted["test_acc1"]
    require_same_training(whole, killed)


def test_few_labels_are_not_validated_in_every_epoch():
    assert validation_epochs(3, trained_images=5000, validation_images=5000) == [1, 2, 3]
    assert validation_epochs(12, trained_images=1000, validation_images=5000) == [5, 10, 12]
    assert validation_epochs(2, trained_images=10, validation_images=5000) == [2]


def test_the_result_has_the_validation_accuracy_of_the_last_epoch(quick, tmp_path):
    folder = a_folder(tmp_path, "x")
    recipe = change(quick, "finetune", labels=50, epochs=5)
    result = evaluate(recipe, "finetune", 0, PhaseRun(folder=folder))
    validated = {m["finetune/epoch"]: m.get("finetune/validation_acc1") for _, m in curve(folder)}
    assert list(validated) == [1, 2, 3, 4, 5]
    assert validated[5] == result["validation_acc1"]


def test_averaged_weights_are_what_is_measured(quick, tmp_path):
    folder = a_folder(tmp_path, "scratch")
    evaluate(quick, "scratch", 0, PhaseRun(folder=folder))
    state = load_checkpoint(folder.final_checkpoint(), "cpu")
    assert not torch.equal(state["averaged"]["head.weight"], state["model"]["head.weight"])


def test_the_cosine_of_fine_tuning_ends_at_its_final_rate():
    rate = {"peak": 1.0, "warmup": 5, "epochs": 50, "final": 1e-6}
    assert lr_at(0, **rate) == 0 and lr_at(5, **rate) == 1
    assert lr_at(50, **rate) == pytest.approx(1e-6)


# partial fine-tuning ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "tuned"),
    [
        (0.5, {"blocks.1.norm2", "blocks.1.mlp", "fc_norm", "head"}),
        (1, {"blocks.1", "fc_norm", "head"}),
        (2, {"cls_token", "pos_embed", "patch_embed", "blocks.0", "blocks.1", "fc_norm", "head"}),
    ],
)
def test_which_parts_are_tuned(quick, blocks, tuned):
    model = build_classifier(quick, quick.partial, load_dataset(quick.data), 0, None)
    freeze_all_but_last(model, blocks)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == name.startswith(tuple(tuned)), name


def test_frozen_parts_stay_as_they_were(quick, tmp_path):
    recipe = change(quick, "partial", blocks=0.5)
    before = build_classifier(
        recipe, recipe.partial, load_dataset(quick.data), 0, None
    ).state_dict()
    folder = a_folder(tmp_path, "partial")
    evaluate(recipe, "partial", 0, PhaseRun(folder=folder, prefix="partial_2ep"))
    after = load_checkpoint(folder.final_checkpoint(), "cpu")["model"]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(
        name.startswith(("blocks.1.norm2", "blocks.1.mlp", "fc_norm", "head")) for name in moved
    )
    assert "partial_2ep/loss" in folder.journal.read()[0]["m"]


def test_each_epoch_count_is_a_phase_and_no_block_is_the_probe(quick):
    tried = change(quick, "partial", blocks=1, epochs_tried=(1, 2))
    known = facts(quick.data)
    phases = evaluation_phases("partial", tried, 0, known, "pretrain", "up")
    assert [(p.kind, p.prefix) for p in phases] == [
        ("partial", "partial_1ep"),
        ("partial", "partial_2ep"),
    ]
    more = change(tried, "partial", epochs_tried=(2, 3))
    again = evaluation_phases("partial", more, 0, known, "pretrain", "up")
    assert again[0].identity == phases[1].identity
    none = change(tried, "partial", blocks=0)
    (probe,) = evaluation_phases("partial", none, 0, known, "pretrain", "up")
    assert (probe.kind, probe.column) == ("linear_probe", "partial")


def test_the_best_on_validation_is_taken_whatever_the_test_says(write_study, tmp_path):
    from mae_ablation.api import plan_study
    from mae_ablation.report.results import results_frame

    study = "recipe: toy\nfactors:\n  blocks: [1]\nphases: [partial]\n"
    path = write_study(study + "baseline: {epochs_tried: [1, 2, 3], partial.warmup_epochs: 0}\n")
    plan = plan_study(path, store=tmp_path / "store")
    pretrained, *tried = plan.trials[0].phases
    same = {"train_loss": 1.0, "seconds": 1.0, "commit": "a"}
    pretrained.folder(plan.store).finish(same)
    for phase, validation, test in zip(tried, (60, 70, 65), (80, 50, 90), strict=True):
        epochs = phase.recipe.partial.epochs
        result = {"validation_acc1": validation, "test_acc1": test, "epochs": epochs, **same}
        phase.folder(plan.store).finish(result)
    (line,) = results_frame(plan).to_dict("records")
    assert (line["value"], line["chosen"]) == (50, "2 epochs")


# k-NN, targets' own phases ------------------------------------------------------------------------


def test_neighbours_vote_by_similarity():
    bank = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [0.6, 0.8], [0.6, -0.8]]), dim=1)
    labels = torch.tensor([0, 1, 1])
    query = torch.tensor([[1.0, 0.0]])
    near, flat = Knn(neighbours=3), Knn(neighbours=3, temperature=10.0)
    assert near.predict(bank, labels, query, 2).item() == 0  # e^(1/0.07) beats 2 e^(0.6/0.07)
    assert flat.predict(bank, labels, query, 2).item() == 1


def test_principal_components_are_those_of_the_training_patches(toy, tmp_path):
    from mae_ablation.data.augment import normalise
    from mae_ablation.mae.patches import patchify

    folder = a_folder(tmp_path, "pca")
    recipe = change(toy, "pretrain", target="pca")
    result = fit_target(recipe, PhaseRun(folder=folder))
    fitted = load_checkpoint(folder.final_checkpoint(), "cpu")
    data = load_dataset(toy.data)
    images = normalise(data.train.images.float() / 255, data.mean, data.std)
    patches = patchify(images, 5).flatten(0, 1).double().numpy()
    covariance = np.cov(patches.T, bias=True)
    assert result["patches"] == len(patches) == 200 * 36
    assert np.allclose(fitted["mean"], patches.mean(axis=0), atol=1e-5)
    assert np.allclose(fitted["eigenvalues"], np.linalg.eigvalsh(covariance)[::-1], atol=1e-4)
    w = fitted["components"].double()
    assert torch.allclose(w.T @ w, torch.eye(25).double(), atol=1e-5)
    turned = w.T.numpy() @ covariance @ w.numpy()
    assert np.allclose(turned, np.diag(np.diag(turned)), atol=1e-4)
    assert result["explained"] == sorted(result["explained"])


@pytest.mark.parametrize("target", ["pca", "dvae_token"])
def test_a_target_that_needs_a_phase_of_its_own(quick, tmp_path, target):
    recipe = change(quick, "pretrain", target=target, epochs=2, base_lr=4e-3)
    trial = trial_of(recipe, "pretrain", "linear_probe", "knn")
    other_seed = trial_of(recipe, "pretrain", "linear_probe", seed=1)
    assert trial.needs.id == other_seed.needs.id and trial.id != other_seed.id
    assert run_trial(trial.needs, tmp_path) is None
    assert run_trial(trial, tmp_path) is None
    results = [phase.folder(Store(tmp_path)).result() for phase in trial.phases]
    assert all(0 < r["test_acc1"] < 100 for r in results[1:])
    points = trial.phases[0].folder(Store(tmp_path)).journal.read()
    first, last = (row["m"]["pretrain/loss"] for row in points)
    assert last < first


def test_a_dall_e_encoder_from_a_file(quick, tmp_path):
    """A tiny one with the names and groups of the published encoder."""
    from mae_ablation.mae.dalle import DalleEncoder

    torch.manual_seed(0)
    encoder = DalleEncoder(hidden=8, vocabulary=32)
    file = tmp_path / "encoder.pt"
    torch.save(encoder.state_dict(), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    recipe = change(quick, "tokenizer", source="dalle", file=str(file), sha256=sha256)
    recipe = change(recipe, "pretrain", target="dvae_token", epochs=1, warmup_epochs=0)
    assert not recipe.target.stand_in
    trial = trial_of(recipe, "pretrain")
    assert run_trial(trial.needs, tmp_path) is None and run_trial(trial, tmp_path) is None
    (phase,) = trial.phases
    loss = phase.folder(Store(tmp_path)).result()["train_loss"]
    assert loss == pytest.approx(math.log(32), abs=0.5)


@pytest.mark.parametrize("reading", ["cache", "stream"])
def test_every_phase_on_a_folder_of_photographs(quick, tmp_path, reading):
    """Three channels, images of several sizes, larger than what the model sees."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 14), ("val", 4)):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(100 * c, 100 * c + 100, (40 + i, 52, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / split / name / f"{i}.png")
    folder = {"name": "image_folder", "folder": str(tmp_path / "set"), "workers": 0}
    sizes = {"image_size": 30, "train_images": None, "validation_images": 8}
    recipe = change(quick, "data", **folder, **sizes, reading=reading)
    for section in ("pretrain", "linear_probe", "finetune", "partial"):
        recipe = change(recipe, section, batch_size=10)
    recipe = change(recipe, "linear_probe", protocol="paper")
    recipe = change(recipe, "pretrain", augmentation="crop_jitter", mask_sampling="block")
    recipe = change(recipe, "partial", epochs_tried=(1,))
    trial = trial_of(recipe, "pretrain", "linear_probe", "knn", "finetune", "partial")
    assert run_trial(trial, tmp_path / "store") is None
    results = [phase.folder(Store(tmp_path / "store")).result() for phase in trial.phases]
    assert results[0]["epochs"] == 3 and all(0 <= r["test_acc1"] <= 100 for r in results[1:])
    assert trial.phases[0].folder(Store(tmp_path / "store")).pictures()


def test_how_many_components_the_paper_s_ratio_gives(toy):
    def components(patch, channels):
        data = dataclasses.replace(toy.data, image_size=112)
        model = dataclasses.replace(toy.model, patch_size=patch)
        recipe = dataclasses.replace(toy, data=data, model=model)
        return prediction_width(change(recipe, "pretrain", target="pca"), channels)

    assert [components(p, 3) for p in (16, 14, 8, 4, 2)] == [96, 74, 24, 6, 2]
    assert components(16, 1) == 32


def test_a_killed_tokenizer_resumes_bit_for_bit(quick, tmp_path, monkeypatch):
    monkeypatch.setattr("mae_ablation.train.preparation.CHECKPOINT_EVERY_S", 0.0)
    whole, killed = a_folder(tmp_path, "whole"), a_folder(tmp_path, "killed")
    wanted = train_tokenizer(quick, PhaseRun(folder=whole))
    with pytest.raises(Killed):
        train_tokenizer(quick, PhaseRun(folder=killed, report=kill_after(1)))
    got = train_tokenizer(quick, PhaseRun(folder=killed))
    assert (got["perplexity"], got["explained"]) == (wanted["perplexity"], wanted["explained"])
    require_same_training(whole, killed)


def test_tokens_that_say_too_little_are_not_predicted(quick, tmp_path):
    strict = change(quick, "tokenizer", min_perplexity=15.9)
    with pytest.raises(GateClosed, match=r"perplexity .* is below tokenizer.min_perplexity 15.9"):
        train_tokenizer(strict, PhaseRun(folder=a_folder(tmp_path, "a")))
    done = a_folder(tmp_path, "done")
    done.finish(train_tokenizer(quick, PhaseRun(folder=done)))
    later = change(strict, "pretrain", target="dvae_token")  # trained under a wider gate
    with pytest.raises(GateClosed, match="perplexity"):
        load_target(later, done, load_dataset(quick.data), "cpu")
    strict = change(quick, "tokenizer", min_explained=1.0)
    with pytest.raises(GateClosed, match="of the pixels' variance, tokenizer.min_explained"):
        train_tokenizer(strict, PhaseRun(folder=a_folder(tmp_path, "b")))


def test_a_probe_at_another_resolution(toy, tmp_path):
    for protocol in ("cached", "paper"):
        recipe = change(toy, "linear_probe", image_size=40, protocol=protocol)
        run = PhaseRun(folder=a_folder(tmp_path, protocol))
        result = evaluate(recipe, "linear_probe", 0, run, source="random", upstream=None)
        assert 0 <= result["test_acc1"] <= 100


def test_reconstructions_are_drawn_along_the_training(toy, folder):
    recipe = change(toy, "pretrain", epochs=4, reconstructions=2)
    pretrain(recipe, 0, PhaseRun(folder=folder))
    assert folder.pictures() == [8, 16]
    with Image.open(io.BytesIO(folder.picture(16))) as picture:
        assert picture.size == (8 * 30 * 4, 4 * 30 * 4)

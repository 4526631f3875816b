"""Two workers train what one would: same batches, same curve, same accuracy; and fail together."""

import datetime
import os
import pickle
from pathlib import Path

import pytest
import torch
from toys import AfterStep, change, trial_of

from mae_ablation.data.augment import View
from mae_ablation.data.dataset import load_dataset
from mae_ablation.data.feed import Feed
from mae_ablation.errors import UserError
from mae_ablation.recipe.batch import split_batch
from mae_ablation.recipe.recipe import Data, Model, Pretrain, Recipe
from mae_ablation.registry import find_component
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.train.checkpoints import load_checkpoint
from mae_ablation.train.evaluation import evaluate
from mae_ablation.train.evaluations.linear_probe import LinearProbe
from mae_ablation.train.optim import generator
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun, Stopped
from mae_ablation.train.trial import run_trial
from mae_ablation.train.workers import Workers, mirrored_rows

# how a batch is divided ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "workers", "at_most", "images", "times"),
    [
        (4096, 8, 64, 64, 8),
        (4096, 8, None, 512, 1),
        (4096, 1, None, 4096, 1),
        (4096, 1, 100, 64, 64),
        (7, 1, None, 7, 1),  # not divided: it may be odd
        (7, 1, 7, 7, 1),
        (24, 2, 5, 4, 3),
        (12, 3, None, 4, 1),
    ],
)
def test_how_a_batch_is_divided(batch, workers, at_most, images, times):
    assert split_batch(batch, workers, at_most) == (images, times)
    assert batch == images * workers * times


@pytest.mark.parametrize(
    ("batch", "workers", "at_most", "message"),
    [
        (
            50,
            4,
            None,
            "batch 50 cannot be divided evenly among 4 workers, an even number of images",
        ),
        (50, 4, None, "use a batch of 48 or 56, or one worker"),
        (4096, 12, None, "use a batch of 4080 or 4104, or 8 workers"),
        (7, 1, 4, "batch 7 cannot be divided evenly: use a batch of 6 or 8"),
        (8, 2, 1, "--micro-batch is 1, which is too few: use 2 or more"),
    ],
)
def test_a_batch_that_cannot_be_divided_is_the_user_s_to_change(batch, workers, at_most, message):
    with pytest.raises(UserError, match=message):
        split_batch(batch, workers, at_most)


def test_what_follows_from_the_recipe_all_workers_raise():
    workers = Workers(rank=1, size=2)
    with pytest.raises(UserError) as caught:
        workers.micro_batches(50)
    assert workers.is_raised_everywhere(caught.value)
    assert not workers.is_raised_everywhere(ValueError())


def test_micro_batches_are_the_batch_and_pair_the_images_that_mixup_pairs():
    parts = [mirrored_rows(24, number, 3) for number in range(3)]
    assert sorted(torch.cat(parts).tolist()) == list(range(24))
    for rows in parts:
        assert torch.equal(rows.flip(0), 23 - rows)


@pytest.mark.parametrize("augmentation", ["crop_random", "crop_jitter"])
def test_a_micro_batch_shows_what_the_whole_batch_shows(augmentation):
    split = load_dataset(Data(image_size=30, train_images=200, validation_images=100)).train
    feed = Feed(
        split,
        View(
            augmentation=find_component("augmentation", augmentation).cls(), randaugment_magnitude=9
        ),
    )
    indices = torch.randperm(200, generator=generator(0, "order")).split(40)
    whole = list(feed.batches(indices, generator(0, "augment")))
    rows = [mirrored_rows(40, number, 4) for number in (1, 2)]
    shown = feed.batches(indices, generator(0, "augment"), skip=3, shares=lambda n: rows)
    parts = list(shown)
    assert len(parts) == 4
    for i, (pixels, labels) in enumerate(parts):
        wanted, of_all = whole[3 + i // 2]
        assert torch.equal(pixels, wanted[rows[i % 2]])
        assert torch.equal(labels, of_all[rows[i % 2]])


# two processes -----------------------------------------------------------------------------------

TOY = Recipe(
    data=Data(image_size=30, train_images=200, validation_images=100),
    model=Model(
        patch_size=5,
        encoder_width=16,
        encoder_depth=2,
        encoder_heads=2,
        decoder_width=8,
        decoder_depth=1,
        decoder_heads=2,
    ),
    pretrain=Pretrain(epochs=2, warmup_epochs=1, batch_size=8, augmentation="crop_jitter"),
    linear_probe=LinearProbe(epochs=2, warmup_epochs=1, batch_size=50),
)
EXACT = {"drop_path": 0.0, "random_erasing": 0.0}
TOY = change(TOY, "finetune", epochs=2, warmup_epochs=1, batch_size=20, **EXACT)
TOY = change(TOY, "pretrain", reconstructions=1)
TOY = change(TOY, "tokenizer", codes=16, epochs=2, batch_size=20, lr=1e-2, min_perplexity=1)
PAPER = change(TOY, "linear_probe", protocol="paper")
CONVERGED = change(TOY, "linear_probe", protocol="converged")


def a_run(root, name, workers=Workers(), **more):  # noqa: B008 (frozen)
    return PhaseRun(folder=PhaseFolder.at(Path(root) / name), workers=workers, **more)


def train_all(root, workers):
    """What is compared between one worker and two; a line of results by name."""
    results = {}
    trainings = {
        "pretrain": lambda run: pretrain(TOY, 0, run),
        "finetune": lambda run: evaluate(TOY, "finetune", 0, run),
        "cached": lambda run: evaluate(TOY, "linear_probe", 0, run, source="random", upstream=None),
        "paper": lambda run: evaluate(
            PAPER, "linear_probe", 0, run, source="random", upstream=None
        ),
        "converged": lambda run: evaluate(
            CONVERGED, "linear_probe", 0, run, source="random", upstream=None
        ),
        "knn": lambda run: evaluate(TOY, "knn", 0, run, source="random", upstream=None),
    }
    for name, train in trainings.items():
        if workers.rank == 0:
            (Path(root) / name).mkdir(parents=True)
        results[name] = train(a_run(root, name, workers))
    return results


def a_trial(target="pixel"):
    recipe = change(TOY, "pretrain", target=target, epochs=1, warmup_epochs=0, batch_size=20)
    return trial_of(recipe, "pretrain", "knn")


def full_disk(files, name, data):
    raise OSError(28, "No space left on device", name)


def worker(rank, root):
    """One of two processes. What it finds is asserted by the tests below."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{root}/meeting",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(minutes=5),
    )
    workers, out, two = Workers.connect(), {}, Path(root) / "two"
    assert (workers.rank, workers.size) == (rank, 2)
    out["least"] = workers.agree_on_least((70 if rank else 80) * 2**30)
    out["results"] = train_all(two, workers)

    # stopped in the middle of an epoch, at the next agreement; rank 0's wish counts
    if rank == 0:
        (two / "stopped").mkdir()
    try:
        stop = AfterStep(2) if rank == 0 else lambda: False
        pretrain(TOY, 0, a_run(two, "stopped", workers, stop=stop))
    except Stopped as stopped:
        out["stopped"] = str(stopped)

    # a preparation is rank 0's work
    trial = a_trial("dvae_token")
    out["trial"] = [
        run_trial(t, two / "store", workers=workers, owner="a") for t in (trial.needs, trial)
    ]

    # the store of rank 0 is full: everybody knows
    from mae_ablation.store.files import LocalFiles

    write = LocalFiles.write
    LocalFiles.write = full_disk if rank == 0 else write
    out["full"] = run_trial(a_trial(), two / "full", workers=workers, owner="a")
    LocalFiles.write = write

    # a loss that is not finite on one of them
    wild = change(TOY, "pretrain", base_lr=1e30)
    try:
        pretrain(wild, 0, a_run(two, "pretrain_wild", workers))
    except RuntimeError as error:
        out["wild"] = f"{type(error).__name__}: {error}"

    # what one of them meets alone it raises
    import mae_ablation.train.trial as trials

    def broken(recipe, seed, run, upstream):
        if rank == 1:
            raise ValueError("only here")
        run.workers.average(torch.zeros(1))  # waits for the other, which never comes

    trials.pretrain = broken
    try:
        run_trial(a_trial(), two / "alone", workers=workers, owner="a")
    except Exception as error:
        out["alone"] = f"{type(error).__name__}: {error}"
    (Path(root) / f"rank{rank}").write_bytes(pickle.dumps(out))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(folder, what each of two workers found, results of a single one)."""
    root = tmp_path_factory.mktemp("workers")
    torch.multiprocessing.spawn(worker, (str(root),), nprocs=2)
    found = [pickle.loads((root / f"rank{rank}").read_bytes()) for rank in (0, 1)]
    return root, found, train_all(root / "one", Workers())


def points(root, name):
    return [(row["s"], row["m"]) for row in PhaseFolder.at(Path(root) / name).journal.read()]


def close(root, other, name, part="model"):
    """Curves and weights agree as far as sums in another order let them."""
    one, two = points(root, name), points(other, name)
    assert [step for step, _ in one] == [step for step, _ in two]
    for (_, a), (_, b) in zip(one, two, strict=True):
        losses = [[v for k, v in m.items() if k.endswith("loss")][0] for m in (a, b)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    states = [
        load_checkpoint(PhaseFolder.at(Path(r) / name).final_checkpoint(), "cpu")[part]
        for r in (root, other)
    ]
    for key, value in states[0].items():
        assert torch.allclose(value, states[1][key], atol=1e-4), key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_two_workers_train_what_one_does(both, name):
    root, (first, second), single = both
    close(root / "one", root / "two", name)
    result = first["results"][name]
    assert result["workers"] == 2
    assert result["train_loss"] == second["results"][name]["train_loss"]
    assert result["train_loss"] == pytest.approx(single[name]["train_loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_so_does_one_that_takes_the_batch_in_parts(both, tmp_path, name):
    root, _, _ = both
    (tmp_path / name).mkdir()
    run = a_run(tmp_path, name, Workers(micro_batch=4))
    pretrain(TOY, 0, run) if name == "pretrain" else evaluate(TOY, name, 0, run)
    close(root / "one", tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["converged", "cached", "paper", "knn", "finetune"])
def test_accuracies_are_those_of_one_worker(both, name):
    _, (first, second), single = both
    for accuracy in ("test_acc1", "validation_acc1"):
        values = [r[name][accuracy] for r in (single, first["results"], second["results"])]
        assert values == [values[0]] * 3


@pytest.mark.slow
def test_one_worker_goes_on_where_two_were_stopped(both):
    root, (first, second), _ = both
    assert first["stopped"] == second["stopped"] == "stopped after step 20"
    folder = PhaseFolder.at(root / "two" / "stopped")
    assert [checkpoint.step for checkpoint in folder.checkpoints()] == [20]
    (root / "again" / "pretrain").mkdir(parents=True)
    again = a_run(root / "again", "pretrain")
    again.folder.save_checkpoint(20, folder.final_checkpoint())
    pretrain(TOY, 0, again)
    close(root / "one", root / "again", "pretrain")


@pytest.mark.slow
def test_only_the_first_writes_and_all_know_how_it_went(both):
    root, (first, second), _ = both
    assert first["trial"] == second["trial"] == [None, None]
    store = Store(root / "two" / "store")
    for phase in (*a_trial("dvae_token").needs.phases, *a_trial("dvae_token").phases):
        assert phase.folder(store).result()["identity"] == phase.identity
    assert first["full"] == second["full"]
    assert first["full"].startswith("pretrain: OSError: [Errno 28] No space left on device")
    assert first["wild"] == second["wild"]
    assert first["wild"].startswith("Diverged: loss is nan at step 3 (epoch 1 of 2) and in the 17")


@pytest.mark.slow
def test_the_least_of_two_gpus_memory_counts_for_both(both):
    _, (first, second), _ = both
    assert first["least"] == second["least"] == 70 * 2**30


@pytest.mark.slow
def test_what_one_meets_alone_is_raised_and_written_down(both):
    root, (first, second), _ = both
    assert second["alone"] == "ValueError: only here"
    assert first["alone"].startswith("RuntimeError")  # the connection to the other is gone
    failure = a_trial().phases[0].folder(Store(root / "two" / "alone")).failure()
    assert failure["reason"] == "pretrain: ValueError: only here"

"""Data sets by name: what is known without their files, folders of images, and reading them."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.io import decode_image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from mae_ablation.data import dataset, folder
from mae_ablation.data.augment import View
from mae_ablation.data.catalog import facts, require_fit, require_present
from mae_ablation.data.dataset import FileSplit, Split, fit_to_side, fits_in_memory, load_dataset
from mae_ablation.data.decode import streamed
from mae_ablation.data.draws import hold_out
from mae_ablation.data.examine import examine_images
from mae_ablation.data.feed import Feed, plain
from mae_ablation.data.folder import EXTENSIONS, LAYOUT, check_layout, listing
from mae_ablation.data.sets import TorchvisionSet, channels_first
from mae_ablation.errors import UserError
from mae_ablation.mae.targets.dvae_token import Tokens
from mae_ablation.mae.targets.pca import PCA
from mae_ablation.recipe.recipe import Data, Model, Pretrain, Recipe
from mae_ablation.registry import component_names, find_component
from mae_ablation.train.evaluations.knn import Knn
from mae_ablation.train.optim import generator

ANY = {"image_size": 16, "validation_images": 2, "workers": 0}


def a_folder(images, **more):
    return Data(name="image_folder", folder=str(images), **{**ANY, **more})


def where(data):
    return data.set.location(data)


def message(call, *arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# what is known without opening anything


def test_facts_of_every_named_set_without_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {}
    for name in component_names("dataset"):
        if name != "image_folder":
            known = facts(Data(name=name))
            sizes[name] = (known.train_images, known.test_images, known.classes, known.channels)
            assert bool(known.missing) == (name != "fashion_mnist")
    assert sizes == {
        "fashion_mnist": (60_000, 10_000, 10, 1),
        "cifar10": (50_000, 10_000, 10, 3),
        "cifar100": (50_000, 10_000, 100, 3),
        "stl10": (5_000, 8_000, 10, 3),
        "imagenette": (9_469, 3_925, 10, 3),
        "imagenet": (1_281_167, 50_000, 1000, 3),
        "imagenet100": (126_689, 5_000, 100, 3),
    }
    assert facts(Data(name="imagenet")).fingerprint == "absent-imagenet"


def test_fingerprints_are_the_sums_that_torchvision_checks():

    for name, kind in (("cifar10", "CIFAR10"), ("cifar100", "CIFAR100"), ("stl10", "STL10")):
        theirs = getattr(datasets, kind)
        assert Data(name=name).set.fingerprint == f"{name}-{theirs.tgz_md5}"
        listed = {f"{theirs.base_folder}/{file}" for file, _ in theirs.train_list}
        assert listed <= set(Data(name=name).set.files)


def test_missing_files_are_one_line_with_the_remedy(tmp_path):
    cifar = Data(name="cifar10", folder=str(tmp_path / "none"))
    assert message(require_present, cifar, "x.yaml, recipe cifar10") == (
        f"x.yaml, recipe cifar10: data set cifar10 is not in {tmp_path}/none, where "
        "cifar-10-batches-py/data_batch_1 and the like were expected: "
        "--set data.download=true or --set data.folder=FOLDER"
    )
    assert "is not in" in message(load_dataset, cifar)
    require_present(dataclasses.replace(cifar, download=True), "x.yaml")
    imagenet = Data(name="imagenet", folder=str(tmp_path / "none"), download=True)
    text = message(require_present, imagenet, "x.yaml")  # nobody may download it
    assert text.endswith(
        "train/CLASS/*.jpg and val/CLASS/*.jpg were expected: --set data.folder=FOLDER"
    )
    anything = Data(name="image_folder", folder=str(tmp_path / "none"))
    assert message(facts, anything, "x.yaml") == (
        f"x.yaml: no folder {tmp_path}/none: expected train/CLASS/*.jpg and val/CLASS/*.jpg in it"
    )


def test_damaged_archives_are_named(tmp_path):
    for file in Data(name="cifar10").set.files:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not a batch")
    text = message(load_dataset, Data(name="cifar10", image_size=32, folder=str(tmp_path)))
    assert text.startswith(f"data.folder: cannot read cifar10 in {tmp_path}: ")
    assert "RuntimeError: Dataset not found or" in text
    assert text.endswith("fetch it again with --set data.download=true")


def test_an_archive_is_named_whatever_torchvision_makes_of_it(tmp_path, monkeypatch):
    """Its readers assert and unpickle: an assertion without words is no reason to hide the set."""
    import torchvision

    for file in Data(name="cifar10").set.files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()

    def asserts(*arguments, **more):
        raise AssertionError

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", asserts)
    assert message(load_dataset, Data(name="cifar10", image_size=32, folder=str(tmp_path))) == (
        f"data.folder: cannot read cifar10 in {tmp_path}: AssertionError; remove what is there and "
        "fetch it again with --set data.download=true"
    )


def test_default_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert where(Data(name="cifar10")) == tmp_path / "data" / "cifar10"
    assert where(Data(name="imagenette")) == tmp_path / "data" / "imagenette"
    (tmp_path / "data" / "imagenette" / "imagenette2").mkdir(parents=True)
    assert where(Data(name="imagenette")).name == "imagenette2"  # as torchvision unpacks it


def a_recipe(pretrain=None, tokenizer=None, **data):
    model = Model(patch_size=4, encoder_width=16, encoder_heads=2, decoder_width=8, decoder_heads=2)
    settings = {"batch_size": 2, **(pretrain or {})}
    return Recipe(
        data=Data(**data),
        model=model,
        pretrain=Pretrain(**settings),
        tokenizer=tokenizer or Tokens(),
    )


def test_a_recipe_against_its_data_set():
    require_fit(
        a_recipe(name="stl10", image_size=48, validation_images=1000), "x"
    )  # resized down, as no other array is
    require_fit(a_recipe(name="imagenet", image_size=224, reading="stream"), "x")
    cases = [
        (
            a_recipe(name="cifar10", image_size=28),
            "image_size 28 is below the 32 pixels of cifar10",
        ),
        (
            a_recipe(name="stl10", image_size=96, validation_images=1000, train_images=4500),
            "stl10 has 5000 training images: 1000 for validation and 4500 for training do not fit",
        ),
        (
            a_recipe(name="cifar100", image_size=32, reading="stream"),
            "data.reading stream needs a file per image; cifar100 is read as a whole: take cache",
        ),
        (
            dataclasses.replace(
                a_recipe({"target": "pca"}, name="cifar10", image_size=32), pca=PCA(components=49)
            ),
            "pca.components 49 is above the 48 values of a 4 x 4 x 3 patch",
        ),
        (
            dataclasses.replace(
                a_recipe(name="stl10", image_size=96, validation_images=1000), knn=Knn(labels=4001)
            ),
            "knn.labels 4001 is above the 4000 training images: use at most 4000",
        ),
        (
            a_recipe({"batch_size": 4001}, name="stl10", image_size=96, validation_images=1000),
            "pretrain.batch_size 4001 is above the 4000 training images",
        ),
    ]
    for recipe, expected in cases:
        assert expected in message(require_fit, recipe, "x.yaml")


def test_the_smallest_class_of_a_folder(images):
    (images / "train" / "dog" / "0.png").unlink()
    fields = {"name": "image_folder", "folder": str(images), **ANY}
    require_fit(a_recipe(train_images=8, **fields), "x.yaml")
    (images / "train" / "dog" / "1.JPEG").unlink()
    folder.forget()
    assert message(require_fit, a_recipe(train_images=8, **fields), "x.yaml") == (
        "x.yaml: class dog of image_folder has 4 training images: 1 for validation and 4 for "
        "training do not fit"
    )


def test_the_tokeniser_s_file_is_the_recipe_s(tmp_path):
    weights = tmp_path / "encoder.pt"
    sha256 = hashlib.sha256(b"weights").hexdigest()
    tokenizer = Tokens(source="dalle", file=str(weights), sha256=sha256)
    recipe = a_recipe({"target": "dvae_token"}, tokenizer)
    assert message(require_fit, recipe, "x") == f"x: tokenizer.file {weights}: no such file"
    weights.write_bytes(b"weights")
    require_fit(recipe, "x")
    weights.write_bytes(b"other weights")
    found = hashlib.sha256(b"other weights").hexdigest()
    assert message(require_fit, recipe, "x") == (
        f"x: tokenizer.file {weights}: its sha256 is {found}, the recipe expects {sha256}"
    )


# folders of images


def test_facts_of_a_folder_are_counted(images):
    known = facts(a_folder(images))
    assert (known.train_images, known.test_images, known.classes) == (12, 4, 2)
    assert known.missing == "" and len(known.fingerprint) == 64
    (images / "val" / "dog" / "notes.txt").write_text("no image")
    folder.forget()
    assert facts(a_folder(images)).fingerprint == known.fingerprint
    (images / "val" / "dog" / "0.png").rename(images / "val" / "dog" / "9.png")
    folder.forget()
    assert facts(a_folder(images)).fingerprint != known.fingerprint


def test_every_fault_of_a_layout_has_its_line(images):
    check_layout(images)
    assert message(check_layout, images, 10) == f"{images} has 2 class folders, expected 10"
    assert message(check_layout, images / "none", None, "data.folder") == (
        f"data.folder: no folder {images}/none: expected {LAYOUT} in it"
    )
    for name in "abcdefg":
        (images / "train" / name).mkdir()
    text = message(check_layout, images)
    assert text == (
        f"{images}: class folders in train/ but not in val/: a, b, c, d, e and 2 more; every class "
        "needs images in both"
    )
    for name in "abcdefg":
        (images / "val" / name).mkdir()
    text = message(check_layout, images)
    assert text == f"{images}/train: no image ({' '.join(EXTENSIONS)}) in a, b, c, d, e and 2 more"


def test_a_folder_without_splits_or_classes(tmp_path):
    assert f"{tmp_path} has no train/: expected" in message(check_layout, tmp_path)
    (tmp_path / "train" / "cat").mkdir(parents=True)
    assert f"{tmp_path} has no val/: expected" in message(check_layout, tmp_path)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "0001.jpg").touch()  # ImageNet's validation images before they are sorted
    assert f"{tmp_path}/val has no class folders" in message(check_layout, tmp_path)
    (tmp_path / "val" / "dog").mkdir()
    (tmp_path / "train" / "dog").mkdir()
    assert "in train/ but not in val/: cat" in message(check_layout, tmp_path)
    (tmp_path / "train" / "cat").rmdir()
    (tmp_path / "val" / "emu").mkdir()
    assert "in val/ but not in train/: emu" in message(check_layout, tmp_path)


def test_a_broken_image_is_named(images):
    (images / "train" / "cat" / "3.JPEG").write_bytes(b"nothing to see")
    whole = (images / "val" / "dog" / "0.png").read_bytes()
    (images / "val" / "dog" / "0.png").write_bytes(whole[:200])
    seen = list(examine_images(images, workers=0))
    assert [each.name for each in seen if each.reason] == ["train/cat/3.JPEG", "val/dog/0.png"]
    assert message(load_dataset, a_folder(images)) == (
        f"{images}: cannot decode train/cat/3.JPEG: not a picture of a known format; "
        "replace or remove it"
    )


def test_a_cached_folder_is_resized_and_centred_once(images):
    data = load_dataset(a_folder(images))
    assert isinstance(data.train, Split) and fits_in_memory(a_folder(images))
    assert data.train.images.shape == (10, 3, 16, 16)
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5
    assert data.validation.labels.tolist() == data.test.labels.unique().tolist() == [0, 1]
    assert (data.classes, data.channels, data.mean[0]) == (2, 3, 0.485)
    names = listing(images).train.names
    _, held = hold_out(np.repeat([0, 1], 6), 2, None, 2)
    image = decode_image(str(images / names[held[0]]), mode="RGB")
    small = TF.resize(image, [16], InterpolationMode.BICUBIC, antialias=True)
    top, left = ((extent - 16) // 2 for extent in small.shape[1:])
    assert torch.equal(data.validation.images[0], small[:, top : top + 16, left : left + 16])


def test_arrays_of_other_sizes():
    cifar = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8).numpy()
    assert channels_first(cifar).shape == (2, 3, 32, 32)
    assert (channels_first(cifar)[0, 1] == cifar[0, :, :, 1]).all()
    assert channels_first(cifar).flags.c_contiguous
    assert channels_first(cifar[..., 0]).shape == (2, 32, 32)
    stl = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    assert (channels_first(stl.numpy()) == stl.numpy()).all()
    small = TF.resize(stl, [48], InterpolationMode.BICUBIC, antialias=True)
    assert torch.equal(fit_to_side(stl, 48), small)
    assert torch.equal(fit_to_side(stl, 98)[:, :, 1:-1, 1:-1], stl)


def test_archives_are_read_as_arrays(monkeypatch):
    class Source:
        def __init__(self, n):
            self.data = torch.zeros(n, 32, 32, 3, dtype=torch.uint8).numpy()
            self.targets = [i % 10 for i in range(n)]

    monkeypatch.setattr(TorchvisionSet, "missing", lambda self, data: "")
    monkeypatch.setattr(
        TorchvisionSet, "open_split", lambda self, data, split: Source(20 if split else 50)
    )
    data = load_dataset(Data(name="cifar10", image_size=36, validation_images=10))
    assert data.train.images.shape == (40, 3, 36, 36) and len(data.test) == 20
    assert sorted(data.validation.labels.tolist()) == list(range(10))
    assert (data.classes, data.fingerprint) == (10, Data(name="cifar10").set.fingerprint)
    dataset._loaded.clear()


# streaming


@pytest.fixture
def files(images):
    split = load_dataset(a_folder(images, reading="stream")).train
    assert isinstance(split, FileSplit) and len(split) == 10
    return split


def epoch(split, workers=0, **view):
    """Pixels and labels of one epoch in batches of 4, 4 and 2, and the generator's state after."""
    rng = generator(0, "augment")
    if "augmentation" in view:
        view["augmentation"] = find_component("augmentation", view["augmentation"]).cls()
    feed = Feed(split, View(**view), workers=workers)
    order = torch.randperm(len(split), generator=generator(0, "order"))
    pixels, labels = zip(*feed.batches(order.split(4), rng), strict=True)
    assert torch.equal(torch.cat(labels), split.labels[order])
    return torch.cat(pixels), rng.get_state(), feed


VIEWS = {
    "crop_fixed": {"augmentation": "crop_fixed"},
    "crop_random": {"augmentation": "crop_random"},
    "crop_jitter": {"augmentation": "crop_jitter"},
    "randaugment": {"augmentation": "crop_random", "randaugment_magnitude": 9, "image_size": 20},
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_stream_is_what_its_generator_says(files, name):
    first, state, _ = epoch(files, **VIEWS[name])
    again, same, _ = epoch(files, **VIEWS[name])
    side = VIEWS[name].get("image_size", 16)
    assert first.shape == (10, 3, side, side) and first.dtype == torch.float32
    assert first.min() >= 0 and first.max() <= 1
    assert not first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, again) and torch.equal(state, same)


def test_workers_change_nothing(files):
    kept = torch.get_rng_state()
    expected, state, alone = epoch(files, **VIEWS["crop_jitter"])
    pixels, same, feed = epoch(files, workers=2, **VIEWS["crop_jitter"])
    assert torch.equal(pixels, expected) and torch.equal(state, same)
    assert torch.equal(kept, torch.get_rng_state())
    # the next epoch, by the same workers, of which the first batch is all that is wanted
    for _ in range(2):
        batches = [next(f.batches([torch.arange(4)] * 5, generator(1, "a"))) for f in (alone, feed)]
        assert torch.equal(batches[0][0], batches[1][0])


def test_random_crops_of_a_stream_are_torchvision_s(files):
    from mae_ablation.data.augment import random_resized_boxes

    pixels, _, _ = epoch(files, augmentation="crop_random", crop_min_area=0.5)
    order = torch.randperm(10, generator=generator(0, "order"))
    rng = generator(0, "augment")
    seeds = torch.cat([torch.randint(2**63 - 1, (n,), generator=rng) for n in (4, 4, 2)])
    for ours, index, seed in zip(pixels, order.tolist(), seeds.tolist(), strict=True):
        image = decode_image(str(Path(files.images.root) / files.images.names[index]), mode="RGB")
        mine = torch.Generator().manual_seed(seed)
        boxes = random_resized_boxes(1, tuple(image.shape[1:]), 0.5, mine)
        *box, flip = (int(part) for part in boxes)
        theirs = TF.resized_crop(image, *box, [16, 16], InterpolationMode.BICUBIC, antialias=True)
        theirs = TF.horizontal_flip(theirs) if flip else theirs
        assert torch.equal(ours, theirs.float() / 255)


def test_a_stream_is_evaluated_at_the_centre(files):
    (pixels, labels), (rest, _) = plain(files, batch=8, image_size=14)
    assert pixels.shape == (8, 3, 14, 14) and len(rest) == 2
    assert labels.tolist() == [0] * 5 + [1] * 3
    image = decode_image(
        str(Path(files.images.root) / files.images.names[0]), mode="RGB"
    )  # 28 x 37
    small = TF.resize(image, [16], InterpolationMode.BICUBIC, antialias=True)  # 14 x 256 / 224
    assert small.shape == (3, 16, 21)
    assert torch.equal(pixels[0], small[:, 1:15, 3:17] / 255)


def test_above_224_pixels_evaluation_resizes_to_the_size_itself():
    image = torch.randint(0, 256, (3, 500, 375), dtype=torch.uint8)
    for side, short in ((224, 256), (448, 448)):
        small = TF.resize(image, [short], InterpolationMode.BICUBIC, antialias=True)
        top, left = ((extent - side) // 2 for extent in small.shape[1:])
        seen = streamed(image, 0, view=View(), side=side)
        assert torch.equal(seen, small[:, top : top + side, left : left + side])


def test_a_broken_image_in_a_worker_is_one_line(files):
    (Path(files.images.root) / files.images.names[2]).write_bytes(b"")
    text = message(list, plain(files, workers=1))
    assert text == (
        f"{files.images.root}: cannot decode {files.images.names[2]}: the file is empty; "
        "replace or remove it"
    )

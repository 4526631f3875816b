"""Data sets prepared once: the same training from shards as from the folder; kills, damage, S3."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from conftest import TOY_RECIPE
from PIL import Image
from toys import Killed, a_folder, require_same_training, run_undisturbed, session_of

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.data import dataset, folder, prepare, shard_cache, shards
from mae_ablation.data.augment import View
from mae_ablation.data.catalog import facts
from mae_ablation.data.dataset import load_dataset
from mae_ablation.data.feed import Feed, plain
from mae_ablation.data.folder import listing
from mae_ablation.data.prepare import prepare_images
from mae_ablation.data.shards import INDEX, UNFINISHED, list_images
from mae_ablation.errors import UserError
from mae_ablation.recipe.recipe import Data
from mae_ablation.registry import find_component
from mae_ablation.store.folder import Store
from mae_ablation.train.checkpoints import load_checkpoint
from mae_ablation.train.optim import generator
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun

FEW = 4096
"""bytes of a shard: one, two or three of the toy images"""


@pytest.fixture(autouse=True)
def afresh():
    shards.forget_prepared()
    dataset._loaded.clear()
    shard_cache._given_up.clear()
    shard_cache._used.clear()


@pytest.fixture
def prepared(images):
    """The toy folder's images in a handful of shards."""
    prepare_images(str(images), str(images / "shards"), shard=FEW)
    return images / "shards"


def data_in(place, **more):
    settings = {"image_size": 16, "validation_images": 2, "workers": 0, **more}
    return Data(name="image_folder", folder=str(place), **settings)


def message(call, *arguments, **more):
    with pytest.raises(UserError) as error:
        call(*arguments, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def damage(path):
    """Other bytes in an image, and no other size."""
    whole = bytearray(path.read_bytes())
    whole[700] ^= 1
    path.write_bytes(whole)


# the same images, the same training


def test_a_set_in_memory_is_the_folder_s(images, prepared):
    ours, theirs = load_dataset(data_in(prepared)), load_dataset(data_in(images))
    for part in dataset.PARTS:
        a, b = getattr(ours, part), getattr(theirs, part)
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    assert (ours.classes, ours.mean) == (theirs.classes, theirs.mean)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_the_folder_s_in_order_and_seeds(images, prepared, workers):
    view = View(
        augmentation=find_component("augmentation", "crop_random").cls(), randaugment_magnitude=9
    )
    seen = []
    for place in (images, prepared):
        split, rng = load_dataset(data_in(place, reading="stream")).train, generator(3, "augment")
        order = torch.randperm(len(split), generator=generator(0, "order")).split(4)
        pixels, labels = zip(*Feed(split, view, workers=workers).batches(order, rng), strict=True)
        seen.append((torch.cat(pixels), torch.cat(labels), rng.get_state()))
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


@pytest.mark.parametrize("reading", ["cache", "stream"])
def test_a_training_from_shards_is_bit_for_bit_that_from_the_folder(
    images, prepared, write_study, tmp_path, reading
):
    weights, losses, identities = [], [], set()
    for place in (images, prepared):
        recipe = TOY_RECIPE.replace(
            "data: {image_size: 30, train_images: 200, validation_images: 100}",
            f"data: {{name: image_folder, folder: '{place}', image_size: 30, validation_images: 2, "
            f"reading: {reading}, workers: 0}}",
        ).replace("batch_size: 50", "batch_size: 4")
        study = write_study("recipe: toy\nfactors:\n  mask_ratio: [0.75]\nseeds: 1\n", recipe)
        store = tmp_path / f"store-{place.name}"
        run_undisturbed(study, store)
        (trained,) = Store(store).folders("pretrain")
        identities.add(trained.identity)
        weights.append(load_checkpoint(trained.final_checkpoint(), "cpu")["model"])
        probes = [each.result()["test_acc1"] for each in Store(store).folders("linear_probe")]
        losses.append([trained.result()["train_loss"], *sorted(probes)])
    assert losses[0] == losses[1] and len(identities) == 2
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("reading", ["cache", "stream"])
def test_killed_in_an_epoch_on_shards_it_resumes_as_the_folder_s_ends(
    toy, images, prepared, tmp_path, reading
):
    def recipe(place):
        few = dataclasses.replace(toy.pretrain, batch_size=4)
        where = data_in(place, image_size=30, reading=reading)
        return dataclasses.replace(toy, data=where, pretrain=few)

    def kill(progress):  # two steps are an epoch
        if 3 in progress.get("saved", {}).values():
            raise Killed

    whole, killed = a_folder(tmp_path, "whole"), a_folder(tmp_path, "killed")
    pretrain(recipe(images), 0, PhaseRun(folder=whole))
    with pytest.raises(Killed):
        pretrain(recipe(prepared), 0, PhaseRun(folder=killed, report=kill))
    assert killed.checkpoints()[0].step == 3
    pretrain(recipe(prepared), 0, PhaseRun(folder=killed))
    require_same_training(whole, killed)


def test_the_fingerprint_is_of_the_images_and_not_of_how_they_are_packed(images, prepared):
    prepare_images(str(images), str(images / "other"))
    one, five = list_images(images / "other"), list_images(prepared)
    assert len(one.shards) == 1 and len(five.shards) > 3
    assert one.fingerprint == five.fingerprint == facts(data_in(prepared)).fingerprint
    (images / "train" / "cat" / "0.png").write_bytes(
        (images / "val" / "cat" / "0.png").read_bytes()
    )
    folder.forget()
    prepare_images(str(images), str(images / "third"))
    assert list_images(images / "third").fingerprint != one.fingerprint


def test_a_plan_reads_the_index_and_no_image(images, prepared, monkeypatch):
    known = facts(data_in(images))
    for path in (*images.glob("train/*/*"), *images.glob("val/*/*")):
        path.unlink()
    monkeypatch.setattr(shards, "open_file", None)
    found = facts(data_in(prepared))
    assert (found.train_images, found.test_images, found.classes) == (12, 4, 2)
    assert (known.train_images, known.test_images, known.classes) == (12, 4, 2)


def test_tar_gives_the_folder_back(images, prepared, tmp_path):
    for path in sorted(prepared.glob("*.tar")):
        with tarfile.open(path) as file:
            file.extractall(tmp_path / "back", filter="data")
    found = listing(images)
    for name in found.train.names + found.val.names:
        assert (tmp_path / "back" / name).read_bytes() == (images / name).read_bytes()


def test_what_lies_in_the_index(images, prepared):
    head, known, packing, where, _ = map(json.loads, (prepared / INDEX).read_text().splitlines())
    assert head == {"format": 1, "classes": ["cat", "dog"], "train": [6, 6], "val": [2, 2]}
    for i, name in enumerate(known["names"]):
        shard = (prepared / packing["shards"][where["shard"][i]][0]).read_bytes()
        begun = where["offset"][i]
        assert shard[begun : begun + known["sizes"][i]] == (images / name).read_bytes()


def test_larger_images_are_made_smaller_once(images):
    large = images / "train" / "dog" / "5.JPEG"
    Image.new("RGB", (300, 100), "red").save(large, "JPEG")
    prepare_images(str(images), str(images / "small"), side=40)
    made = list_images(images / "small").images("train")
    with Image.open(large) as before:
        assert before.size == (300, 100)
    at = made.names.index("train/dog/5.JPEG")
    with Image.open(io.BytesIO(made.read(at))) as after:
        assert after.size == (120, 40)
    same = made.names.index("train/dog/0.png")
    assert made.read(same) == (images / "train" / "dog" / "0.png").read_bytes()


# preparing


def test_prepare_says_its_numbers_and_does_nothing_twice(images, capsys, monkeypatch):
    monkeypatch.setattr(prepare, "SAID_EVERY_S", 0)
    (images / "val" / "cat" / "notes.txt").write_text("no image")
    folder.forget()
    words = ["data", "prepare", str(images), str(images / "shards"), "--shard", "4K"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"{images}: 16 images of 2 classes\n" in said
    assert "not taken: 1 file of suffix .txt (val/cat/notes.txt)" in said
    assert re.search(r"\n8 of 16 images, [\d.]+ GB, [\d,]+ images/s, [\d,]+ min left\n", said)
    assert re.search(r"12 training and 4 validation images of 2 classes in \d+ shards, ", said)
    assert f"`data: {{name: image_folder, folder: {images}/shards}}`" in said
    before = {path: path.stat().st_mtime_ns for path in (images / "shards").iterdir()}
    assert main(words) == 0 and "is prepared already: " in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (images / "shards").iterdir()}
    assert not (images / "shards" / UNFINISHED).exists()


KILLED = """
import os, signal, sys
from mae_ablation.data import prepare
put, count = prepare.put_shard, 0
def killed(*arguments):
    global count
    note = put(*arguments)
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return note
prepare.put_shard = killed
prepare.prepare_images(sys.argv[1], sys.argv[2], shard=4096)
"""


def test_a_killed_preparation_goes_on_and_gives_the_same_bytes(images, prepared, capsys):
    again = images / "again"
    done = subprocess.run([sys.executable, "-c", KILLED, str(images), str(again)])
    assert done.returncode == -signal.SIGKILL and not (again / INDEX).exists()
    assert message(list_images, again) == (
        f"{again}: is not prepared to its end: `mae-ablation data prepare SOURCE {again}` goes on "
        "with it"
    )
    capsys.readouterr()
    first = (again / "shard-00000.tar").stat().st_mtime_ns
    prepare_images(str(images), str(again), shard=FEW)
    assert re.search(r"goes on behind \d+ images in 2 shards", capsys.readouterr().out)
    assert (again / "shard-00000.tar").stat().st_mtime_ns == first
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in prepared.iterdir()
    }


def test_other_settings_begin_again_where_nothing_is_finished(images, prepared):
    again = images / "again"
    subprocess.run([sys.executable, "-c", KILLED, str(images), str(again)])
    prepare_images(str(images), str(again))
    assert sorted(path.name for path in again.iterdir()) == [INDEX, "shard-00000.tar"]
    assert list_images(again).fingerprint == list_images(prepared).fingerprint


def test_every_broken_image_is_named_and_no_index_is_written(images, capsys):
    (images / "train" / "cat" / "3.JPEG").write_bytes(b"nothing to see")
    (images / "val" / "dog" / "0.png").write_bytes(b"")
    folder.forget()
    assert main(["data", "prepare", str(images), str(images / "x"), "--shard", "4K"]) == 2
    out, err = capsys.readouterr()
    assert f"{images}/train/cat/3.JPEG: cannot be read as an image: not a picture of a" in out
    assert f"{images}/val/dog/0.png: cannot be read as an image: the file is empty" in out
    assert err == (
        f"{images}: 2 of 16 images cannot be read: replace or remove them, then run the same "
        "command again\n"
    )
    assert not (images / "x" / INDEX).exists()


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(images, prepared):
    code = (
        "import resource, sys\n"
        "from mae_ablation.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        f"sys.exit(main(['data', 'prepare', {str(images)!r}, {str(images / 'y')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"{images}/y: cannot write: File too large; the same command goes on from there\n"
    )
    prepare_images(str(images), str(images / "y"))
    assert list_images(images / "y").fingerprint == list_images(prepared).fingerprint


def test_a_disk_that_is_too_small_is_said_beforehand(images, monkeypatch):
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: shutil_usage(free=1000))
    text = message(prepare_images, str(images), str(images / "z"))
    assert text.startswith(f"{images}/z: 0.0 GB of images do not fit into 0.0 GB of free disk")
    assert not (images / "z").exists()


def shutil_usage(free):
    from shutil import _ntuple_diskusage

    return _ntuple_diskusage(free, 0, free)


@pytest.mark.parametrize(
    "words, line",
    [
        (["--shard", "12X"], "--shard: '12X' is no size: write 512M, say, or 1G"),
        (["--side", "0"], "--side: '0' is not a whole number from 1"),
        (["--sied", "256"], "Unknown option: --sied. Did you mean --side?"),
    ],
)
def test_a_wrong_flag_is_one_line(images, capsys, words, line):
    assert main(["data", "prepare", str(images), str(images / "shards"), *words]) == 2
    assert line in capsys.readouterr().err


def test_places_that_cannot_be(images, prepared, tmp_path):
    assert message(prepare_images, str(images), str(images)).endswith(
        "holds images or tables already: choose another folder"
    )
    assert "no folder" in message(prepare_images, str(tmp_path / "none"), str(tmp_path / "o"))
    assert message(prepare_images, str(images), str(prepared), side=20) == (
        f"{prepared}: holds what was prepared from other images or with other settings: choose "
        "another place, or remove it"
    )


# other sources


CLASSES = ["cat", "dog"]


def rows_of(images, split):
    """Bytes and label of each image, mixed, as such data sets are."""
    paths = sorted(images.glob(f"{split}/*/*"), key=lambda path: path.name)
    return [(path.read_bytes(), CLASSES.index(path.parent.name), path.name) for path in paths]


def as_table(rows, about=True):
    import pyarrow

    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": CLASSES}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    image = pyarrow.array([{"bytes": data, "path": name} for data, _, name in rows])
    table = pyarrow.table({"image": image, "label": [label for _, label, _ in rows]})
    return table.replace_schema_metadata(metadata) if about else table


def as_parquet(images, place, about=True):
    from pyarrow import parquet

    (place / "data").mkdir(parents=True)
    rows = rows_of(images, "train")
    tables = {"train-00000-of-00002": rows[:7], "train-00001-of-00002": rows[7:]}
    tables |= {"validation-00000-of-00001": rows_of(images, "val")}
    for name, part in tables.items():
        file = place / "data" / f"{name}.parquet"
        parquet.write_table(as_table(part, about), file, row_group_size=3)


def as_arrow(images, place):
    """As `save_to_disk` of Hugging Face's library lays it out."""
    import pyarrow

    for split, name in (("train", "train"), ("val", "test")):
        (place / name).mkdir(parents=True)
        (place / name / "state.json").write_text("{}")
        table = as_table(rows_of(images, split))
        file = pyarrow.OSFile(str(place / name / "data-00000-of-00001.arrow"), "wb")
        with file, pyarrow.ipc.new_stream(file, table.schema) as out:
            out.write_table(table)


def as_tar(images, place, kind="cls"):
    place.mkdir()
    for split in ("train", "val"):
        with tarfile.open(place / f"toys-{split}-0000.tar", "w") as file:
            for number, (data, label, name) in enumerate(rows_of(images, split)):
                parts = {"cls": str(label), "json": json.dumps({"label": CLASSES[label]})}
                key = f"{number:04d}" if kind else f"{CLASSES[label]}/{number:04d}"
                members = {f"{key}{Path(name).suffix.lower()}": data}
                members |= {f"{key}.{kind}": parts[kind].encode()} if kind else {}
                for member, content in members.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    file.addfile(info, io.BytesIO(content))


SOURCES = {
    "parquet": (as_parquet, CLASSES),
    "parquet of somebody else": (lambda i, p: as_parquet(i, p, about=False), ["0", "1"]),
    "arrow": (as_arrow, CLASSES),
    "tar with numbers": (as_tar, ["0", "1"]),
    "tar with JSON": (lambda i, p: as_tar(i, p, "json"), CLASSES),
    "tar with folders": (lambda i, p: as_tar(i, p, ""), CLASSES),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_images_of_its_classes(images, tmp_path, kind, capsys):
    make, classes = SOURCES[kind]
    make(images, tmp_path / "source")
    assert main(["data", "prepare", str(tmp_path / "source"), str(tmp_path / "out")]) == 0
    assert "12 training and 4 validation images of 2 classes" in capsys.readouterr().out
    found = list_images(tmp_path / "out")
    assert found.classes == tuple(classes)
    assert (found.train.counts, found.val.counts) == ((6, 6), (2, 2))
    for split in ("train", "val"):
        ours = found.images(split)
        theirs = [data for label in (0, 1) for data, i, _ in rows_of(images, split) if i == label]
        assert [ours.read(i) for i in range(len(ours))] == theirs
        places = [CLASSES[i] if classes == CLASSES else str(i) for i in (0, 1)]
        half = len(ours) // 2
        assert [name.split("/")[1] for name in ours.names] == [
            *([places[0]] * half),
            *([places[1]] * half),
        ]
    load_dataset(data_in(tmp_path / "out"))


def test_a_sample_s_own_image_is_taken_and_what_has_none_is_counted(images, tmp_path, capsys):
    (tmp_path / "source").mkdir()
    picture = (images / "train" / "cat" / "0.png").read_bytes()
    for split in ("train", "val"):
        with tarfile.open(tmp_path / "source" / f"{split}.tar", "w") as file:
            for member, content in {
                "a.mask.png": b"no picture",
                "a.PNG": picture,
                "a.cls": b"7",
                "b.rgb.png": picture,
                "b.cls": b"10",
                "about.txt": b"words",
            }.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    (tmp_path / "source" / ".cache").mkdir()
    (tmp_path / "source" / ".cache" / "train.parquet").touch()
    prepare_images(str(tmp_path / "source"), str(tmp_path / "out"))
    assert "not taken: 2 samples without an image\n" in capsys.readouterr().out
    found = list_images(tmp_path / "out")
    assert (found.classes, found.train.counts) == (("7", "10"), (1, 1))
    assert found.images("train").names == ("train/7/00000000.png", "train/10/00000001.png")


def test_names_of_any_bytes_and_length_are_kept(images, tmp_path):
    cat = os.fsencode(images / "train" / "cat")
    for name in (b"\xff\xfe.png", b"two\nlines.png", "\u732b".encode() * 60 + b".png"):
        Path(os.fsdecode(cat + b"/" + name)).write_bytes((images / "val/cat/0.png").read_bytes())
    folder.forget()
    prepare_images(str(images), str(tmp_path / "odd"), shard=FEW)
    found, theirs = list_images(tmp_path / "odd").images("train"), listing(images).train.names
    assert found.names == theirs
    for number, name in enumerate(theirs):
        assert found.read(number) == (images / name).read_bytes()


def test_sources_that_cannot_be_are_one_line(images, tmp_path):
    import pyarrow
    from pyarrow import parquet

    out = str(tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "nothing to prepare: expected train/CLASS/*.jpg and" in message(
        prepare_images, str(empty), out
    )
    parquet.write_table(pyarrow.table({"text": ["a"]}), empty / "train.parquet")
    text = message(prepare_images, str(empty), out)
    assert text.startswith(f"{empty}: no files of validation or valid or val or dev or test: ")
    parquet.write_table(pyarrow.table({"text": ["a"]}), empty / "test.parquet")
    assert message(prepare_images, str(empty), out) == (
        f"{empty}: cannot read train.parquet: no column of images among text"
    )
    (empty / "train.parquet").write_bytes(b"no table")
    assert f"{empty}: cannot read train.parquet: " in message(prepare_images, str(empty), out)
    for name in ("train", "test"):
        table = as_table([*rows_of(images, "train"), (b"x", -1, "y.jpg")])
        parquet.write_table(table, empty / f"{name}.parquet")
    assert message(prepare_images, str(empty), out) == (
        f"{empty}: train has images without a label: 00000012.jpg, say"
    )
    (tmp_path / "tars").mkdir()
    for name in ("train", "val"):
        (tmp_path / "tars" / f"{name}.tar").write_bytes(b"no tar" * 200)
    assert "cannot read train.tar: " in message(prepare_images, str(tmp_path / "tars"), out)
    assert "is an address: images are prepared from a folder" in message(
        prepare_images, "s3://bucket/images", out
    )


def test_a_study_on_what_is_not_prepared_is_told_how(images, tmp_path, write_study, capsys):
    as_parquet(images, tmp_path / "source")
    line = refused(planned(tmp_path / "source", write_study), capsys)
    assert line.endswith(
        f"{tmp_path}/source holds a Hugging Face data set or a WebDataset: `mae-ablation data "
        f"prepare {tmp_path}/source DEST` makes what a study can name of it"
    )


def test_other_splits_of_a_source_are_named(images, tmp_path, capsys):
    as_parquet(images, tmp_path / "source")
    one = next((tmp_path / "source" / "data").glob("validation-*"))
    one.with_name("test-00000-of-00001.parquet").write_bytes(one.read_bytes())
    prepare_images(str(tmp_path / "source"), str(tmp_path / "out"))
    assert "not taken: 1 file of other splits (data/test-00000-of-00001.parquet)" in (
        capsys.readouterr().out
    )


# a study on a prepared set that is not as it was


def planned(place, write_study, **more):
    recipe = TOY_RECIPE.replace(
        "data: {image_size: 30, train_images: 200, validation_images: 100}",
        f"data: {{name: image_folder, folder: '{place}', image_size: 30, validation_images: 2}}",
    ).replace("batch_size: 50", "batch_size: 4")
    return write_study("recipe: toy\nfactors:\n  mask_ratio: [0.75]\n", recipe)


def refused(study, capsys):
    shards.forget_prepared()
    assert main(["plan", str(study), "--store", str(study.parent / "store")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_shard_that_is_missing_or_cut_short_is_one_line(prepared, write_study, capsys):
    study, shard = planned(prepared, write_study), prepared / "shard-00001.tar"
    capsys.readouterr()
    whole = shard.read_bytes()
    shard.write_bytes(whole[:1000])
    assert f"{prepared}: shard-00001.tar has 1,000 bytes, {INDEX} says {len(whole):,}: copy" in (
        refused(study, capsys)
    )
    shard.unlink()
    line = refused(study, capsys)
    assert f"{prepared}: shard-00001.tar is missing: copy it again, or prepare the set" in line
    prepare_images(str(prepared.parent), str(prepared), shard=FEW)
    assert shard.read_bytes() == whole
    assert plan_study(study).trials


def test_an_index_that_is_damaged_is_one_line(prepared, write_study, capsys):
    study, index = planned(prepared, write_study), prepared / INDEX
    capsys.readouterr()
    whole = index.read_bytes()
    for damaged in (whole[:-100], whole.replace(b"cat/0", b"cat/9"), b"", b"{}\n" * 5):
        index.write_bytes(damaged)
        assert f"{prepared}: {INDEX} is cut short or damaged: copy it again" in (
            refused(study, capsys)
        )


def test_a_changed_shard_is_found_when_it_is_read(prepared, capsys):
    for path in prepared.glob("*.tar"):
        damage(path)
    split = load_dataset(data_in(prepared, reading="stream")).train
    text = message(list, plain(split))
    assert text.startswith(f"{prepared}: cannot decode train/cat/")
    assert re.search(r": shard-0000\d.tar has other bytes there than index.jsonl says; copy", text)
    assert main(["data", str(prepared), "--workers", "1"]) == 2
    out = capsys.readouterr().out
    assert f"{prepared}/train/cat/0.png: cannot be read as an image: shard-00000.tar has" in out
    assert f"{len(list(prepared.glob('*.tar')))} of 16 images cannot be read" in out


def test_the_number_of_classes_is_looked_at(prepared):
    other = Data(name="imagenet100", folder=str(prepared), image_size=16, validation_images=2)
    assert message(facts, other, "x") == f"x: {prepared} has 2 classes, expected 100"


# on S3, and on a node's own disk


def a_cache(tmp_path, **more):
    return {"cache_dir": str(tmp_path / "nvme"), **more}


def kept(tmp_path):
    """Bytes that lie in the cache, and names of its shards."""
    found = [p for p in (tmp_path / "nvme").glob("*/*") if p.suffix != ".lock"]
    return sum(p.stat().st_size for p in found), sorted(p.name for p in found)


@pytest.fixture
def remote(images, s3, request):
    place = f"{s3}/{request.node.name}"
    prepare_images(str(images), place, shard=FEW)
    return place


@pytest.mark.parametrize("cached", [False, True])
def test_images_on_s3_are_those_of_the_folder(images, remote, tmp_path, cached):
    more = a_cache(tmp_path) if cached else {}
    theirs = load_dataset(data_in(images))
    ours = load_dataset(data_in(remote, **more))
    assert torch.equal(ours.train.images, theirs.train.images)
    split = load_dataset(data_in(remote, reading="stream", **more)).test
    pixels = torch.cat([pixels for pixels, _ in plain(split)])
    expected = load_dataset(data_in(images, reading="stream")).test
    assert torch.equal(pixels, torch.cat([pixels for pixels, _ in plain(expected)]))
    total = sum(shard.size for shard in list_images(remote).shards)
    if cached:
        assert kept(tmp_path)[0] == total


def test_a_session_keeps_the_address(remote, write_study, tmp_path):
    session = session_of(planned(remote, write_study), store=str(tmp_path / "store"))
    (plan,) = session.plans
    assert {trial.recipe.data.folder for trial in plan.trials} == {remote}
    assert not facts(plan.trials[0].recipe.data).missing


def test_a_preparation_on_s3_goes_on_too(images, remote, s3, monkeypatch):
    put = prepare.put_shard

    def killed(shard, number, *rest):
        if number == 2:
            raise Killed
        return put(shard, number, *rest)

    monkeypatch.setattr(prepare, "put_shard", killed)
    with pytest.raises(Killed):
        prepare_images(str(images), f"{s3}/half", shard=FEW)
    monkeypatch.setattr(prepare, "put_shard", put)
    assert f"there is no {INDEX}" in message(list_images, f"{s3}/half")
    prepare_images(str(images), f"{s3}/half", shard=FEW)
    assert list_images(f"{s3}/half").fingerprint == list_images(remote).fingerprint


def test_a_shard_missing_on_s3_is_one_line(remote):
    import boto3

    key = f"{remote.removeprefix('s3://mae/')}/shard-00000.tar"
    boto3.client("s3").delete_object(Bucket="mae", Key=key)
    shards.forget_prepared()
    assert message(list_images, remote).startswith(f"{remote}: shard-00000.tar is missing: ")


def test_nothing_prepared_on_s3_is_one_line(s3):
    assert message(list_images, f"{s3}/nowhere") == (
        f"{s3}/nowhere: there is no {INDEX}: make it with `mae-ablation data prepare SOURCE "
        f"{s3}/nowhere`"
    )


def test_a_shard_comes_to_a_node_once(remote, tmp_path, monkeypatch):
    fetched = []
    through = shard_cache.read_through
    monkeypatch.setattr(
        shard_cache, "read_through", lambda root, name: fetched.append(name) or through(root, name)
    )
    data = data_in(remote, reading="stream", **a_cache(tmp_path))
    for _ in range(2):  # two lanes
        list(plain(load_dataset(data).train))
        dataset._loaded.clear()
    assert len(fetched) == len(set(fetched)) > 2


LANE = """
import sys
from mae_ablation.data import shard_cache
from mae_ablation.data.shard_cache import ShardCache
from mae_ablation.data.shards import list_images
place, folder, log = sys.argv[1:]
through = shard_cache.read_through
def written_down(root, name):
    with open(log, "a") as file:
        file.write(name + "\\n")
    yield from through(root, name)
shard_cache.read_through = written_down
found = list_images(place)
cache = ShardCache(folder, found.fingerprint, 10**9)
for split in ("train", "val"):
    images = found.images(split, cache)
    for number in range(len(images)):
        images.read(number)
"""


def test_lanes_side_by_side_fetch_each_shard_once(prepared, tmp_path):
    words = [sys.executable, "-c", LANE, prepared, tmp_path / "nvme", tmp_path / "log"]
    lanes = [subprocess.Popen(words) for _ in range(3)]
    assert [lane.wait() for lane in lanes] == [0, 0, 0]
    names = [shard.name for shard in list_images(prepared).shards]
    assert sorted((tmp_path / "log").read_text().split()) == names
    assert kept(tmp_path)[1] == names


def test_what_a_killed_lane_was_fetching_is_fetched_again(images, prepared, tmp_path):
    found = list_images(prepared)
    inside = tmp_path / "nvme" / found.fingerprint[:12]
    inside.mkdir(parents=True)
    (inside / "shard-00000.tar.part").write_bytes(b"half of it")
    data = load_dataset(data_in(prepared, **a_cache(tmp_path)))
    assert torch.equal(data.test.images, load_dataset(data_in(images)).test.images)
    assert kept(tmp_path)[1] == [shard.name for shard in found.shards]


def test_a_cache_without_a_whole_path_is_refused(prepared, write_study, capsys):
    study = planned(prepared, write_study)
    assert main(["plan", str(study), "--set", "data.cache_dir=nvme"]) == 2
    assert "cache_dir nvme is no whole path: give one that every node has" in (
        capsys.readouterr().err
    )


def test_the_oldest_of_other_sets_go_first(images, s3, tmp_path):
    """Two sets of 16 images, and a folder that holds one and a half of them."""
    for name in ("a", "b"):
        Image.new("RGB", (30, 30), "red" if name == "a" else "blue").save(images / "val/cat/0.png")
        folder.forget()
        prepare_images(str(images), f"{s3}/{name}", shard=FEW)
    first, second = (list_images(f"{s3}/{name}") for name in ("a", "b"))
    size = sum(shard.size for shard in second.shards)
    more = a_cache(tmp_path, cache_gb=1.5 * size / 1e9, reading="stream")
    list(plain(load_dataset(data_in(f"{s3}/a", **more)).train))
    list(plain(load_dataset(data_in(f"{s3}/a", **more)).test))
    inside = tmp_path / "nvme" / first.fingerprint[:12]
    for age, shard in enumerate(reversed(first.shards)):
        os.utime(inside / shard.name, (1000 + age, 1000 + age))
    list(plain(load_dataset(data_in(f"{s3}/b", **more)).train))
    list(plain(load_dataset(data_in(f"{s3}/b", **more)).test))
    assert kept(tmp_path)[0] <= 1.5 * size
    left = sorted(p.name for p in inside.glob("*.tar"))
    assert left and left == [shard.name for shard in first.shards][: len(left)]
    there = sorted((tmp_path / "nvme" / second.fingerprint[:12]).glob("*.tar"))
    assert [path.name for path in there] == [shard.name for shard in second.shards]


def test_a_set_above_the_bound_is_kept_in_part_and_the_rest_is_streamed(
    images, remote, tmp_path, capsys
):
    total = sum(shard.size for shard in list_images(remote).shards)
    more = a_cache(tmp_path, cache_gb=total / 2 / 1e9)
    ours = load_dataset(data_in(remote, **more))
    assert torch.equal(ours.train.images, load_dataset(data_in(images)).train.images)
    assert 0 < kept(tmp_path)[0] <= total / 2
    assert capsys.readouterr().err.count("do not hold the set; shards are read where they lie") == 1


def test_a_node_s_full_disk_is_one_line_and_the_training_goes_on(
    images, remote, tmp_path, capsys, monkeypatch
):
    def full(descriptor, begin, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_cache.os, "posix_fallocate", full)
    ours = load_dataset(data_in(remote, **a_cache(tmp_path)))
    assert torch.equal(ours.train.images, load_dataset(data_in(images)).train.images)
    assert capsys.readouterr().err == (
        f"data.cache_dir {tmp_path}/nvme: No space left on device; shards are read where they lie\n"
    )
    assert kept(tmp_path) == (0, [])


def test_a_damaged_copy_on_a_node_is_passed_over(images, prepared, tmp_path):
    data = data_in(prepared, reading="stream", **a_cache(tmp_path))
    list(plain(load_dataset(data).train))
    for path in (tmp_path / "nvme").glob("*/*.tar"):
        damage(path)
    shards.forget_prepared()
    ours = torch.cat([pixels for pixels, _ in plain(load_dataset(data).train)])
    theirs = plain(load_dataset(data_in(images, reading="stream")).train)
    assert torch.equal(ours, torch.cat([pixels for pixels, _ in theirs]))


def test_where_shards_are_kept_is_no_part_of_a_result(prepared, tmp_path, write_study):
    study = planned(prepared, write_study)
    there = plan_study(study, store=tmp_path / "store")
    changes = [f"data.cache_dir={tmp_path}/nvme", "data.cache_gb=1"]
    moved = plan_study(study, store=tmp_path / "store", changes=changes)
    assert [t.id for t in there.trials] == [t.id for t in moved.trials]
    Path(tmp_path / "other").mkdir()
    prepared.rename(tmp_path / "other" / "shards")
    shards.forget_prepared()
    study = planned(tmp_path / "other" / "shards", write_study)
    again = plan_study(study, store=tmp_path / "store")
    assert [t.id for t in there.trials] == [t.id for t in again.trials]

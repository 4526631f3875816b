"""Folders of images as people have them: every format, what is not taken, what cannot be read."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import TOY_RECIPE
from PIL import ExifTags, Image
from torchvision import datasets
from torchvision.transforms.v2 import functional as TF

from mae_ablation.api import plan_study
from mae_ablation.data import folder
from mae_ablation.data.catalog import facts
from mae_ablation.data.dataset import load_dataset
from mae_ablation.data.decode import CannotDecode, Reader, decode
from mae_ablation.data.examine import describe_folder, examine_images
from mae_ablation.data.feed import plain
from mae_ablation.data.folder import EXTENSIONS, FolderImages, check_layout, listing
from mae_ablation.errors import UserError, one_line
from mae_ablation.recipe.recipe import Data
from mae_ablation.report.document import ReportDocument
from mae_ablation.report.method import describe_data
from mae_ablation.report.report import describe_report
from mae_ablation.report.results import results_frame
from mae_ablation.report.summary import describe_study
from mae_ablation.report.table import table_frame


def a_folder(images, **more):
    settings = {"image_size": 16, "validation_images": 2, "workers": 0, **more}
    return Data(name="image_folder", folder=str(images), **settings)


def message(call, *arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


FORMATS = {"bmp": "BMP", "tif": "TIFF", "TIFF": "TIFF", "jfif": "JPEG", "gif": "GIF"}
FORMATS |= {"jp2": "JPEG2000", "ppm": "PPM", "JPG": "JPEG", "webp": "WEBP"}


def a_picture(path, format, mode="RGB", size=(30, 20), **more):
    """A file of random pixels, in whatever format its suffix does not say."""
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).convert(mode).save(path, format=format, **more)
    return path


def an_animation(path, format):
    return a_picture(path, format, save_all=True, append_images=[Image.new("RGB", (30, 20))])


def test_every_format_that_is_taken_has_the_pixels_that_pil_reads(tmp_path):
    for suffix, format in FORMATS.items():
        assert f".{suffix.lower()}" in EXTENSIONS
        for mode in ("RGB", "L"):
            path = a_picture(tmp_path / f"a.{suffix}", format, mode)
            with Image.open(path) as picture:
                theirs = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
            assert torch.equal(decode(path), theirs), (suffix, mode)


def test_the_upper_bits_of_sixteen_are_kept(tmp_path):
    grey = np.array([[0, 255, 256, 65535]], np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
        assert decode(tmp_path / f"a.{suffix}")[0].tolist() == [[0, 0, 1, 255]]
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(CannotDecode, match="PIL's mode F, of 8 or 16 bits are needed"):
        decode(tmp_path / "f.tif")


def test_transparency_is_left_out_and_what_lies_below_it_stays(tmp_path):
    """Half of the picture cannot be seen, in a file with alpha as in one whose palette has it."""
    rgba = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    rgba[:10, :, 3] = 0
    clear, grey = Image.fromarray(rgba), Image.fromarray(rgba[..., 0])
    for format in ("PNG", "TIFF"):
        clear.save(tmp_path / "a", format=format)
        assert decode(tmp_path / "a").permute(1, 2, 0).tolist() == rgba[..., :3].tolist()
        clear.convert("LA").save(tmp_path / "a", format=format)
        assert torch.equal(*decode(tmp_path / "a")[:2])
    palette = grey.quantize(16)
    for format, more in (("PNG", {"transparency": 3}), ("PNG", {}), ("TIFF", {}), ("BMP", {})):
        palette.save(tmp_path / "a", format=format, **more)
        theirs = np.asarray(palette.convert("RGB"))
        assert decode(tmp_path / "a").permute(1, 2, 0).tolist() == theirs.tolist()


def test_cmyk_becomes_rgb_and_exif_turns_nothing_but_tiff_files(tmp_path):
    tall = Image.linear_gradient("L").resize((30, 20)).convert("RGB")
    for format in ("JPEG", "TIFF"):
        tall.convert("CMYK").save(tmp_path / "a", format=format)
        theirs = torch.from_numpy(np.array(tall)).permute(2, 0, 1).float()
        assert (decode(tmp_path / "a") - theirs).abs().mean() < 2
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for format, shape in (("JPEG", (3, 20, 30)), ("PNG", (3, 20, 30)), ("TIFF", (3, 30, 20))):
        tall.save(tmp_path / "a", format=format, exif=exif)
        assert decode(tmp_path / "a").shape == shape


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, format):
    path = a_picture(tmp_path / "a", format)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CannotDecode) as error:
        decode(path)
    assert str(error.value) and "\n" not in str(error.value)


def test_what_is_not_taken_is_counted_and_named(images):
    """Twelve of a class's images in a sub-folder, and whatever else people have in folders."""
    cat = images / "train" / "cat"
    for name in ("more", "more/still more"):
        (cat / name).mkdir()
        for i in range(2):
            a_picture(cat / name / f"{i}.jpg", "JPEG")
    a_picture(cat / "new.avif", "PNG")
    a_picture(cat / ".hidden.jpg", "JPEG")
    (cat / "README").touch()
    (cat / "gone.png").symlink_to(images / "nowhere.png")
    (images / "train" / "dog" / "sound.HEIC").touch()
    a_picture(images / "val" / "loose.jpg", "JPEG")
    (images / "val" / ".cache").mkdir()
    (images / "test").mkdir()
    folder.forget()
    assert sorted(map(str, listing(images).left_out)) == [
        "1 broken link (train/cat/gone.png)",
        "1 file beside the class folders (val/loose.jpg)",
        "1 file of suffix .avif (train/cat/new.avif)",
        "1 file of suffix .heic (train/dog/sound.HEIC)",
        "1 file without suffix (train/cat/README)",
        "1 folder beside train/ and val/ (test/)",
        "1 hidden file (train/cat/.hidden.jpg)",
        "1 hidden folder (val/.cache)",
        "4 files in folders inside a class folder (train/cat/more/0.jpg, ...)",
    ]
    known = facts(a_folder(images))
    assert known.train_images == 12
    assert known.left_out == ", ".join(map(str, listing(images).left_out))


def test_a_plan_and_a_page_say_what_is_not_taken(images, write_study, tmp_path):
    (images / "train" / "cat" / "more").mkdir()
    a_picture(images / "train" / "cat" / "more" / "1.jpg", "JPEG")
    folder.forget()
    recipe = TOY_RECIPE.replace(
        "data: {image_size: 30, train_images: 200, validation_images: 100}",
        f"data: {{name: image_folder, folder: '{images}', image_size: 30, validation_images: 2}}",
    ).replace("batch_size: 50", "batch_size: 4")
    study = write_study("recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n", recipe)
    plan = plan_study(study, store=tmp_path / "store")
    left = "1 file in folders inside a class folder (train/cat/more/1.jpg), "
    left += "1 folder beside train/ and val/ (studies/)"
    assert (
        f"note: not taken of {images}: {left}; `mae-ablation data {images}` checks the rest"
    ) in describe_study(plan).splitlines()
    results = results_frame(plan)
    assert describe_data(plan, results).endswith(f"commit none. Not taken: {left}.")
    said = describe_report(ReportDocument(plan, table_frame(plan, results), results), {}, [])
    assert said["not_taken"] == [left]


def test_a_class_of_nothing_but_what_is_not_taken_says_what_is_there(images):
    (images / "train" / "cat" / "all").mkdir()
    for path in (images / "train" / "cat").glob("*.*"):
        path.rename(path.parent / "all" / path.name)
    folder.forget()
    assert message(check_layout, images).endswith(
        "in cat; what is there is not taken: 6 files in folders inside a class folder "
        "(train/cat/all/0.png, ...)"
    )


def test_a_folder_that_is_closed_is_one_line(images, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(folder.os, "scandir", closed)
    assert message(listing, images / "other") == (
        f"{images}/other/train: cannot read the folder: Permission denied"
    )


def test_a_checked_folder_says_what_it_holds(images):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    a_picture(images / "val" / "cat" / "phone.jpg", "JPEG", exif=exif)
    a_picture(images / "val" / "cat" / "tiny.bmp", "BMP", size=(3, 2))
    folder.forget()
    seen = list(examine_images(images, workers=0))
    assert describe_folder(listing(images), seen) == [
        "12 training and 6 validation images of 2 classes",
        "1 image asks in EXIF data to be turned (val/cat/phone.jpg): training takes the "
        "pixels as they are stored, as torchvision's ImageFolder does; `reconstruct` turns them",
        "smallest image: 2 px on the short side (val/cat/tiny.bmp); what is below a recipe's "
        "data.image_size is enlarged",
        "every one of the 18 images taken can be read",
    ]
    theirs = datasets.ImageFolder(str(images / "val"))
    phone = images / "val" / "cat" / "phone.jpg"
    number = [name for name, _ in theirs.imgs].index(str(phone))
    assert torch.equal(decode(phone), TF.pil_to_tensor(theirs[number][0]))


def test_names_that_are_no_utf_8_are_opened_like_any_other(images):
    """A photograph and a bitmap, which two libraries decode, from an old disk."""
    for name, format in (("k\udce4se.jpg", "JPEG"), ("k\udce4se.bmp", "BMP")):
        a_picture(images / "train" / "cat" / name, format)
    folder.forget()
    seen = list(examine_images(images, workers=0))
    assert len(seen) == 18 and not any(each.reason for each in seen)


def test_several_pictures_in_one_file_are_named_by_the_check_and_by_a_training(images):
    """Animations under the name of a photograph, and a scan of two pages."""
    for name, format in (("a.jpg", "GIF"), ("b.webp", "WEBP"), ("c.tif", "TIFF"), ("d.png", "PNG")):
        an_animation(images / "train" / "cat" / name, format)
    folder.forget()
    reasons = {each.name: each.reason for each in examine_images(images, workers=0) if each.reason}
    assert reasons == {
        "train/cat/a.jpg": "holds 2 pictures (an animation or pages), and one is needed",
        "train/cat/b.webp": "Animated webp files are not supported.",
        "train/cat/c.tif": "holds 2 pictures (an animation or pages), and one is needed",
        "train/cat/d.png": "holds 2 pictures (an animation or pages), and one is needed",
    }
    expected = {  # which file is met first is the draw's matter; it comes with its own reason
        f"{images}: cannot decode {name}: {reason}; replace or remove it"
        for name, reason in reasons.items()
    }
    assert message(load_dataset, a_folder(images)) in expected
    streamed = load_dataset(a_folder(images, reading="stream")).train
    for workers in (0, 1):
        assert message(list, plain(streamed, workers=workers)) in expected


@dataclasses.dataclass(frozen=True)
class Clumsy:
    """What is done with every image, with a fault in it."""

    def __call__(self, image, seed):
        raise IndexError("too many\ndimensions")


def test_a_fault_of_ours_in_a_worker_keeps_its_words_and_the_file(images):
    names = listing(images).train.names
    for workers in (0, 1):
        with pytest.raises(RuntimeError) as error:
            list(Reader(FolderImages(str(images), names), Clumsy(), workers).all(4))
        assert one_line(error.value) == (
            f"RuntimeError: {images}/train/cat/0.png: IndexError: too many"
        )

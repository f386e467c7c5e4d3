"""Decoding, the inspection pass and the picture cache."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_prod.catalog import CatalogError, decoding, images, inspection, load_catalog, opencv, preprocessing
from fewshot_prod.catalog.decoding import ImageProblem, open_rgb, pixel_digest, resized
from fewshot_prod.catalog.images import image_array

SIZE = (10, 8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FEWSHOT_PROD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shop(tmp_path) -> Path:
    """Five products; the fourth has no picture."""
    (tmp_path / "shop").mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,title,category"]
    for i in range(5):
        name = "" if i == 3 else f"{i}.png"
        lines.append(f"{name},Thing {i},thing")
        if name:
            pixels = rng.integers(0, 256, (20, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "shop" / name)
    path = tmp_path / "shop" / "shop.csv"
    path.write_text("\n".join(lines))
    return path


def cache_files(cache: Path) -> list[Path]:
    return sorted((cache / "images").glob("*.npy"))


# Decoding -----------------------------------------------------------------------------------------------------------


def test_transparency_is_put_on_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    pixels[0, 1] = (0, 0, 0, 128)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = np.asarray(open_rgb(tmp_path / "a.png"))
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[0, 1].tolist() == [127, 127, 127]
    assert found[1].tolist() == [[255, 255, 255]] * 2


def test_a_transparent_palette_is_put_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "p.png", transparency=0)
    assert np.asarray(open_rgb(tmp_path / "p.png")).tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"), [("L", 90, (90, 90, 90)), ("CMYK", (0, 255, 255, 0), (255, 0, 0))]
)
def test_other_modes_become_rgb(tmp_path, mode, colour, expected):
    Image.new(mode, (8, 8), colour).save(tmp_path / "m.tif")
    assert tuple(np.asarray(open_rgb(tmp_path / "m.tif"))[0, 0]) == expected


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    Image.fromarray(np.array([[0, 32_768, 65_535]], np.uint16)).save(tmp_path / "g.png")
    assert np.asarray(open_rgb(tmp_path / "g.png"))[0, :, 0].tolist() == [0, 128, 255]


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees clockwise to see me upright"
    Image.fromarray(pixels).save(tmp_path / "e.png", exif=exif)
    found = np.asarray(open_rgb(tmp_path / "e.png"))
    assert found.shape == (8, 4, 3)
    assert (found[:4] == 255).all() and (found[4:] == 0).all()  # the left side is now the top


def test_a_size_over_the_limit_is_refused_before_decoding(tmp_path, monkeypatch):
    Image.new("RGB", (20, 30)).save(tmp_path / "b.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 599)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(ImageProblem, match=r"image too large: b\.png is 20x30 pixels.*the limit is 599 pixels"):
        open_rgb(tmp_path / "b.png")


def test_resizing_averages_what_it_shrinks():
    checks = np.kron(np.indices((16, 16)).sum(0) % 2 * 255, np.ones((4, 4))).astype(np.uint8)
    small = resized(Image.fromarray(np.dstack([checks] * 3)), (4, 4))
    assert small.shape == (4, 4, 3)
    assert abs(small.astype(int) - 127).max() < 20  # picking single pixels would give 0 and 255


def test_fits_keep_or_change_the_aspect_ratio():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    image = Image.fromarray(pixels)
    stretched, padded, cropped = (resized(image, (12, 12), fit) for fit in ("stretch", "pad", "crop"))
    near = 12  # bicubic overshoots beside an edge
    assert stretched[:, 6].min() > 200 - near and stretched[:, 1].max() < near
    assert padded[0].min() > 255 - near and padded[-1].min() > 255 - near and 200 - near < padded[6, 6].min() < 255
    assert cropped[:, 3:9].min() > 200 - near
    with pytest.raises(ValueError, match="fit='squeeze' is not one of 'stretch', 'pad', 'crop'"):
        resized(image, (12, 12), "squeeze")


# The cache ----------------------------------------------------------------------------------------------------------


def test_rows_follow_the_catalog_and_missing_pictures_are_zero(shop):
    catalog = load_catalog("table", shop)
    array = image_array(catalog, SIZE)
    assert array.shape == (5, *SIZE, 3) and array.dtype == np.uint8 and not array.flags.writeable
    assert isinstance(array, np.memmap)
    assert (array[3] == 0).all()
    for i in (0, 1, 2, 4):
        np.testing.assert_array_equal(array[i], resized(open_rgb(shop.parent / f"{i}.png"), SIZE))
    some = image_array(catalog.take(np.array([4, 0])), SIZE)
    np.testing.assert_array_equal(some, array[[4, 0]])


def test_a_second_call_decodes_nothing(shop, monkeypatch):
    first = image_array(load_catalog("table", shop), SIZE)
    monkeypatch.setattr(images, "open_rgb", lambda path: pytest.fail("decoded again"))
    monkeypatch.setattr(inspection, "open_rgb", lambda path: pytest.fail("inspected again"))
    np.testing.assert_array_equal(image_array(load_catalog("table", shop), SIZE), first)


def test_the_key_is_content_size_and_fit(shop, cache, tmp_path):
    catalog = load_catalog("table", shop)
    image_array(catalog, SIZE)
    image_array(catalog, (6, 6))
    image_array(catalog, SIZE, fit="pad")
    assert len(cache_files(cache)) == 3
    (shop.parent).rename(tmp_path / "moved")  # the same pictures elsewhere are the same content
    moved = load_catalog("table", tmp_path / "moved" / "shop.csv")
    image_array(moved, SIZE)
    assert len(cache_files(cache)) == 3
    Image.new("RGB", (20, 16), "red").save(tmp_path / "moved" / "0.png")
    changed = image_array(load_catalog("table", tmp_path / "moved" / "shop.csv"), SIZE)
    assert changed[0, 0, 0].tolist() == [255, 0, 0]
    assert len(cache_files(cache)) == 4


def test_a_cache_folder_that_cannot_be_written(shop, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("FEWSHOT_PROD_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="pictures will be checked again next time"):
        catalog = load_catalog("table", shop)
    with pytest.raises(CatalogError, match=r"cannot hold a picture cache.*point FEWSHOT_PROD_CACHE to another folder"):
        image_array(catalog, SIZE)


def test_what_made_a_picture_unreadable_may_pass(shop, monkeypatch):
    def without_memory(path, name=None):
        raise decoding.ImageProblem(f"image unreadable: {name}: too little memory")

    with monkeypatch.context() as patched:
        patched.setattr("fewshot_prod.catalog.inspection.open_rgb", without_memory)
        assert {p.reason.split(": ")[-1] for p in load_catalog("table", shop).problems} == {"too little memory"}
    assert not load_catalog("table", shop).problems


def test_a_picture_replaced_since_loading_is_not_taken_for_the_old_one(shop, cache):
    catalog = load_catalog("table", shop)
    Image.new("RGB", (20, 16), "red").save(shop.parent / "0.png")
    with pytest.raises(CatalogError, match=r"image changed: 0\.png .*load it again"):
        image_array(catalog, SIZE)
    assert not cache_files(cache)


def test_pictures_of_32_bits_are_refused(tmp_path):
    for mode in ("F", "I"):
        Image.new(mode, (4, 4), 1).save(tmp_path / f"{mode}.tiff")
        with pytest.raises(decoding.ImageProblem, match="32 bits a pixel; save it with 8 or 16"):
            open_rgb(tmp_path / f"{mode}.tiff")


def test_many_pictures_keep_their_order_over_windows(monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 3)
    monkeypatch.setattr(decoding, "BLOCKS_AHEAD", 2)
    found = decoding.in_threads(str, range(50), workers=4, progress=False, what="")
    assert list(found) == [str(i) for i in range(50)]


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: b"", lambda data: data[:20]])
def test_a_damaged_cache_is_made_again(shop, cache, damage):
    catalog = load_catalog("table", shop)
    expected = np.array(image_array(catalog, SIZE))
    (path,) = cache_files(cache)
    path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_array_equal(image_array(catalog, SIZE), expected)
    (memory,) = (cache / "inspected").glob("*.parquet")
    memory.write_bytes(damage(memory.read_bytes()))
    assert load_catalog("table", shop).fingerprint == catalog.fingerprint


def test_a_picture_that_changed_since_loading_is_an_error(shop):
    catalog = load_catalog("table", shop)
    (shop.parent / "1.png").write_bytes(b"gone")
    with pytest.raises(CatalogError, match=r"image unreadable: 1\.png.*load it again"):
        image_array(catalog, SIZE)


def _decode_slowly(path: Path, started: Path | None, seconds: float) -> None:
    def slow(file: Path) -> Image.Image:
        if started is not None:
            started.touch()
        time.sleep(seconds)
        return open_rgb(file)

    images.open_rgb = slow
    array = image_array(load_catalog("table", path), SIZE, workers=1)
    assert array.any()


def test_two_processes_make_one_cache(shop, cache):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_decode_slowly, args=(shop, None, 0.03)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(20)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(cache_files(cache)) == 1 and not list(cache.rglob("*.tmp"))
    array = image_array(load_catalog("table", shop), SIZE)
    np.testing.assert_array_equal(array[4], resized(open_rgb(shop.parent / "4.png"), SIZE))


def test_a_process_killed_while_writing_leaves_no_half_cache(shop, cache):
    started = shop.parent / "started"
    victim = multiprocessing.get_context("fork").Process(target=_decode_slowly, args=(shop, started, 5.0))
    victim.start()
    deadline = time.monotonic() + 10
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(5)
    assert cache_files(cache) == []
    array = image_array(load_catalog("table", shop), SIZE)  # would wait for ever on a lock that outlives its holder
    np.testing.assert_array_equal(array[0], resized(open_rgb(shop.parent / "0.png"), SIZE))
    assert not list(cache.rglob("*.tmp"))


def test_equal_pixels_in_two_formats_have_one_digest(tmp_path):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.bmp")
    found = inspection.inspect_images(tmp_path, ["a.png", "a.bmp", None])
    assert found[0].digest == found[1].digest == pixel_digest(image) and found[2] is None
    assert pixel_digest(image) != pixel_digest(image.transpose(Image.Transpose.ROTATE_90))


def test_rendered_catalogs_need_no_cache(shop, cache):
    from dataclasses import replace

    catalog = load_catalog("table", shop)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 8, 3), np.uint8)
    frame = catalog.frame.assign(image=np.array([0, 1, 2, None, 3], dtype=object))
    rendered = replace(catalog, frame=frame, pixels=pixels)
    array = image_array(rendered, (12, 8))
    np.testing.assert_array_equal(array, [*pixels[:3], np.zeros((12, 8, 3)), pixels[3]])
    assert not array.flags.writeable and image_array(rendered, (6, 4)).shape == (5, 6, 4, 3)
    whole = rendered.take(np.array([0, 1, 2, 4]))
    assert np.shares_memory(image_array(whole, (12, 8)), pixels)
    assert not (cache / "images").exists()


# OpenCV and preprocessing -------------------------------------------------------------------------------------------

with_opencv = pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV (extra 'opencv') is not installed")


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise, as photos have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8)


@with_opencv
@pytest.mark.parametrize("orientation", range(1, 9))
def test_opencv_decodes_jpeg_files_to_equal_pixels(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for mode, quality in (("RGB", 90), ("L", 40)):
        path = tmp_path / f"{mode}.jpg"
        Image.fromarray(photo(45, 62)).convert(mode).save(path, quality=quality, exif=exif)
        np.testing.assert_array_equal(opencv.decode(path), np.asarray(open_rgb(path)))
        assert opencv.decode(path).shape[:2] == ((45, 62) if orientation < 5 else (62, 45))


@with_opencv
def test_opencv_leaves_other_files_to_pillow(tmp_path, monkeypatch):
    transparent = np.dstack([photo(8, 9), np.full((8, 9), 100, np.uint8)])
    Image.fromarray(transparent).save(tmp_path / "a.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    for name in ("a.png", "c.jpg"):
        np.testing.assert_array_equal(opencv.decode(tmp_path / name), np.asarray(open_rgb(tmp_path / name)))
    Image.fromarray(photo(60, 60)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ImageProblem, match=r"image truncated: half\.jpg"):
        opencv.decode(tmp_path / "half.jpg")
    with pytest.raises(ImageProblem, match=r"image unreadable: text\.jpg"):
        opencv.decode(tmp_path / "text.jpg")
    monkeypatch.setattr(opencv, "MAX_PIXELS", 3599)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 3599)
    with pytest.raises(ImageProblem, match=r"image too large: whole\.jpg"):
        opencv.decode(tmp_path / "whole.jpg")


@with_opencv
@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("size", [(24, 24), (30, 20), (90, 140)])
def test_opencv_resizes_within_the_stated_tolerance(tmp_path, fit, size):
    """Once decoded at a quarter of its sides, once shrunk, once grown."""
    for i, (height, width) in enumerate([(400, 330), (60, 80)]):
        path = tmp_path / f"{i}.jpg"
        Image.fromarray(photo(height, width, seed=i)).save(path, quality=90)
        ours, pillow = opencv.fitted(opencv.decode(path, size), size, fit), resized(open_rgb(path), size, fit)
        gap = np.abs(ours.astype(int) - pillow)
        assert ours.shape == pillow.shape and gap.mean() < (5 if fit == "crop" else 2)
        assert fit == "crop" or np.percentile(gap, 99) <= 12
    assert opencv.decode(tmp_path / "0.jpg", (24, 24)).shape == (100, 83, 3)


@with_opencv
def test_the_cache_keeps_back_ends_and_steps_apart(shop, cache):
    catalog = load_catalog("table", shop)
    plain = image_array(catalog, SIZE)
    (first,) = cache_files(cache)
    grey, by_opencv = image_array(catalog, SIZE, steps=("greyscale",)), image_array(catalog, SIZE, backend="opencv")
    assert len(cache_files(cache)) == 3 and first in cache_files(cache)
    assert (grey[..., 0] == grey[..., 2]).all() and (plain[..., 0] != plain[..., 2]).any()
    assert (by_opencv[3] == 0).all() and (by_opencv != plain).any()
    np.testing.assert_array_equal(by_opencv[0], opencv.fitted(np.asarray(open_rgb(shop.parent / "0.png")), SIZE))
    both = image_array(catalog, SIZE, steps=("crop_white", "greyscale"), backend="opencv")
    assert (both[0][..., 0] == both[0][..., 1]).all()


def test_what_image_array_refuses(shop, monkeypatch):
    catalog = load_catalog("table", shop)
    with pytest.raises(ValueError, match="backend='cv' is not one of 'pillow', 'opencv'"):
        image_array(catalog, SIZE, backend="cv")
    with pytest.raises(
        ValueError, match="preprocessing step 'sharpen' is not one of crop_white, greyscale, grey_light"
    ):
        image_array(catalog, SIZE, steps=("greyscale", "sharpen"))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"needs the package 'opencv-python-headless'.*fewshot_prod\[opencv\]"):
        image_array(catalog, SIZE, backend="opencv")


def test_drawn_catalogs_are_preprocessed_too():
    catalog = load_catalog("synthetic", products_per_category=5, image_size=16)
    grey = image_array(catalog, (16, 16), steps=("greyscale",))
    np.testing.assert_array_equal(grey[7], preprocessing.greyscale(catalog.pixels[7]))


def test_white_margins_are_cut_off():
    pixels = np.full((20, 30, 3), 250, np.uint8)
    pixels[4:9, 6:28] = photo(5, 22) // 2
    np.testing.assert_array_equal(preprocessing.crop_white(pixels), pixels[4:9, 6:28])
    pixels[15, 2] = (255, 255, 239)  # one faint pixel belongs to the product
    assert preprocessing.crop_white(pixels).shape == (12, 26, 3)
    blank = np.full((4, 5, 3), 241, np.uint8)
    assert preprocessing.crop_white(blank) is blank


def test_greyscale_is_pillows():
    pixels = photo(40, 30)
    np.testing.assert_array_equal(
        preprocessing.greyscale(pixels)[..., 1], np.asarray(Image.fromarray(pixels).convert("L"))
    )


def test_colour_constancy_takes_the_light_out():
    """Under light of another colour the same thing looks the same again, up to rounding; and by the definition."""
    pixels = photo(40, 30) // 2 + 20
    reddish = (pixels * np.array([1.3, 1.0, 0.7])).round().astype(np.uint8)
    gap = np.abs(preprocessing.grey_light(reddish).astype(int) - preprocessing.grey_light(pixels)).mean()
    assert gap < 1 and np.abs(reddish.astype(int) - pixels).mean() > 15
    out = preprocessing.grey_light(reddish) / 255
    norms = (out**6).mean((0, 1)) ** (1 / 6)
    assert np.ptp(norms) < 0.005
    red = np.zeros((3, 3, 3), np.uint8)
    red[..., 0] = 9
    np.testing.assert_array_equal(preprocessing.grey_light(red), red)

"""Faults 1 to 12, 30 to 32, 45 and 54: files and indexes."""

import bz2
import gzip
import os
import random
import shutil
import socket
import zlib
from pathlib import Path

import pytest
from astropy.io import fits

from cubeflow.dl3 import files
from cubeflow.dl3.files import FileRefused, read_content
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.observation import RunRefused

pytestmark = pytest.mark.faults
GOOD, BAD = 100001, 100002


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.9, 0.999])
def test_fault_01_truncated_gz(bench, rejects, fraction):
    packed = bench.file().read_bytes()
    bench.file().write_bytes(packed[: int(fraction * len(packed))])
    rejects("file: truncated gzip file")


def test_fault_02_flipped_bits(bench, rejects):
    """Three bits end to end; 200 below on the bytes alone, 200 on a real file."""
    packed, rng = bench.file().read_bytes(), random.Random(2)
    for _ in range(3):
        bench.file().write_bytes(flip(packed, rng))
        rejects("file")
        shutil.rmtree(bench.results)


def test_fault_02_flipped_bits_of_a_bzip2_file(bench, rejects):
    content = bytearray(bz2.compress(gzip.decompress(bench.file().read_bytes())))
    content[len(content) // 2] ^= 1
    bench.file().write_bytes(content)
    rejects("file")


def flip(packed: bytes, rng: random.Random) -> bytes:
    """One flipped bit behind the gzip header, whose name and time mean nothing."""
    content = bytearray(packed)
    content[rng.randrange(10, len(packed))] ^= 1 << rng.randrange(8)
    return bytes(content)


def test_fault_02_two_hundred_flipped_bits(bench, tmp_path):
    packed, path = bench.file().read_bytes(), tmp_path / "run.fits.gz"
    for seed in range(200):
        path.write_bytes(flip(packed, random.Random(seed)))
        with pytest.raises(FileRefused, match=r"run.fits.gz"):
            read_content(path)


@pytest.mark.real_data
def test_fault_02_two_hundred_flipped_bits_and_twenty_cuts_of_a_real_file(hess_store, tmp_path):
    """None accepted, at any level: the bytes, the list of runs, and the run itself."""
    source = next(iter(sorted((hess_store / "data").glob("*023523*.fits.gz"))))
    packed, path, rng = source.read_bytes(), tmp_path / "run.fits.gz", random.Random(23523)
    start = 10 + (packed.index(b"\0", 10) - 9 if packed[3] & 8 else 0)  # behind the file name in the gzip header
    entry = open_store(source).runs[0]
    entry = type(entry)(entry.obs_id, tuple(ref._replace(path=path) for ref in entry.hdus))
    damaged = [packed[: rng.randrange(1, len(packed))] for _ in range(20)]
    for _ in range(200):
        content = bytearray(packed)
        content[rng.randrange(start, len(packed))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(content))
    accepted = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            read_content(path)
            accepted += 1
        except FileRefused:
            pass
    assert (len(damaged), accepted) == (220, 0)
    with pytest.raises(Exception, match=r"run 23523: .*run.fits.gz"):
        read_observation(entry)


@pytest.mark.parametrize("kept", [2, 6])
def test_fault_03_cut_at_an_hdu_boundary(bench, rejects, kept):
    """A plain FITS file that ends after a whole HDU is valid FITS: only the index knows that more was there."""
    plain = bench.content()
    with fits.open(bench.file()) as hdus:
        end = hdus[kept].fileinfo()["hdrLoc"]
    path = bench.store / "obs_100002.fits"
    path.write_bytes(plain[:end])
    bench.index_rows(FILE_NAME=path.name)
    rejects("file: no HDU")


def test_fault_03_cut_at_an_hdu_boundary_without_index(bench, rejects):
    plain = bench.content()
    with fits.open(bench.file()) as hdus:
        end = hdus["BACKGROUND"].fileinfo()["hdrLoc"]
    for name in ("hdu-index", "obs-index"):
        (bench.store / f"{name}.fits.gz").unlink()
    bench.put(plain[:end])
    rejects("no HDU of type bkg")


@pytest.mark.parametrize("checksum", ["DATASUM", "CHECKSUM"])
def test_fault_04_checksum_disagrees(bench, rejects, checksum):
    def change(hdus):
        hdus["GTI"].header["EXTNAME"] = "GTI"

    bench.edit(change, checksum=True)
    content = bytearray(bench.content())
    with fits.open(bench.file()) as hdus:
        info = hdus["EFFECTIVE AREA"].fileinfo()
    position = info["datLoc"] + 130 if checksum == "DATASUM" else content.index(b"HDUVERS", info["hdrLoc"]) + 13
    content[position] ^= 1
    bench.put(bytes(content))
    rejects("EFFECTIVE AREA", checksum)


def test_fault_04_md5_of_the_index_disagrees(bench, rejects):
    bench.index(lambda rows: [{**row, "MD5": "0" * 32 if row["OBS_ID"] == BAD else " " * 32} for row in rows])
    rejects("file: its MD5 is not 0000", "as the index has it")


def test_fault_05_indexed_file_missing(bench, rejects):
    bench.file().unlink()
    rejects(str(bench.file()), "No such file")


def test_fault_05_indexed_file_vanishes_after_the_plan(bench, rejects):
    """The batch fails, naming the file, with the other run done; the next plan refuses the run."""
    assert bench.plan()[0] == 0
    bench.file().unlink()
    status, text = bench.reduce()
    assert status == 1
    assert str(bench.file()) in text
    assert bench.artifact(GOOD).exists()
    rejects("obs_100002.fits.gz", "No such file")


def test_fault_06_wrong_hdu_name(bench, rejects):
    bench.index_rows(hdu_type="aeff", HDU_NAME="AEFF_OLD")
    rejects("file: no HDU 'AEFF_OLD', only", "EFFECTIVE AREA")
    entry = open_store(bench.store).runs[1]
    with pytest.raises(RunRefused, match=r"obs_100002.fits.gz: no HDU 'AEFF_OLD' \(row 8 of the index\)"):
        read_observation(entry)


def test_fault_07_hdu_type_cut_short(bench, accepts):
    """`rad_ma` of V2DL3 stands for rad_max."""
    rows = []
    bench.index(lambda found: rows.extend(found))
    extra = {**rows[2], "HDU_TYPE": "rad_ma", "HDU_CLASS": "rad_max_2d", "HDU_NAME": "RAD_MAX", "OBS_ID": BAD}
    extra["FILE_NAME"] = bench.file().name
    bench.edit(lambda hdus: hdus.append(rad_max_table(hdus["EFFECTIVE AREA"])))
    bench.index(lambda found: [*found, extra])
    accepts(quirks=["index-hdu-type-cut"])


def rad_max_table(aeff: fits.BinTableHDU) -> fits.BinTableHDU:
    names = ("ENERG_LO", "ENERG_HI", "THETA_LO", "THETA_HI")
    columns = [aeff.columns[name] for name in names]
    radius = fits.Column("RAD_MAX", "24E", unit="deg", dim="(8,3)", array=0.0 * aeff.data["EFFAREA"] + 0.1)
    table = fits.BinTableHDU.from_columns([*columns, radius], name="RAD_MAX")
    table.header.update({"HDUCLAS1": "RESPONSE", "HDUCLAS2": "RAD_MAX", "HDUCLAS4": "RAD_MAX_2D"})
    return table


@pytest.mark.parametrize(
    ("missing", "possible"),
    [
        ("events", "nothing"),
        ("gti", "nothing"),
        ("aeff", "counts, acceptance"),
        ("edisp", "counts, exposure, acceptance, psf"),
        ("psf", "counts, exposure, acceptance, edisp"),
        ("bkg", "counts, exposure, psf, edisp"),
    ],
)
def test_fault_08_missing_hdu_says_what_would_work(bench, rejects, missing, possible):
    bench.index(lambda rows: [row for row in rows if (row["OBS_ID"], row["HDU_TYPE"]) != (BAD, missing)])
    rejects(f"no HDU of type {missing}", f"without it could be made: {possible}")


def test_fault_11_same_run_twice_with_the_same_content(bench, accepts):
    shutil.copy(bench.file(), bench.store / "copy.fits.gz")
    bench.index(lambda rows: [*rows, *({**row, "FILE_NAME": "copy.fits.gz"} for row in rows if row["OBS_ID"] == BAD)])
    accepts(quirks=["index-rows-repeated"])


def test_fault_11_same_run_twice_with_other_content(bench, rejects):
    shutil.copy(bench.file(GOOD), bench.store / "copy.fits.gz")
    bench.index(lambda rows: [*rows, *({**row, "FILE_NAME": "copy.fits.gz"} for row in rows if row["OBS_ID"] == BAD)])
    rejects("two HDUs events, rows 6 and 12", "differ")


def test_fault_12_one_file_under_two_runs(bench, undisturbed):
    bench.index_rows(FILE_NAME=bench.file(GOOD).name)
    outcome = bench.run()
    assert outcome.status == 0
    assert outcome.rows[GOOD]["status"] == "ok"
    assert "already used by run 100001" in outcome.rows[BAD]["reason"]
    assert bench.artifact(GOOD).read_bytes() == undisturbed.artifact(GOOD).read_bytes()


@pytest.mark.parametrize(
    ("file_dir", "file_name", "words"),
    [
        ("../../../../../../etc", "passwd", "to allow it, add to the configuration"),
        ("/etc", "passwd", "to allow it, add to the configuration"),
        (".", "../../../../../../../etc/passwd", "to allow it, add to the configuration"),
        ("link", "passwd", "to allow it, add to the configuration"),
        (".", "link-to-file", "to allow it, add to the configuration"),
        ("loop", "x.fits", "loop"),
        (".", "loop", "loop"),
        (".", "a\0b.fits", "no name of a file"),
        (".", "a\nb.fits", "no name of a file"),
        (".", "", "no name of a file"),
        (".", b"\xe4.fits", "no name of a file"),
        (".", "-rf", "No such file"),
        (".", "$(touch owned).fits", "No such file"),
    ],
)
def test_fault_30_paths(bench, rejects, file_dir, file_name, words):
    (bench.store / "link").symlink_to("/etc")
    (bench.store / "link-to-file").symlink_to("/etc/passwd")
    (bench.store / "loop").symlink_to("loop")
    bench.index_rows(FILE_DIR=file_dir, FILE_NAME=file_name)
    reason = rejects().rows[BAD]["reason"]
    assert words in reason or (words == "loop" and "symbolic links" in reason)
    assert not (bench.folder / "owned").exists()


@pytest.mark.parametrize(
    "name", ["-rf", "with blank.fits", "[1].fits", "{x}.fits", "{{x}}", "ä.fits", "a'b\"c.fits", "*"]
)
def test_fault_30_odd_names_are_just_names(bench, accepts, name):
    bench.file().rename(bench.store / name)
    bench.index_rows(FILE_NAME=name.encode())
    accepts()


def test_fault_30_folder_outside_that_is_allowed(bench, accepts):
    outside = bench.folder / "elsewhere"
    outside.mkdir()
    bench.file().rename(outside / bench.file().name)
    bench.index_rows(FILE_DIR="../elsewhere")
    status, text = bench.plan()
    assert status == 0
    line = text[text.index("data: {roots:") :].splitlines()[0]
    assert str(bench.folder) in line
    bench.set("data.roots", [str(outside)])
    accepts()


@pytest.mark.parametrize("kind", ["device", "FIFO", "folder", "socket"])
def test_fault_31_no_regular_file(bench, rejects, kind):
    bench.file().unlink()
    if kind == "device":
        os.mknod(bench.file(), 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero: without end
    elif kind == "FIFO":
        os.mkfifo(bench.file())
    elif kind == "folder":
        bench.file().mkdir()
    else:
        server = socket.socket(socket.AF_UNIX)
        folder = os.open(bench.store, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/{bench.file().name}")
        os.close(folder)
        server.close()
    rejects("expected a regular file")


def test_fault_31_fifo_instead_of_the_index(bench):
    (bench.store / "hdu-index.fits.gz").unlink()
    os.mkfifo(bench.store / "hdu-index.fits.gz")
    outcome = bench.run()
    assert outcome.status == 2
    assert "expected a regular file, got a FIFO" in outcome.text


def test_fault_32_gzip_bomb(bench, rejects, monkeypatch):
    """Four gigabytes of zeros in four megabytes: refused after the first gigabyte, the rest never unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block, parts = bytes(1 << 24), []
    for _ in range(8):
        parts.append(packer.compress(block))
    bench.file().write_bytes(b"".join([*parts, packer.flush()]))
    monkeypatch.setattr(files, "MAX_CONTENT_BYTES", 1 << 26)
    rejects("more than 67108864 bytes after decompression")


def test_fault_32_declared_size(bench, rejects):
    """NAXIS2 = 10^12 is a number in a header: nothing is allocated for it."""
    content = bench.content()
    position = content.index(b"NAXIS2  =")
    bench.put(content[:position] + b"NAXIS2  =        1000000000000".ljust(80) + content[position + 80 :])
    rejects("truncated in HDU 1", "bytes declared")


def test_fault_45_input_that_goes_on_changing(bench, rejects, monkeypatch):
    """Every read meets another time of change: one retry, then the run is refused."""
    reads = touching(bench, monkeypatch, times=99)
    assert bench.plan()[0] == 0
    assert len(reads) == 2
    rejects("obs_100002.fits.gz", "changed while it was read, twice")


def test_fault_45_input_that_changes_once_while_it_is_read(bench, accepts, monkeypatch):
    reads = touching(bench, monkeypatch, times=1)
    accepts()
    assert len(reads) >= 3  # twice by the plan, then by the reduction


def test_fault_45_input_that_changes_after_the_plan(bench, accepts):
    """What is read is not what the key stands for: nothing is kept of it, and the next start plans with it."""
    assert bench.plan()[0] == 0
    bench.header("EVENTS", RA_OBJ=12.5)
    status, text = bench.reduce()
    assert status == 1
    assert str(bench.file()) in text
    assert "changed" in text
    assert bench.artifact(GOOD).exists()
    assert not bench.artifact(BAD).exists()
    assert accepts()["ra_object"] == "12.5"


def touching(bench, monkeypatch, times):
    """Let the file of the bad run change while it is read."""
    looks, reads, fstat = [], [], os.fstat

    def changing(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink() == bench.file():
            looks.append(descriptor)
            if len(looks) % 3 == 0:  # of three looks at the file, the one after reading it
                reads.append(descriptor)
                if len(reads) <= times:
                    os.utime(descriptor, ns=(len(reads), len(reads)))
        return fstat(descriptor)

    monkeypatch.setattr(files.os, "fstat", changing)
    return reads

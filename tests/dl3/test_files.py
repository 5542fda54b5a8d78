"""Opening: only whole, regular files of a sane size."""

import bz2
import gzip
import hashlib
import os
import random
import time
import zlib

import pytest

from cubeflow.dl3 import files
from cubeflow.dl3.files import FileRefused, InputChanged, begins_with, content_bytes, digest_file, read_content
from cubeflow.errors import FailedError

CONTENT = bytes(range(256)) * 500


def test_plain_and_gzip_give_the_same_whatever_the_name_says(tmp_path):
    plain, packed = tmp_path / "a.fits.gz", tmp_path / "b.fits"
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT))
    assert read_content(plain) == read_content(packed) == CONTENT


def test_gzip_of_several_members_and_padding(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:]) + b"\0" * 512)
    assert read_content(path) == CONTENT


@pytest.mark.parametrize("fraction", [0.0001, 0.05, 0.5, 0.9, 0.999])
def test_truncated_gzip(tmp_path, fraction):
    packed = gzip.compress(random.Random(1).randbytes(20000))
    path = tmp_path / "a.gz"
    path.write_bytes(packed[: max(2, int(fraction * len(packed)))])
    with pytest.raises(FileRefused, match="truncated gzip file"):
        read_content(path)


def test_bit_flips_are_refused_or_change_nothing(tmp_path):
    packed = gzip.compress(CONTENT, mtime=0)
    path = tmp_path / "a.gz"
    rng = random.Random(2)
    for _ in range(200):
        damaged = bytearray(packed)
        damaged[rng.randrange(10, len(packed))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(FileRefused, match=str(path)):
            read_content(path)


def test_garbage_after_gzip(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT) + b"garbage")
    with pytest.raises(FileRefused, match="truncated gzip file"):
        read_content(path)


def test_rare_headers_of_gzip(tmp_path):
    """A checksum of the header is held against it; flags that the format has reserved say that more has changed."""
    packed, path = gzip.compress(CONTENT, mtime=0), tmp_path / "a.gz"
    head = bytes([*packed[:3], 2, *packed[4:10]])
    checksum = (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    path.write_bytes(head + checksum + packed[10:])
    assert read_content(path) == CONTENT
    path.write_bytes(head + bytes([checksum[0] ^ 1, checksum[1]]) + packed[10:])
    with pytest.raises(FileRefused, match="damaged gzip file"):
        read_content(path)
    for flag in (0x20, 0x40, 0x80):
        path.write_bytes(bytes([*packed[:3], flag]) + packed[4:])
        with pytest.raises(FileRefused, match=f"damaged gzip file .flags {flag:#04x} in its header"):
            read_content(path)


def test_gzip_bomb_is_refused_by_the_cap(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_CONTENT_BYTES", 50_000_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path = tmp_path / "bomb.gz"
    path.write_bytes(b"".join(packer.compress(bytes(2**22)) for _ in range(25)) + packer.flush())
    assert path.stat().st_size < 2**18
    with pytest.raises(FileRefused, match="more than 50000000 bytes after decompression"):
        read_content(path)


@pytest.mark.parametrize(("kind", "match"), [("folder", "a folder"), ("fifo", "a FIFO"), ("device", "a device")])
def test_not_a_regular_file(tmp_path, kind, match):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    start = time.monotonic()
    with pytest.raises(FileRefused, match=match):
        read_content(path)
    assert time.monotonic() - start < 1


def test_missing_looping_and_unnameable_files(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, match in ((tmp_path / "no", "No such file"), (loop, "symbolic links"), (tmp_path / "a\0b", "null byte")):
        with pytest.raises(FileRefused, match=match):
            read_content(path)


def test_md5(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    assert read_content(path, md5=hashlib.md5(CONTENT).hexdigest().upper()) == CONTENT
    with pytest.raises(FileRefused, match="its MD5 is not 0123"):
        read_content(path, md5="0123")


def test_changing_file_is_read_once_more(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    real, calls = os.fstat, []

    def growing(descriptor):
        calls.append(descriptor)
        if len(calls) in changing:
            with path.open("ab") as stream:
                stream.write(b"x")
        return real(descriptor)

    monkeypatch.setattr("cubeflow.dl3.files.os.fstat", growing)
    changing = {3}  # of three looks at the file, the one after reading it
    assert read_content(path) == CONTENT + b"x"
    calls.clear()
    changing = {3, 6}
    with pytest.raises(FileRefused, match="changed while it was read, twice"):
        read_content(path)


def test_digest_is_that_of_the_bytes_on_the_disk(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT))
    assert digest_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_content(path, sha256=digest_file(path)) == CONTENT
    with pytest.raises(InputChanged, match=r"a.gz: changed since the plan was made; start again"):
        read_content(path, sha256=hashlib.sha256(CONTENT).hexdigest())
    path.write_bytes(b"")
    assert digest_file(path) == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("kind", ["folder", "fifo", "missing"])
def test_no_digest_of_what_is_no_regular_file(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(FileRefused, match=r"x: (expected a regular file|No such file)"):
        digest_file(path)


def test_disk_that_does_not_answer(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    monkeypatch.setattr("cubeflow.dl3.files.READ_LIMIT_S", 0.05)
    monkeypatch.setattr("cubeflow.dl3.files._read_regular", lambda *_: time.sleep(0.5))
    for read in (read_content, digest_file):
        with pytest.raises(FileRefused, match=r"a: not read within 0.05 s: the disk does not answer"):
            read(path)


def test_bzip2_of_several_streams(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bz2.compress(CONTENT[:1000]) + bz2.compress(CONTENT[1000:]))
    assert read_content(path) == CONTENT


def test_damaged_and_too_large_bzip2(tmp_path, monkeypatch):
    path, packed = tmp_path / "a", bz2.compress(CONTENT)
    for damaged, word in ((packed[:-3], "truncated"), (packed[:30] + b"\0\0" + packed[32:], "damaged")):
        path.write_bytes(damaged)
        with pytest.raises(FileRefused, match=f"{word} bzip2 file"):
            read_content(path)
    path.write_bytes(packed)
    monkeypatch.setattr(files, "MAX_CONTENT_BYTES", len(CONTENT) - 1)
    with pytest.raises(FileRefused, match="bytes after decompression"):
        read_content(path)


def test_how_a_file_begins(tmp_path):
    path = tmp_path / "a"
    for content in (CONTENT, gzip.compress(CONTENT), gzip.compress(CONTENT)[:100]):
        path.write_bytes(content)
        assert begins_with(path, CONTENT[:9])
        assert not begins_with(path, CONTENT[1:9])
    for content in (b"", b"\x1f\x8b", b"\x1f\x8bnonsense"):
        path.write_bytes(content)
        assert not begins_with(path, CONTENT[:9])


def test_size_when_decompressed(tmp_path):
    path = tmp_path / "a"
    for content, size in ((CONTENT, len(CONTENT)), (gzip.compress(CONTENT), len(CONTENT)), (b"", 0), (b"xy", 2)):
        path.write_bytes(content)
        assert content_bytes(path) == size
    packed = bz2.compress(CONTENT)
    path.write_bytes(packed)
    assert content_bytes(path) == 5 * len(packed)
    path.write_bytes(gzip.compress(bytes(10**7)))  # a thousandth of it
    assert content_bytes(path) == 10**7
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileRefused, match="a FIFO"):
        content_bytes(path)


@pytest.mark.parametrize("end", [b"\xff\xff\xff\x7f", b"\0\0\0\x10", b"\0\0\1\0"])
def test_size_of_a_gzip_file_that_is_cut_is_no_more_than_events_give(tmp_path, end):
    """Of 2 GiB, 256 MiB and 64 kiB that the last bytes tell of, the last may be; no more is taken for true."""
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(random.Random(1).randbytes(20_000))[:9996] + end)
    if (told := int.from_bytes(end, "little")) <= 16 * 10_000:
        assert content_bytes(path) == told
    else:
        with pytest.raises(FileRefused, match=r"a: (truncated|damaged) gzip file"):
            content_bytes(path)


def test_no_thread_allowed_is_told_of_the_machine_and_not_of_the_file(tmp_path, monkeypatch):
    """A limit on processes (``ulimit -u``, ``pids.max`` of a container) says nothing about a run."""
    path = tmp_path / "a.fits"
    path.write_bytes(b"content")

    def start(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", start)
        for read in (digest_file, read_content):
            with pytest.raises(FailedError, match=r"a\.fits: can't start new thread: .* `ulimit -u` or pids\.max"):
                read(path)
    assert read_content(path) == b"content"

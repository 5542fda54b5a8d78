"""The block structure: every byte accounted for, digests of content alone."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.dl3.blocks import check_sums, digest_hdus, read_hdus, scan_hdus
from cubeflow.dl3.files import FileRefused

HERE = Path("x.fits")


@pytest.fixture(scope="module")
def content(stores) -> bytes:
    return stores.to_bytes(stores.make_run(7), checksum=True)


def test_spans_are_those_of_astropy(content):
    hdus = scan_hdus(content, HERE)
    with fits.open(__import__("io").BytesIO(content)) as expected:
        assert len(hdus) == len(expected) == 7
        for hdu, other in zip(hdus, expected, strict=True):
            info = other.fileinfo()
            start = content.index(hdu.cards)
            assert (start, len(hdu.header_bytes)) == (info["hdrLoc"], info["datLoc"] - info["hdrLoc"])
            assert len(hdu.data_bytes) == info["datSpan"]
            assert hdu.name == other.name
            for key, value in other.header.items():
                assert hdu.header[key] == value


def test_image_size():
    image = fits.HDUList([fits.PrimaryHDU(np.zeros((3, 5, 7), dtype=np.int16))])
    stream = __import__("io").BytesIO()
    image.writeto(stream)
    assert scan_hdus(stream.getvalue(), HERE)[0].data_size == 210


@pytest.mark.parametrize("cut", [0, 10, 2000, 2879, 2881, 5000])
def test_truncation_inside_a_header(content, cut):
    with pytest.raises(FileRefused, match=r"truncated|no FITS file"):
        scan_hdus(content[:cut], HERE)


def test_truncation_anywhere_is_seen_but_at_an_hdu_border(content):
    borders = np.cumsum([0, *(len(h.header_bytes) + len(h.data_bytes) for h in scan_hdus(content, HERE))])
    for cut in range(0, len(content), 977):
        if cut not in borders:
            with pytest.raises(FileRefused, match=r"x.fits"):
                scan_hdus(content[:cut], HERE)


def test_padding_with_nul_is_no_hdu_but_garbage_is_refused(content):
    assert len(scan_hdus(content + b"\0" * 5760, HERE)) == 7
    with pytest.raises(FileRefused, match=r"no END|expected XTENSION"):
        scan_hdus(content + b"garbage" * 500, HERE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NAXIS2  =                   40", b"NAXIS2  =        1000000000000"),
        (b"NAXIS2  =                   40", b"NAXIS2  =                  -40"),
        (b"NAXIS2  =                   40", b"NAXIS2  =                 'ab'"),
        (b"BITPIX  =                    8", b"BITPIX  =                    7"),
        (b"PCOUNT  =                    0", b"PCOUNT  =                  1.5"),
    ],
)
def test_absurd_sizes(content, old, new):
    assert old in content
    with pytest.raises(FileRefused, match=r"x.fits: (HDU|truncated)"):
        scan_hdus(content.replace(old, new), HERE)


def test_checksums(content):
    for hdu in scan_hdus(content, HERE):
        check_sums(hdu)
    events = scan_hdus(content, HERE)[1]
    position = content.index(bytes(events.data_bytes[:200]))
    damaged = content[: position + 5] + bytes([content[position + 5] ^ 4]) + content[position + 6 :]
    with pytest.raises(FileRefused, match=r"x.fits\[EVENTS\]: DATASUM"):
        check_sums(scan_hdus(damaged, HERE)[1])
    with pytest.raises(FileRefused, match=r"x.fits\[EVENTS\]: CHECKSUM"):
        check_sums(scan_hdus(content.replace(b"83.6 ", b"84.6 "), HERE)[1])


def test_digest_ignores_compression_checksums_dates_and_other_hdus(stores, tmp_path):
    run = stores.make_run(7)
    paths = [tmp_path / name for name in ("a.fits", "b.fits.gz", "c.fits", "d.fits")]
    paths[0].write_bytes(stores.to_bytes(run))
    paths[1].write_bytes(gzip.compress(stores.to_bytes(run), 9))
    paths[2].write_bytes(stores.to_bytes(run, checksum=True))
    run["events"].header["DATE"] = "2026-01-01"
    run["gti"].columns["STOP"] = (run["gti"].columns["STOP"][0] + 1, "s")
    paths[3].write_bytes(stores.to_bytes(run))
    plain, packed, summed, other = (digest_hdus(path) for path in paths)
    assert plain == packed == summed
    assert [a.name for a, b in zip(plain, other, strict=True) if a != b] == ["GTI"]
    assert plain[3].classes == ("GADF", "RESPONSE", "EFF_AREA", "FULL-ENCLOSURE", "AEFF_2D")


def test_digest_sees_header_and_data(stores, tmp_path):
    run = stores.make_run(7)
    path = tmp_path / "a.fits"
    path.write_bytes(stores.to_bytes(run))
    before = digest_hdus(path)[1].sha256
    run["events"].header["DEADC"] = 0.8
    path.write_bytes(stores.to_bytes(run))
    assert digest_hdus(path)[1].sha256 != before


def test_not_fits(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("<html>not found</html>")
    with pytest.raises(FileRefused, match=r"a.fits: no FITS file: expected it to begin with 'SIMPLE"):
        read_hdus(path)


def test_digest_does_not_import_astropy():
    code = "import sys, cubeflow.dl3.blocks, cubeflow.dl3.index; assert 'astropy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

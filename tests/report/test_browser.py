"""The page in a real browser."""

import itertools
import re
from pathlib import Path

import pytest
from astropy.coordinates import SkyCoord

from cubeflow.maps import make_geometry

ROWS = "all('.runs tbody tr').map(row => [...row.children].map(cell => cell.textContent))"
SAID = "document.querySelector('.runs [role=status]').textContent"
CONTRAST = Path(__file__).with_name("contrast.js").read_text()


def set_filter(browser, text: str) -> None:
    browser.run(
        "(() => { const box = document.querySelector('.runs input[type=search]'); "
        f"box.value = {text!r}; box.dispatchEvent(new Event('input')); }})()"
    )


def column(browser, name: str) -> list[str]:
    titles = browser.run("all('.runs thead button').map(each => each.title)")
    index = next(index for index, each in enumerate(titles) if each.startswith(f"{name}:"))
    return [row[index] for row in browser.run(ROWS)]


@pytest.fixture
def opened(browser, page_path):
    browser.open(page_path.as_uri())
    return browser


def test_nothing_is_wrong_and_nothing_leaves_the_machine(opened, page_path):
    assert opened.complaints() == []
    outside = [url for url in opened.requests() if not url.startswith(("data:", page_path.as_uri()))]
    assert outside == []
    assert (
        opened.run("performance.getEntriesByType('resource').filter(each => !each.name.startsWith('data:')).length")
        == 0
    )


def test_text_of_files_is_text(opened):
    assert opened.run("window.stolen === undefined")
    assert opened.run("document.images.length") == 0
    opened.run("all('.columns label').find(each => each.textContent == 'object').click()")
    set_filter(opened, "onerror")
    assert column(opened, "object")[0].startswith("</script><script>window.stolen=1")


def test_every_picture_is_drawn(opened):
    drawn = opened.run(
        "Promise.all(all('svg image').map(each => { const image = new Image(); "
        "image.src = each.href.baseVal; return image.decode().then(() => image.naturalWidth); }))"
    )
    assert drawn == [50, 17]
    boxes = opened.run("all('figure svg').map(each => each.getBoundingClientRect().height)")
    assert min(boxes) > 100


def test_pages_of_the_run_table(opened):
    assert opened.run(SAID) == "10000 of 10000 runs, rows 1 to 100 shown"
    assert column(opened, "obs_id") == [str(number) for number in range(20000, 20100)]
    opened.run("all('.controls button').find(each => each.textContent == 'Next').click()")
    assert column(opened, "obs_id")[0] == "20100"


def test_sorting(opened, rows):
    click = "all('.runs thead button').find(each => each.textContent.startsWith('zenith')).click()"
    values = sorted(row["zenith"] for row in rows if "zenith" in row)
    opened.run(click)
    assert [float(text) for text in column(opened, "zenith")] == pytest.approx(values[:100], rel=5e-3)
    assert opened.run("document.querySelector('[aria-sort=ascending] button').textContent").startswith("zenith")
    opened.run(click)
    assert [float(text) for text in column(opened, "zenith")] == pytest.approx(values[::-1][:100], rel=5e-3)
    assert opened.run("document.activeElement.textContent").startswith("zenith")


def test_filters(opened, rows):
    set_filter(opened, "zenith > 40 fov_norm_0<=1")
    wanted = [row for row in rows if row.get("zenith", 0) > 40 and row["fov_norm_0"] <= 1]
    assert opened.run(SAID).startswith(f"{len(wanted)} of 10000 runs")
    assert column(opened, "obs_id") == [str(row["obs_id"]) for row in wanted[:100]]
    set_filter(opened, "20017")
    assert column(opened, "obs_id") == ["20017"]
    set_filter(opened, "nothing-like-this")
    assert opened.run(ROWS) == []
    set_filter(opened, "")
    opened.run(
        "(() => { const box = document.querySelector('.runs select'); box.value = 'refused'; "
        "box.dispatchEvent(new Event('change')); })()"
    )
    assert set(column(opened, "status")) == {"refused"}
    assert opened.run(SAID) == "100 of 10000 runs"


def test_columns_can_be_chosen(opened):
    opened.run("all('.columns label').find(each => each.textContent == 'tstart').click()")
    assert column(opened, "tstart")[0] == "53067.407407"
    assert column(opened, "start")[0] == "2004-03-03 09:46"


def test_by_keyboard(opened):
    opened.press("Tab")
    assert opened.run("document.activeElement.className") == "skip"
    for _ in range(60):
        opened.press("Tab")
        if opened.run("document.activeElement.closest('.runs thead') !== null"):
            break
    assert opened.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    opened.press("Enter")
    assert opened.run("document.querySelectorAll('[aria-sort=ascending]').length") == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_screen_and_can_be_read(browser, page_path, width, dark):
    browser.open(page_path.as_uri(), width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(CONTRAST) == []
    assert browser.complaints() == []


def test_words_for_those_who_do_not_see(opened):
    assert opened.run("all('.picture > svg').every(each => each.getAttribute('aria-label').length > 10)")
    assert opened.run("all('table').every(each => each.caption && each.caption.textContent)")
    levels = opened.run("all('h1,h2,h3,h4').map(each => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert opened.run("all('[id]').length == new Set(all('[id]').map(each => each.id)).size")
    assert opened.run("all('input,select').every(each => each.labels.length == 1)")
    assert opened.run("all('button').every(each => (each.ariaLabel || each.textContent).length > 2)")
    assert opened.run("all('.said').every(each => each.role === 'status')")
    assert opened.run("document.documentElement.lang") == "en"


SAID_OF = "document.querySelector('#crab-{} .said').textContent"


def place_of(browser, selector: str, right: float = 0.5, down: float = 0.5) -> tuple[float, float]:
    """Place in the window of a part of an element, which is brought there."""
    browser.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
    sides = "({x, y, width, height}) => [x, y, width, height]"
    box = browser.run(f"({sides})(document.querySelector({selector!r}).getBoundingClientRect())")
    return box[0] + right * box[2], box[1] + down * box[3]


def wait_for(browser, script: str, wanted: str) -> str:
    """Text, when it is there."""
    for _ in range(100):
        text = browser.run(script)
        if wanted in text:
            return text
        browser.run("new Promise(done => setTimeout(done, 20))")
    raise AssertionError(f"{wanted!r} is not in {text!r}")


@pytest.mark.parametrize("selector", ["#crab-map svg:nth-child(1) image", "#crab-map svg:nth-child(2) use"])
def test_under_the_pointer_are_value_and_position(opened, selector):
    """The map and its part about the target; what is said there against the map and astropy."""
    opened.point(*place_of(opened, selector, 0.503, 0.497))
    text = wait_for(opened, SAID_OF.format("map"), "σ")
    value, lon, lat, apart = map(
        float, re.fullmatch(r"(\S+) σ at RA (\S+)°, Dec (\S+)°, (\S+)° from the target", text).groups()
    )
    wcs = make_geometry("icrs", "TAN", 83.633, 22.014, (2.0, 1.6), 0.02).wcs()
    x, _ = wcs.world_to_pixel(SkyCoord(lon, lat, unit="deg"))
    assert value == pytest.approx(20.0 - 24.0 * 50 / 99, abs=0.5)  # of the slope in the map
    assert float(x) == pytest.approx(0.503 * 100 - 0.5, abs=1.0)
    assert SkyCoord(lon, lat, unit="deg").separation(SkyCoord(83.633, 22.014, unit="deg")).deg == pytest.approx(
        apart, abs=0.006
    )


def test_where_nothing_is_known_no_value_is_said(opened):
    opened.point(*place_of(opened, "#crab-map image", 0.03, 0.97))
    assert wait_for(opened, SAID_OF.format("map"), "no value").startswith("no value at RA 84.6")


def test_bands_of_energy_slide(opened):
    opened.run(
        "(() => { const slider = document.querySelector('#crab-map input[type=range]'); slider.value = 1; "
        "slider.dispatchEvent(new Event('input')); })()"
    )
    assert "1 to 2 TeV" in opened.run("document.querySelector('#crab-map .tools').textContent")
    opened.point(*place_of(opened, "#crab-map image + image", 0.25, 0.5))
    assert wait_for(opened, SAID_OF.format("map"), "σ at").startswith("2 σ at") or wait_for(
        opened, SAID_OF.format("map"), "2.0"
    )


def test_near_a_point_its_run_and_date_are_said(opened, rows):
    circle = "#crab-norms .points"
    x, y = opened.run(
        f"(() => {{ const path = document.querySelector('{circle}'); path.scrollIntoView({{block: 'center'}}); "
        "const [, x, y] = /M([\\d.]+),([\\d.]+)/.exec(path.getAttribute('d')); "
        "const there = new DOMPoint(x, y).matrixTransform(path.getScreenCTM()); return [there.x, there.y]; })()"
    )
    opened.point(x, y)
    assert re.match(
        r"run 2\d{4}, \d{4}-\d\d-\d\d \d\d:\d\d: [\d.]+ ± 0.02", wait_for(opened, SAID_OF.format("norms"), "run")
    )


def test_pictures_by_keyboard(opened):
    opened.run("document.querySelector('#crab-norms .picture').focus()")
    opened.press("ArrowRight")
    assert opened.run(SAID_OF.format("norms")).startswith("run 20000, 2004-03-03 09:46: ")
    opened.press("ArrowRight")
    assert opened.run(SAID_OF.format("norms")).startswith("run 20001, ")
    opened.run("document.querySelector('#crab-map .picture').focus()")
    opened.press("ArrowLeft")
    before = wait_for(opened, SAID_OF.format("map"), "σ")
    opened.press("ArrowLeft")
    opened.run("new Promise(done => setTimeout(done, 100))")
    longitudes = [float(re.search(r"RA (\S+)°", text)[1]) for text in (before, opened.run(SAID_OF.format("map")))]
    assert longitudes[1] > longitudes[0]
    width = "document.querySelector('#crab-map svg').getBoundingClientRect().width"
    was = opened.run(width)
    opened.press("+")
    assert opened.run(width) > 1.5 * was
    assert opened.run("document.documentElement.scrollWidth") <= 1280
    assert opened.complaints() == []


def test_without_scripts_the_pictures_are_there(browser, page_path):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page_path.as_uri())
        assert browser.run("document.querySelectorAll('figure svg').length") == 3 + 4  # with those inside
        assert "runs.csv" in browser.run("document.querySelector('noscript').textContent")
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_on_paper_no_figure_is_torn(browser, page_path):
    browser.open(page_path.as_uri(), dark=True)
    browser.send("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.run("all('figure').every(each => getComputedStyle(each).breakInside === 'avoid')")
        assert browser.run("all('.tools,.controls,nav').every(each => getComputedStyle(each).display === 'none')")
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        browser.send("Emulation.setEmulatedMedia", media="")

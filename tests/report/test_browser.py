"""The page in a real browser."""

import itertools
from pathlib import Path

import pytest

ROWS = "all('.runs tbody tr').map(row => [...row.children].map(cell => cell.textContent))"
SAID = "document.querySelector('.runs [role=status]').textContent"
CONTRAST = Path(__file__).with_name("contrast.js").read_text()


def set_filter(browser, text: str) -> None:
    browser.run(
        "(() => { const box = document.querySelector('.runs input[type=search]'); "
        f"box.value = {text!r}; box.dispatchEvent(new Event('input')); }})()"
    )


def column(browser, name: str) -> list[str]:
    names = browser.run("all('.runs thead button').map(each => each.textContent.trim())")
    index = next(index for index, each in enumerate(names) if each.split()[0] == name)
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
    set_filter(opened, "onerror")
    assert column(opened, "object")[0].startswith("</script><script>window.stolen=1")


def test_every_picture_is_drawn(opened):
    drawn = opened.run(
        "Promise.all(all('svg image').map(each => { const image = new Image(); "
        "image.src = each.href.baseVal; return image.decode().then(() => image.naturalWidth); }))"
    )
    assert len(drawn) >= 3
    assert min(drawn) > 10
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
    assert [float(text) for text in column(opened, "zenith")] == pytest.approx(values[:100], rel=1e-4)
    assert opened.run("document.querySelector('[aria-sort=ascending] button').textContent").startswith("zenith")
    opened.run(click)
    assert [float(text) for text in column(opened, "zenith")] == pytest.approx(values[::-1][:100], rel=1e-4)
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
    assert opened.run("all('svg').every(each => each.getAttribute('aria-label').length > 10)")
    assert opened.run("all('table').every(each => each.caption && each.caption.textContent)")
    levels = opened.run("all('h1,h2,h3,h4').map(each => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert opened.run("all('[id]').length == new Set(all('[id]').map(each => each.id)).size")
    assert opened.run("all('input,select').every(each => each.labels.length == 1)")
    assert opened.run("document.documentElement.lang") == "en"

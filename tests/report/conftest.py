"""A report page with ten thousand runs, and a browser to look at it."""

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cubeflow.maps import make_geometry
from cubeflow.report.charts import collect_norms, draw_norms
from cubeflow.report.figures import Figure, LabelSection
from cubeflow.report.page import Page, TargetSection, make_page
from cubeflow.report.runs import Runs
from cubeflow.report.skymap import Field, HotSpot, SkyImage, draw_map, positions

EVIL = "</script><script>window.stolen=1</script><img src=x onerror=window.stolen=1> & \u2028 'quoted' \"twice\""
N_ROWS = 10_000
# Significance, by its title: a slope from west to east with a hole, and a band of energy that is everywhere the same.
SLOPE = np.tile(np.linspace(20.0, -4.0, 100), (80, 1))
SLOPE[:10, :10] = np.nan
SKY = {"all energies": SLOPE, "1 to 2 TeV": np.full((80, 100), 2.0)}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--remote-debugging-pipe",
)


def make_rows(number: int = N_ROWS) -> list[dict]:
    """Rows as of the run table; every hundredth run is refused."""
    rng = np.random.default_rng(11)
    zenith, norm = rng.uniform(5, 60, number), rng.normal(1.0, 0.05, number)
    norm[7] = 3.0
    rows = []
    for index in range(number):
        row = {"obs_id": 20000 + index, "status": "ok", "reason": "", "object": "Crab Nebula"}
        if index % 100 == 50:
            rows.append({**row, "status": "refused", "reason": f"run {20000 + index}: EVENTS: no TIME column"})
            continue
        row |= {"zenith": float(zenith[index]), "tstart": 53067.407407 + 0.02 * index, "livetime": 1600.0}
        row |= {"fov_norm_0": float(norm[index]), "fov_norm_err_0": 0.02, "quirks": "no_deadc", "repairs": ""}
        rows.append(row)
    rows[3]["object"] = EVIL
    return rows


def make_table(rows: list[dict]) -> Runs:
    """Run table of rows."""
    names = dict.fromkeys(name for row in rows for name in row)
    about = {name: ("d" if name == "tstart" else "", f"{name} of a run") for name in names}
    return Runs({name: [row.get(name) for row in rows] for name in names}, about)


@pytest.fixture(scope="session")
def table_of():
    return make_table


@pytest.fixture(scope="session")
def rows():
    return make_rows()


@pytest.fixture(scope="session")
def page(rows) -> Page:
    """Page of one target with an evil name in a file."""
    runs = make_table(
        [row | {"quirks": EVIL.replace(" ", "_")} if index == 5 else row for index, row in enumerate(rows)]
    )
    words = f"Norms of {EVIL}"
    norms = Figure("norms", "crab-norms", "Norms", words, (draw_norms(collect_norms(runs, "fov"), words),))
    geom = make_geometry("icrs", "TAN", 83.633, 22.014, (2.0, 1.6), 0.02)
    field = Field(geom, geom.offset_deg(83.8, 22.3) < 0.2, np.array([[83.2, 22.1]]), (83.633, 22.014), 0.1)
    images = [SkyImage("significance", title, "σ", data, 15.0) for title, data in SKY.items()]
    sky = Figure("significance", "crab-map", "Significance", "A map", draw_map(images, field, "crab-map"))
    facts = dict(zip(("significance", "excess", "counts", "background", "livetime", "runs"), "29121", strict=False))
    spots = (HotSpot(6.5, 83.2, 22.1, 0.4, 12, False), HotSpot(3.5, 83.0, 22.0, 0.6, 1, False))
    about = {"answers": (("Is there a source?", f"Detected {EVIL}"),), "hot_spots": spots, "cube_key": "f" * 64}
    about["sky"] = positions(geom, field.target_deg)
    facts |= {"livetime": "1 h", "runs": "9900"}
    label = LabelSection("fov", "fov", 29.0, facts, figures=(sky, norms), **about)
    target = TargetSection("crab", runs, [label])
    return Page("ab12", [target], {"command": f"snakemake --config a={EVIL}"})


@pytest.fixture(scope="session")
def page_path(page, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(b"".join(make_page(page)))
    return path


@pytest.fixture(scope="session")
def chromium(find_program: Callable[..., str]) -> str:
    """Path of Chromium."""
    return find_program("chromium", "chromium-browser", "google-chrome")


class Browser:
    """Chromium, driven through its own pipe: messages are JSON that ends with a zero byte."""

    def __init__(self, command: str, profile: Path) -> None:
        to_browser, from_us = os.pipe()
        to_us, from_browser = os.pipe()

        def as_three_and_four() -> None:
            # Numbers above 4 first, so that neither overwrites the other.
            ends = [os.dup2(end, number) for end, number in ((to_browser, 100), (from_browser, 101))]
            for end, number in zip(ends, (3, 4), strict=True):
                os.dup2(end, number)

        self._process = subprocess.Popen(
            [command, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=as_three_and_four,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._write, self._read = from_us, to_us
        self._rest, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters) -> dict:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self, seconds: float = 60.0) -> dict:
        """Next message; what is no answer is kept as an event."""
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready = select.select([self._read], [], [], max(end - time.monotonic(), 0.0))[0]
            assert ready, "Chromium does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, f"Chromium ended with {self._process.poll()}"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page and wait until everything is there."""
        self.events.clear()
        mobile = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()
        self.run("void (globalThis.all = (selector) => [...document.querySelectorAll(selector)])")

    def run(self, script: str):
        """Value of an expression, or of the promise it is."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "+": 187}
        about = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": {"Enter": "\r"}.get(key, key)} if key in ("Enter", "+") else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def point(self, x: float, y: float) -> None:
        """Move the pointer to a place of the window."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and entries of the log."""
        said = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                said.append(str(event["params"]["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"):
                said.append(str(event["params"]["args"]))
            elif event["method"] == "Log.entryAdded":
                said.append(event["params"]["entry"]["text"])
        return said

    def requests(self) -> list[str]:
        """Addresses of everything that was asked for."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def close(self) -> None:
        os.close(self._write)
        os.close(self._read)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="session")
def browser(chromium, tmp_path_factory):
    running = Browser(chromium, tmp_path_factory.mktemp("chromium"))
    yield running
    running.close()

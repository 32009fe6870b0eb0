"""The report as a person sees it: opened in headless Chromium, the gallery and the LDS figure are really shown."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.report

OFFLINE = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1000"
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    driver = shutil.which("chromedriver")
    assert driver, "make test-report needs chromium and chromedriver (Debian: chromium, chromium-driver)"
    options = webdriver.ChromeOptions()
    for argument in [*OFFLINE.split(), f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def click(browser: WebDriver, path: str) -> None:
    WebDriverWait(browser, 20).until(expected_conditions.element_to_be_clickable((By.XPATH, path))).click()


def shown_figure(browser: WebDriver) -> dict:
    """Natural and displayed size of the largest embedded picture but the logo."""
    script = """
        return [...document.querySelectorAll('img')]
            .filter(image => image.complete && image.src.startsWith('data:image/svg'))
            .map(image => ({natural: image.naturalWidth, width: image.getBoundingClientRect().width,
                            height: image.getBoundingClientRect().height, source: image.src.slice(0, 80)}))
            .sort((one, other) => other.width * other.height - one.width * one.height)[0]
    """
    return WebDriverWait(browser, 20).until(
        lambda opened: (found := opened.execute_script(script)) and found["width"] > 200 and found
    )


@pytest.mark.parametrize(
    ("category", "figure", "caption"),
    [
        ("Attributions", "gallery", "raise their output most"),
        ("Evaluation", "LDS against checkpoints", "Linear datamodeling score"),
    ],
)
def test_a_figure_is_really_shown_and_captioned(
    finished: Path, browser: WebDriver, tmp_path: Path, category: str, figure: str, caption: str
) -> None:
    browser.get((finished / "results/digits/report.html").as_uri())
    click(browser, f"//a[span[text()='{category}']]")
    # Labels with two values become switches, the first of them chosen, instead of rows.
    WebDriverWait(browser, 20).until(lambda opened: figure in opened.find_element(By.TAG_NAME, "body").text)
    click(browser, "(//a[@iconname='eye'])[1]")
    found = shown_figure(browser)
    assert found["natural"] > 0
    assert found["height"] > 100
    picture = tmp_path / f"{category}.png"
    browser.save_screenshot(str(picture))
    # A page that shows the figure is not one colour: the screenshot holds the figure's own inks.
    assert len(image_colours(picture)) > 50
    click(browser, "(//a[@iconname='information-circle'])[1]")
    WebDriverWait(browser, 20).until(lambda opened: caption in opened.find_element(By.TAG_NAME, "body").text)


def image_colours(picture: Path) -> set[tuple[int, ...]]:
    from matplotlib.image import imread

    pixels = (imread(picture)[..., :3] * 255).astype(int).reshape(-1, 3)
    return {tuple(pixel) for pixel in pixels}

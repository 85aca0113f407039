"""The pictures of the web app in docs/screenshots, taken in a real browser.

python tests/web/screenshots.py --bundle bundle --nightly nightly --user 600 --title 5
"""

from __future__ import annotations

import argparse
import base64
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURES = {
    "user": ("/users/{user}", 1200, 1000), "phone": ("/users/{user}", 390, 844),
    "title": ("/titles/{title}", 1200, 1000), "changes": ("/changes?user={user}", 1200, 700),
}  # fmt: skip
"""Name -> address, width and height."""


def take(site: str, args: argparse.Namespace) -> None:
    """Open each page and write what is seen of it."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    for name, (path, width, height) in PICTURES.items():
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(site + path.format(user=args.user, title=args.title))
        seen = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        (ROOT / "docs" / "screenshots" / f"{name}.png").write_bytes(base64.b64decode(seen["data"]))
    driver.quit()


def main(args: argparse.Namespace) -> None:
    """Start the app, take the pictures, stop it."""
    command = [sys.executable, ROOT / "examples" / "web_app" / "app.py", "--port", "0"]
    command += ["--bundle", args.bundle, "--nightly", args.nightly]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as app:
        try:
            assert app.stdout is not None
            take(app.stdout.readline().removeprefix("ready: ").rstrip("/\n"), args)
        finally:
            app.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--bundle", "--nightly", "--user", "--title"):
        parser.add_argument(option, required=True)
    main(parser.parse_args())

"""Pages for what goes wrong."""

from __future__ import annotations

from flask import Flask, current_app, render_template, request
from nights import NightUnreadableError
from werkzeug.exceptions import HTTPException

_WORDS = {
    400: ("This request is not right", ""),
    404: ("There is no such page", "Search for {0.one}, or go back to the start."),
    405: ("This address is for reading only", "Open it in a browser, or ask with GET."),
    413: ("That is too much at once", "Send less."),
    414: ("That address is too long", "Choose fewer {0.items}, or search for something shorter."),
}


def add_error_pages(app: Flask) -> None:
    """Give every known error and every unknown one a page."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(NightUnreadableError, _unreadable)
    app.register_error_handler(Exception, _defect)


def _http_error(error: HTTPException) -> tuple[str, int] | HTTPException:
    code = error.code or 500
    if code < 400:
        return error
    heading, advice = _WORDS.get(code, (error.name, ""))
    advice = advice.format(current_app.jinja_env.globals["words"])
    return _page(code, heading, advice or error.description or "")


def _unreadable(error: NightUnreadableError) -> tuple[str, int]:
    current_app.logger.error("%s", error, exc_info=error)
    return _page(503, "Tonight's lists cannot be read", f"{error} Whoever runs this app can check it with: "
                 "python -m batch.score --out OUT --verify")  # fmt: skip


def _defect(error: Exception) -> tuple[str, int]:
    current_app.logger.error("%s %s", request.method, request.path, exc_info=error)
    return _page(500, "Something broke", "This is a defect of the app; its log says more.")


def _page(code: int, heading: str, advice: str) -> tuple[str, int]:
    return render_template("error.html", code=code, heading=heading, advice=advice), code

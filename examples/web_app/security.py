"""Headers of every answer: the page may load its own style and script, and nothing else from anywhere."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
"""For a night's report, a finished page with styles and pictures of its own: it may show them, and run nothing."""


def policy(image_hosts: Sequence[str]) -> str:
    """The content security policy; pictures from elsewhere only from the catalogue's own hosts, or by a TMDB key."""
    images = " ".join(["'self'", *image_hosts])
    return (
        f"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src {images}; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def secured(answer: Response, content_policy: str) -> Response:
    """Add the headers; a policy that a view has set stays."""
    for name, value in _HEADERS.items():
        answer.headers[name] = value
    answer.headers.setdefault("Content-Security-Policy", content_policy)
    answer.headers.setdefault("Cache-Control", "no-cache")
    return answer

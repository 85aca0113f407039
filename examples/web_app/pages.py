"""The pages: what each address answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from catalogue import Catalogue, Title
from charts import Scale, rating_chart
from errors import add_error_pages
from figures import figures, gates
from flask import Blueprint, Flask, abort, current_app, jsonify, redirect, render_template, request, send_file, url_for
from inputs import MOST_LIKED, id_of, ids_of, query_of
from nights import Nights
from paths import AnyText, kept
from posters import IMAGES, Posters
from security import REPORT_POLICY, policy, secured
from sources import Listing, Sources
from werkzeug.wrappers import Response as AnyResponse
from wording import Wording

from export.errors import RefusedRequestError, ServerUnavailableError
from sdk.base.ids import is_text
from sdk.base.printable import filled_in
from sdk.bundles.words import words_of

SUGGESTIONS, RESULTS, SIMILAR, LISTED, EVERYTHING, POPULAR, USERS = 8, 30, 10, 20, 1000, 24, 12
_SAMPLE = "ml-sample"  # its TMDB ids are its own: a poster found by one would show another film


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages are made of.

    Attributes:
        catalogue: items and users.
        nights: published nights.
        sources: lists.
        posters: None without a TMDB key.
    """

    catalogue: Catalogue
    nights: Nights
    sources: Sources
    posters: Posters | None = None

    @property
    def shows_posters(self) -> bool:
        """Whether films have pictures."""
        return (
            self.posters is not None
            and self.catalogue.has_films
            and self.catalogue.bundle.info.data.get("name") != _SAMPLE
        )

    @property
    def item(self) -> str:
        """What one of the catalogue is called."""
        return words_of(self.catalogue.bundle.about).item

    @property
    def scale(self) -> Scale:
        """Of its ratings: MovieLens's stars, or from the lowest rating, or 0 where that is lower, to the highest."""
        if self.catalogue.has_films:
            return Scale()
        data = self.catalogue.bundle.info.config.data
        return Scale(min(0.0, data.rating_min), float(data.rating_max), "", "items")


pages = Blueprint("pages", __name__)


def create_app(site: Site) -> Flask:
    """The app over a bundle and its nights."""
    app = Flask(__name__)
    app.config.update(MAX_CONTENT_LENGTH=16 << 10)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True, "finalize": filled_in}
    app.url_map.merge_slashes = False  # its redirect would be absolute, to whatever host the request names
    app.extensions["site"] = site
    app.url_map.converters["any"] = AnyText
    app.jinja_env.globals.update(words=Wording.of(site), kept=kept)  # macros see these, too
    app.register_blueprint(pages)
    add_error_pages(app)
    content_policy = policy(IMAGES if site.shows_posters else None)
    app.after_request(lambda answer: secured(answer, content_policy))
    app.context_processor(lambda: {"server": site.sources.server, "shows_posters": site.shows_posters})
    return app


def here() -> Site:
    """The site that is being served."""
    found: Site = current_app.extensions["site"]
    return found


@pages.get("/")
def home() -> str:
    """The search, and the items that it finds."""
    query = query_of(request.args.get("q", ""))
    catalogue = here().catalogue
    found = catalogue.find(query, RESULTS, thorough=True) if query else catalogue.popular(POPULAR)
    return render_template("home.html", query=query, found=found, num_titles=len(catalogue))


@pages.get("/suggest")
def suggest() -> AnyResponse:
    """Items for what has been typed so far, as JSON."""
    found = here().catalogue.find(query_of(request.args.get("q", "")), SUGGESTIONS)
    return jsonify([_suggestion(title) for title in found])


@pages.get("/titles/<any:text>")
def title(text: str) -> str | tuple[str, int]:
    """An item, and items like it."""
    site = here()
    found = _title_named(text)
    if found is None:
        return _unknown_title(text)
    listing, status, problem = _or_problem(lambda: site.sources.similar(found.item_id, SIMILAR))
    others = [row.title for row in listing.rows] if listing else []
    chart = rating_chart(found, others, site.scale) if others and site.catalogue.is_rated else None
    details = site.catalogue.details(found.item_id)
    page = render_template(
        "title.html", title=found, details=details, listing=listing, chart=chart, problem=problem,
        has_poster=site.shows_posters and details.tmdb_id is not None,
    )  # fmt: skip
    return page, status


@pages.get("/users")
def users() -> str | AnyResponse | tuple[str, int]:
    """Somewhere to type a user's id."""
    text = request.args.get("user", "").strip()
    user_id = id_of(text, here().catalogue.user_ids)
    if user_id is not None:
        return redirect(url_for("pages.user", text=str(user_id)), 303)
    near = here().catalogue.users_near(None, USERS)
    page = render_template("users.html", near=near, text=text[:40], num_users=here().catalogue.num_users)
    return (page, 400) if text else page


@pages.get("/users/<any:text>")
def user(text: str) -> str | tuple[str, int]:
    """A user's list."""
    site, user_id = here(), id_of(text, here().catalogue.user_ids)
    if user_id is None or not site.catalogue.has_user(user_id):
        near = site.catalogue.users_near(user_id, USERS)
        return render_template("unknown_user.html", text=text[:40], near=near), 404
    why, whole = request.args.get("why") == "1", request.args.get("all") == "1"
    k = EVERYTHING if whole else LISTED
    listing, status, problem = _or_problem(lambda: site.sources.for_user(user_id, k, why=why))
    page = render_template(
        "user.html", user_id=user_id, listing=listing, why=why, whole=whole, problem=problem,
        more=listing is not None and not whole and len(listing.rows) == LISTED,
    )  # fmt: skip
    return page, status


@pages.get("/visitor")
def visitor() -> str | tuple[str, int]:
    """Items that a visitor likes, all of them in the address, and a list made of them."""
    site, given = here(), request.args.getlist("like")
    query, liked = query_of(request.args.get("q", "")), ids_of(given, here().catalogue.item_ids, site.item)
    chosen = [site.catalogue.title(item_id) for item_id in liked]
    if None in chosen:
        return _unknown_title(str(liked[chosen.index(None)]))
    offered = site.catalogue.find(query, RESULTS, thorough=True) if query else site.catalogue.popular(POPULAR)
    listing = site.sources.for_visitor(liked, LISTED) if liked else None
    return render_template(
        "visitor.html", query=query, chosen=chosen, listing=listing, most=MOST_LIKED,
        offered=[one for one in offered if one.item_id not in liked],
    )  # fmt: skip


@pages.get("/nights")
def nights() -> str:
    """Every night."""
    return render_template("nights.html", dates=here().nights.dates(), latest=here().nights.latest())


@pages.get("/nights/<date>")
def night(date: str) -> str | tuple[str, int]:
    """One night's figures and checks."""
    store = here().nights
    manifest = store.manifest(date)
    if manifest is None:
        return render_template("missing_night.html", date=date[:40], dates=store.dates()[:10]), 404
    return render_template(
        "night.html", date=date, figures=figures(manifest, here().item), gates=gates(manifest),
        has_report=store.report(date) is not None, is_latest=store.latest() == date,
    )  # fmt: skip


@pages.get("/nights/<date>/report")
def report(date: str) -> AnyResponse | tuple[str, int]:
    """A night's report, as it was written."""
    path = here().nights.report(date)
    if path is None:
        return render_template("missing_night.html", date=date[:40], dates=here().nights.dates()[:10]), 404
    answer = send_file(path.resolve(), mimetype="text/html", max_age=0)
    answer.headers["Content-Security-Policy"] = REPORT_POLICY
    return answer


@pages.get("/posters/<any:text>")
def poster(text: str) -> AnyResponse:
    """Sends the reader's browser to the picture at TMDB, or to a blank one."""
    site, found = here(), _title_named(text)
    if not site.shows_posters or site.posters is None or found is None:
        abort(404)
    tmdb_id = site.catalogue.details(found.item_id).tmdb_id
    address = None if tmdb_id is None else site.posters.address(tmdb_id)
    return redirect(address or url_for("static", filename="no-poster.svg"), 302)


@pages.get("/health")
def health() -> AnyResponse:
    """Whether the app is up, and what it serves."""
    site = here()
    ready = site.sources.server_is_ready()
    state = {"status": "ok", "titles": len(site.catalogue), "users": site.catalogue.num_users,
             "night": site.nights.latest(), "server": {None: None, True: "ok", False: "down"}[ready]}  # fmt: skip
    return jsonify(state)


def _or_problem(make: Callable[[], Listing]) -> tuple[Listing | None, int, str]:
    """A list and 200, or where the live server does not answer, 503 and why."""
    try:
        return make(), 200, ""
    except ServerUnavailableError as error:
        current_app.logger.warning("%s", error)
        return None, 503, "does not answer"
    except RefusedRequestError as error:
        current_app.logger.warning("%s", error)
        return None, 503, "refused the request: it may serve another bundle"


def _title_named(text: str) -> Title | None:
    item_id = id_of(text, here().catalogue.item_ids)
    return None if item_id is None else here().catalogue.title(item_id)


def _unknown_title(text: str) -> tuple[str, int]:
    catalogue = here().catalogue
    is_id = not is_text(catalogue.item_ids) and id_of(text, catalogue.item_ids) is not None
    found = [] if is_id else catalogue.find(text[:100], SUGGESTIONS, thorough=True)
    popular = catalogue.popular(SUGGESTIONS) if not found else []
    return render_template("unknown_title.html", text=text[:100], found=found, popular=popular), 404


def _suggestion(title: Title) -> dict[str, str]:
    """The id as text: a browser's numbers are exact only up to 2**53."""
    return {"id": str(title.item_id), "name": title.name, "genres": ", ".join(title.genres)}

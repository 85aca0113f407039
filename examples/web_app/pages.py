"""The pages: what each address answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from catalogue import Catalogue, Had, Title
from charts import legend_of, likeness_bar
from dials import LEAST, MOST, STEP, Dials
from errors import add_error_pages
from figures import TREND, figures, gates, night_line, rule_words, trend_of, trends
from flask import Blueprint, Flask, abort, current_app, jsonify, redirect, render_template, request, send_file, url_for
from inputs import MOST_LIKED, id_of, ids_of, query_of
from nights import Nights, NightUnreadableError
from paths import AnyText, kept
from posters import IMAGES, Posters
from security import REPORT_POLICY, policy, secured
from sources import Listing, Sources
from werkzeug.wrappers import Response as AnyResponse
from wording import Wording

from export.errors import RefusedRequestError, ServerUnavailableError
from sdk.base.ids import is_text
from sdk.base.printable import filled_in
from sdk.base.types import Id
from sdk.bundles.words import words_of
from sdk.scoring.recommender import UNDER_RULES

SUGGESTIONS, RESULTS, SIMILAR, LISTED, EVERYTHING, POPULAR, USERS = 8, 30, 10, 20, 1000, 24, 12
HAD, AUDIENCE, NIGHTS, TASTES = 24, 20, 30, 4
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
    def image_hosts(self) -> tuple[str, ...]:
        """Where pictures come from, besides this app."""
        return (*self.catalogue.image_hosts, *((IMAGES,) if self.shows_posters else ()))


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
    app.jinja_env.globals.update(words=Wording.of(site), kept=kept, likeness_bar=likeness_bar)  # macros see these, too
    app.register_blueprint(pages)
    add_error_pages(app)
    content_policy = policy(site.image_hosts)
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
    parts = [row.parts for row in listing.rows if row.parts] if listing else []
    details = site.catalogue.details(found.item_id)
    page = render_template(
        "title.html", title=found, details=details, listing=listing, problem=problem, legend=legend_of(parts),
        longest=max((sum(one.values()) for one in parts), default=1.0),
        audience=site.sources.audience(found.item_id, AUDIENCE),
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
    """What a user had, their list, and what the list would be if its dials were turned."""
    site, user_id = here(), _user_named(text)
    if user_id is None:
        return _unknown_user(text)
    whole, dials = request.args.get("all") == "1", Dials.of(request.args)
    k = EVERYTHING if whole else LISTED
    listing, status, problem = _or_problem(lambda: site.sources.for_user(user_id, k, dials))
    had = site.catalogue.had(user_id)
    page = render_template(
        "user.html", user_id=user_id, listing=listing, problem=problem, whole=whole, had=had[: k if whole else HAD],
        num_had=len(had), had_ids={one.title.item_id for one in had}, tastes=_tastes(had), rules=_rules_shown(listing),
        dials=dials, bounds=(LEAST, MOST, STEP), has_variety=site.catalogue.bundle.has_content,
        nights=site.nights.dates()[:2], more=listing is not None and not whole and len(listing.rows) == LISTED,
    )  # fmt: skip
    return page, status


@pages.get("/changes")
def changes() -> str | AnyResponse | tuple[str, int]:
    """What one night changed in a user's list against another."""
    site, text = here(), request.args.get("user", "")
    user_id, dates = _user_named(text), site.nights.dates()
    if user_id is None:
        return _unknown_user(text)
    after = request.args.get("after", dates[0] if dates else "")
    before = request.args.get("before", next((date for date in dates if date < after), ""))
    if (missing := next((date for date in (after, before) if date not in dates), None)) is not None:
        return _missing_night(missing)
    return render_template(
        "changes.html", user_id=user_id, before=before, after=after, dates=dates[:NIGHTS],
        listing=site.sources.changes(user_id, LISTED, before, after),
    )  # fmt: skip


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
    """The newest nights, refused ones among them, and how their figures went."""
    store, latest = here().nights, here().nights.latest()
    dates, refused = store.dates()[:NIGHTS], set(store.refused())
    found = {date: _trend(date) for date in dates}
    lines = [
        night_line(
            date, "refused" if date in refused else "in use" if date == latest else "published", found.get(date, ())
        )
        for date in sorted({*dates, *refused}, reverse=True)
    ]
    older = len(store.dates()) - len(dates)
    return render_template(
        "nights.html", lines=lines, names=TREND, trends=trends([found[d] for d in dates[::-1]]), older=older
    )


@pages.get("/nights/<date>")
def night(date: str) -> str | tuple[str, int]:
    """One night's figures and checks."""
    store = here().nights
    manifest = store.manifest(date)
    if manifest is None:
        return _missing_night(date)
    return render_template(
        "night.html", date=date, figures=figures(manifest, here().item), gates=gates(manifest),
        rules=rule_words(manifest), has_report=store.report(date) is not None, is_latest=store.latest() == date,
    )  # fmt: skip


@pages.get("/nights/<date>/report")
def report(date: str) -> AnyResponse | tuple[str, int]:
    """A night's report, as it was written."""
    path = here().nights.report(date)
    if path is None:
        return _missing_night(date)
    answer = send_file(path.resolve(), mimetype="text/html", max_age=0)
    answer.headers["Content-Security-Policy"] = REPORT_POLICY
    return answer


@pages.get("/posters/<any:text>")
def poster(text: str) -> AnyResponse:
    """Sends the reader's browser to the picture at TMDB."""
    site, found = here(), _title_named(text)
    if not site.shows_posters or site.posters is None or found is None:
        abort(404)
    tmdb_id = site.catalogue.details(found.item_id).tmdb_id
    address = None if tmdb_id is None else site.posters.address(tmdb_id)
    return redirect(address, 302) if address else abort(404)


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


def _trend(date: str) -> tuple[float | None, ...]:
    """A night's figures; none where its manifest cannot be read."""
    try:
        return trend_of(here().nights.manifest(date) or {})
    except NightUnreadableError:
        return trend_of({})


def _tastes(had: Sequence[Had]) -> list[str]:
    """What most of the items of a history are."""
    counted = Counter(label for one in had for label in one.title.genres)
    return [label for label, _ in counted.most_common(TASTES)]


def _rules_shown(listing: Listing | None) -> list[str]:
    """The rules and draws of the night that a list is from."""
    latest = here().nights.latest()
    ruled = listing is not None and (listing.drawn or listing.source.endswith(UNDER_RULES))
    return rule_words(here().nights.manifest(latest) or {}) if ruled and latest else []


def _missing_night(date: str) -> tuple[str, int]:
    return render_template("missing_night.html", date=date[:40], dates=here().nights.dates()[:10]), 404


def _user_named(text: str) -> Id | None:
    """A user of the bundle."""
    user_id = id_of(text, here().catalogue.user_ids)
    return user_id if user_id is not None and here().catalogue.has_user(user_id) else None


def _unknown_user(text: str) -> tuple[str, int]:
    near = here().catalogue.users_near(id_of(text, here().catalogue.user_ids), USERS)
    return render_template("unknown_user.html", text=text[:40], near=near), 404


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

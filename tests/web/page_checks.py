"""Strict checks of a page's HTML with nothing but html.parser: nesting, ids, labels, headings, addresses."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "br", "hr", "line", "rect", "path", "polyline", "circle"}
NOT_IN_P = {"p", "ul", "ol", "table", "form", "div", "section", "h1", "h2", "fieldset", "dl", "details", "figure"}
NEEDS_PARENT = {
    "li": {"ul", "ol"}, "dt": {"dl", "div"}, "dd": {"dl", "div"}, "tr": {"thead", "tbody"}, "td": {"tr"}, "th": {"tr"},
    "caption": {"table"}, "legend": {"fieldset"}, "summary": {"details"},
}  # fmt: skip
ONLY_CHILDREN = {"ul": {"li"}, "ol": {"li"}, "tr": {"td", "th"}, "dl": {"div", "dt", "dd"}}


class Page(HTMLParser):
    """A parsed page; ``problems`` says what is wrong with it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.headings: list[int] = []
        self.texts: list[str] = []
        if not text.startswith("<!doctype html>"):
            self.problems.append("no doctype")
        self.feed(text)
        self.close()
        if self.open:
            self.problems.append(f"left open: {self.open}")
        self._check_whole()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.problems.append(f"{tag}: an attribute twice: {names}")
        parent = self.open[-1] if self.open else ""
        if tag in NEEDS_PARENT and parent not in NEEDS_PARENT[tag]:
            self.problems.append(f"{tag} in {parent}")
        if parent in ONLY_CHILDREN and tag not in ONLY_CHILDREN[parent]:
            self.problems.append(f"{tag} in {parent}")
        if tag in NOT_IN_P and "p" in self.open:
            self.problems.append(f"{tag} inside p")
        if tag in ("a", "button", "label") and tag in self.open:
            self.problems.append(f"{tag} inside {tag}")
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> where {self.open[-3:]} is open")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """What a reader sees, blanks as one."""
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def addresses(self) -> list[str]:
        """Every address that the page names."""
        names = ("href", "src", "action", "srcset", "poster", "data-suggest", "data-open", "formaction", "xlink:href")
        return [value for _, attributes, _ in self.elements for name in names if (value := attributes.get(name))]

    def _check_whole(self) -> None:
        self._check_ids()
        self._check_fields()
        self._check_landmarks()
        if self.headings[:1] != [1] and 1 not in self.headings:
            self.problems.append("no h1")
        for before, after in zip(self.headings, self.headings[1:], strict=False):
            if after > before + 1:
                self.problems.append(f"h{after} after h{before}")
        if any(name.startswith("on") or name == "style" for _, attrs, _ in self.elements for name in attrs):
            self.problems.append("an inline script or style")

    def _check_ids(self) -> None:
        ids = [value for _, attributes, _ in self.elements if (value := attributes.get("id"))]
        if len(ids) != len(set(ids)):
            self.problems.append(f"an id twice: {sorted(ids)}")
        for tag, attributes, _ in self.elements:
            for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
                if attributes.get(name) and attributes[name] not in ids:
                    self.problems.append(f"{tag} {name}={attributes[name]}: no such id")

    def _check_fields(self) -> None:
        labelled = {attributes.get("for") for attributes in self.all("label")}
        for tag, attributes, around in self.elements:
            named = attributes.get("id") in labelled - {None} or "label" in around
            if tag in ("input", "select") and attributes.get("type") != "hidden" and not named:
                self.problems.append(f"a field without a label: {attributes}")
            decorates = (
                attributes.get("alt") == "" and attributes.get("aria-hidden") == "true"
            )  # its name stands beside
            if tag == "img" and not attributes.get("alt") and not decorates:
                self.problems.append(f"a picture without a text: {attributes}")
            if tag == "svg" and not attributes.get("aria-label"):
                self.problems.append("a drawing without a name")

    def _check_landmarks(self) -> None:
        for tag in ("header", "nav", "main", "footer", "title"):
            if len(self.all(tag)) != 1:
                self.problems.append(f"{len(self.all(tag))} of {tag}")
        if self.all("html")[0].get("lang") != "en":
            self.problems.append("no language")
        if not any("width=device-width" in (attributes.get("content") or "") for attributes in self.all("meta")):
            self.problems.append("no viewport")
        links = self.all("a")
        if not links or links[0].get("href") != "#main":
            self.problems.append("no skip link")

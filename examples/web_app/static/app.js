// Suggestions under a search field, after the ARIA combobox pattern, links to share, tiles for lost pictures. Without this script the forms
// still work, and the address bar has the link.
"use strict";

for (const image of document.querySelectorAll(".tile img")) {
  const uncover = () => image.remove(); // the tile's initials are behind it
  if (image.complete && !image.naturalWidth && image.loading !== "lazy") uncover();
  else image.addEventListener("error", uncover);
}

for (const button of document.querySelectorAll(".share")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = button.dataset.done;
    } catch {
      prompt(button.textContent, location.href); // no clipboard here: the reader copies it
    }
  });
}

for (const box of document.querySelectorAll(".combobox")) {
  const input = box.querySelector("input");
  const list = document.createElement("ul");
  const status = document.createElement("p");
  let active = -1, waiting = 0, asked = null;

  list.id = `${input.id}-suggestions`;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Suggestions");
  list.hidden = true;
  status.className = "hidden";
  status.setAttribute("role", "status");
  box.append(list, status);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list",
    "aria-controls": list.id, "aria-expanded": "false", "aria-haspopup": "listbox" })) input.setAttribute(name, value);

  const options = () => list.querySelectorAll("[role=option]");

  function close() {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function move(to) {
    const all = options();
    active = (to + all.length) % all.length;
    all.forEach((option, at) => option.setAttribute("aria-selected", String(at === active)));
    input.setAttribute("aria-activedescendant", all[active].id);
    all[active].scrollIntoView({ block: "nearest" });
  }

  function choose(option) {
    if (box.dataset.add) {
      const liked = document.createElement("input");
      liked.type = "hidden";
      liked.name = box.dataset.add;
      liked.value = option.dataset.id;
      input.value = "";
      input.form.append(liked);
      input.form.submit();
    } else {
      location.assign(box.dataset.open + encodeURIComponent(option.dataset.id));
    }
  }

  function element(kind, text, className) {
    const made = document.createElement(kind);
    made.textContent = text; // never as HTML: a title may hold anything
    if (className) made.className = className;
    return made;
  }

  function show(titles) {
    list.replaceChildren(...titles.map((title, at) => {
      const option = document.createElement("li");
      option.id = `${list.id}-${at}`;
      option.dataset.id = title.id;
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      option.append(element("span", title.name), element("span", title.genres, "genres"));
      return option;
    }));
    close();
    list.hidden = titles.length === 0;
    input.setAttribute("aria-expanded", String(titles.length > 0));
    status.textContent = titles.length ? `${titles.length} suggestions` : "No suggestions";
  }

  async function suggest() {
    asked?.abort();
    asked = new AbortController();
    const query = input.value.trim();
    if (!query) return close();
    try {
      const answer = await fetch(`${box.dataset.suggest}?q=${encodeURIComponent(query)}`, { signal: asked.signal });
      if (answer.ok && document.activeElement === input) show(await answer.json());
    } catch (error) {
      if (error.name !== "AbortError") close(); // the server is away: the form still works
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(suggest, 90);
  });
  input.addEventListener("blur", close);
  list.addEventListener("mousedown", (event) => event.preventDefault()); // keeps the focus in the field
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) choose(option);
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const open = !list.hidden && options().length > 0;
    if (event.key === "Escape" && open) close();
    else if (event.key === "ArrowDown" && open) move(active + 1);
    else if (event.key === "ArrowUp" && open) move(active < 0 ? -1 : active - 1);
    else if (event.key === "Enter" && open && active >= 0) choose(options()[active]);
    else return;
    event.preventDefault();
  });
}

// Puts the page together: tabs, the key, the theme, the models.

import { events, hasKey, models, setKey, status } from "./api.js";
import { compare } from "./compare.js";
import { byId } from "./dom.js";
import { plural } from "./format.js";
import { refusal } from "./job.js";
import { live } from "./live.js";
import { map } from "./map.js";
import { modelFacts } from "./models.js";
import { search } from "./search.js";
import { setModels } from "./settings.js";
import { tabs } from "./tabs.js";

const THEMES = ["auto", "light", "dark"];

function theme() {
  const button = byId("theme");
  const root = document.documentElement;
  const say = () => (button.textContent = `Theme: ${root.dataset.theme ?? "auto"}`);
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("embral.theme", next);
    } catch {
      // Without storage the choice lasts until the page is left.
    }
    say();
  });
  say();
}

compare(byId("compare"));
search(byId("search"));
map(byId("map"));
const showLive = live();

async function load() {
  const list = byId("models-list");
  list.setAttribute("aria-busy", "true");
  try {
    const told = await models();
    setModels(told);
    list.replaceChildren(...modelFacts(told));
    byId("server").textContent = plural(told.length, "model");
    // Only for the version: where it fails, the tab Live says why.
    status().then(({ version }) => (byId("server").textContent = `${version} · ${plural(told.length, "model")}`), () => {});
    return true;
  } catch (error) {
    if (!error.kind) throw error;
    // A missing key is asked for by its own form; the list says it only where it is looked at.
    list.replaceChildren(refusal(error));
    return false;
  } finally {
    list.removeAttribute("aria-busy");
  }
}

function keys() {
  const [form, toggle, note, input, forget] = ["key-form", "key-toggle", "key-note", "key", "key-forget"].map(byId);
  function open(shown) {
    form.hidden = !shown;
    toggle.setAttribute("aria-expanded", String(shown));
    forget.hidden = !hasKey();
  }
  toggle.addEventListener("click", () => {
    note.textContent = hasKey() ? "A key is in use." : "";
    open(form.hidden);
    if (!form.hidden) input.focus();
  });
  events.addEventListener("unauthorized", () => {
    note.textContent = hasKey() ? "The server refuses this API key." : "This server asks for an API key.";
    open(true);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    setKey(input.value.trim());
    input.value = "";
    if (!(await load())) {
      input.focus();
      return;
    }
    open(false);
    toggle.focus();
    showLive(!byId("live").hidden);
  });
  forget.addEventListener("click", () => {
    setKey("");
    note.textContent = "The key is forgotten.";
    open(true);
    input.focus();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    open(false);
    toggle.focus();
  });
}

theme();
keys();
byId("models-reload").addEventListener("click", load);
tabs(document.querySelector("[role=tablist]"), (id) => {
  showLive(id === "live");
  if (id === "models") load();
});
if (byId("models").hidden) load();

// The tabs pattern of ARIA: one tab stop, arrows, Home and End move, the panel follows. The address keeps the tab (`#search`).

/** Calls `shown(id)` with the panel now seen, at first too. */
export function tabs(list, shown) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

  function select(chosen) {
    for (const tab of all) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      panel(tab).hidden = tab !== chosen;
    }
    chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
    history.replaceState(null, "", `#${panel(chosen).id}`);
    shown(panel(chosen).id);
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) select(tab);
  });
  list.addEventListener("keydown", (event) => {
    const at = all.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const tab = all[(to + all.length) % all.length];
    select(tab);
    tab.focus();
  });
  const named = () => all.find((tab) => `#${panel(tab).id}` === location.hash);
  window.addEventListener("hashchange", () => named() && select(named()));
  select(named() ?? all[0]);
}

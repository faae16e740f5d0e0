// Runs before the first paint (a plain script in the head), so that a chosen theme does not flash the other one.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const theme = localStorage.getItem("embral.theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {
    // Storage may be forbidden: the system's theme is used.
  }
})();

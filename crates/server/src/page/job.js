// A form that asks the server: Run, Cancel, Ctrl+Enter, progress, and what the server answered or refused, in place.

import { ApiError } from "./api.js";
import { el } from "./dom.js";
import { count, ms, short } from "./format.js";

/** What to do about each kind of refusal. */
function advice(error) {
  const wait = error.retryAfter ? `in ${error.retryAfter} s` : "in a moment";
  return {
    input: "Change the input and run again.",
    no_answer: "See that the server still runs and that this machine reaches it, then run again.",
    unauthorized: "Enter the server's API key at the top of the page, then run again.",
    invalid_input: "Change the input or the options and run again.",
    not_found: "Choose another model; “Reload” in the Models tab brings the list up to date.",
    too_long: "Shorten the text, or choose under “Long texts” to cut it.",
    too_large: "Send fewer or shorter texts.",
    overloaded: `The server has more work than it can hold. Run again ${wait}.`,
    rate_limited: `This key has used its share for now. Run again ${wait}.`,
    unsupported: "Choose another model or other options.",
    unavailable: `The model cannot be used now. Run again ${wait}.`,
    internal: "This is a fault of the server; its log may say more.",
  }[error.kind] ?? "Run again; if it stays, the server's log may say more.";
}

/** A refusal as the server words it, where it came from, and what to do. */
export function refusal(error) {
  const told = [error.kind.replaceAll("_", " "), error.status && `status ${error.status}`, Number.isInteger(error.index) && `text ${error.index + 1}`];
  return el("div", { class: "error", role: "alert" },
    el("p", { class: "said" }, error.message),
    error.kind !== "input" && el("p", { class: "quiet" }, told.filter(Boolean).join(" · "), error.text && `: “${short(error.text, 80)}”`),
    el("p", {}, advice(error)));
}

/** Something wrong that the page sees before it asks. */
export const wrongInput = (message) => new ApiError("input", message);

/** Pairs of a name and a number, in one row that wraps. */
export const facts = (pairs) => el("dl", { class: "facts" }, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

/** What the requests cost, as the server timed them and as seen from here. */
export const costFacts = ({ requests, tokens, server, roundTrip }) => [
  ["Tokens", count(tokens)],
  ["Tokenise", ms(server.tokenize_ms)],
  ["Queue", ms(server.queue_ms)],
  ["Inference", ms(server.inference_ms)],
  ["Server total", ms(server.total_ms)],
  ["Round trip", ms(roundTrip)],
  ...(requests > 1 ? [["Requests", count(requests)]] : []),
];

/**
 * `run({signal, progress})` answers `{said, nodes}`: a sentence for the status line, and what to show below it. It may throw; a second
 * run ends the first.
 */
export function job(panel, run) {
  const form = panel.querySelector("form");
  const answer = panel.querySelector(".answer");
  const submit = el("button", { type: "submit", class: "primary" }, "Run");
  const cancel = el("button", { type: "button", hidden: true, onclick: () => running?.abort() }, "Cancel");
  const bar = el("progress", { "aria-label": "Texts done", hidden: true });
  const amount = el("span", { class: "quiet" });
  form.querySelector(".buttons").append(submit, cancel, el("kbd", {}, "Ctrl + Enter"), el("div", { class: "progress" }, bar, amount));
  const said = el("p", { class: "said", role: "status" });
  const problem = el("div");
  const shown = el("div", { class: "shown" }, ...answer.childNodes);
  answer.append(problem, said, shown);
  let running = null;

  function progress(done, all) {
    bar.max = all;
    bar.value = done;
    bar.hidden = false;
    amount.textContent = `${count(done)} of ${count(all)}`;
  }

  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit();
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running?.abort();
    const mine = new AbortController();
    running = mine;
    cancel.hidden = false;
    answer.setAttribute("aria-busy", "true");
    problem.replaceChildren();
    try {
      const result = await run({ signal: mine.signal, progress: (done, all) => running === mine && all > 64 && progress(done, all) });
      if (running !== mine) return;
      said.textContent = result.said;
      shown.replaceChildren(...result.nodes);
    } catch (error) {
      if (running !== mine) return;
      said.textContent = "";
      if (error.name === "AbortError") said.textContent = `Cancelled${amount.textContent && ` after ${amount.textContent}`}.`;
      else if (error instanceof ApiError) problem.replaceChildren(refusal(error));
      else {
        problem.replaceChildren(refusal(new ApiError("page", `The page could not show the answer: ${error.message}`)));
        throw error;
      }
    } finally {
      if (running === mine) {
        running = null;
        // A focused button that vanishes would drop the keyboard's place.
        if (document.activeElement === cancel) submit.focus();
        cancel.hidden = bar.hidden = true;
        amount.textContent = "";
        answer.removeAttribute("aria-busy");
      }
    }
  });
}

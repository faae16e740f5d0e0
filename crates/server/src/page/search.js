// Search in a pasted list: by the cosine of vectors, or by a reranker's scores.

import { Cost, embed, rerank } from "./api.js";
import { byId, el, lines } from "./dom.js";
import { count, fixed, plural } from "./format.js";
import { costFacts, facts, job, wrongInput } from "./job.js";
import { settings } from "./settings.js";
import { best, cosine } from "./vector.js";

function results(found, list, items, scored) {
  return el("ol", { class: "results" }, found.map(({ index, score }) => {
    const item = items?.[index];
    return el("li", {},
      el("div", { class: "score" }, el("span", { class: "hidden" }, scored), el("b", {}, fixed(score, 4)),
        el("span", { class: "bar", "aria-hidden": "true", "--t": Math.max(0, Math.min(1, score || 0)).toFixed(4) })),
      el("div", {},
        el("p", { class: "text" }, list[index]),
        el("p", { class: "quiet" }, `entry ${count(index + 1)}`, item && ` · ${plural(item.tokens, "token")}`, item?.truncated && el("span", { class: "cut" }, "cut"))));
  }));
}

export function search(panel) {
  const read = settings(panel.querySelector(".settings"), { rerankers: true, types: { queryType: ["Query as", "query"], listType: ["List as", "document"] } });

  async function byVectors(query, list, { queryType, listType, ...options }, control) {
    const cost = new Cost();
    const asked = await embed([query], { ...options, inputType: queryType }, { ...control, progress: null, cost });
    const { items } = await embed(list, { ...options, inputType: listType }, { ...control, cost });
    return { ...asked, items, query: asked.items[0], scores: items.map((item) => cosine(asked.items[0].vector, item.vector)) };
  }

  job(panel, async (control) => {
    const query = byId("search-query").value.trim();
    const list = lines(byId("search-list").value);
    if (!query) throw wrongInput("There is no query.");
    if (list.length === 0) throw wrongInput("The list is empty.");
    const options = read();
    const reranks = options.task === "reranker";
    const told = reranks ? await rerank(query, list, options.model, control) : await byVectors(query, list, options, control);
    const found = best(told.scores, Number(byId("search-k").value));
    const cut = (told.items ?? []).filter((item) => item.truncated).length;
    const notes = [
      `${plural(list.length, "entry", "entries")} searched, best ${count(found.length)} shown.`,
      told.query?.truncated && "The query was longer than the model takes and cut.",
      cut > 0 && `${plural(cut, "entry was", "entries were")} longer than the model takes and cut.`,
    ];
    return {
      said: notes.filter(Boolean).join(" "),
      nodes: [
        results(found, list, told.items, reranks ? "Score of the reranker: " : "Cosine: "),
        facts([["Model", told.model], reranks ? ["Score", "reranker"] : ["Score", `cosine, ${count(told.dimensions)} dimensions`], ...costFacts(told.cost)]),
      ],
    };
  });
}

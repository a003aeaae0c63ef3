// Train: choose how, see why not, follow how far it is.
import { action } from "/page/action.js";
import { choice, field, fill, h, plural, problemBox } from "/page/elements.js";
import { images } from "/page/image_store.js";
import { jobEvents, jobs } from "/page/jobs.js";
import { get } from "/page/server.js";

const kept = { recipe: "standard", smallest: "", rate: "1", groups: false, defects: false }; // while the page is open

export async function show(main) {
  const [{ unfinished }, { region }] = await Promise.all([get("/api/models"), get("/api/region")]);
  const smallest = h("input", { type: "number", min: 1, max: 10000, step: "any", value: kept.smallest, placeholder: "not said", oninput: () => { kept.smallest = smallest.value; order.refresh(); } });
  const rate = h("input", { type: "number", min: 0.01, max: 49, step: "any", value: kept.rate, oninput: () => { kept.rate = rate.value; order.refresh(); } });
  const recipe = (value, title, hint) => choice("recipe", value, title, hint, kept.recipe === value, () => { kept.recipe = value; order.refresh(); });
  const learned = (label) => images.all.filter((image) => image.use === "learn" && image.label === label).length;
  const [nGood, nDefects] = [learned("good"), learned("defect")];
  const tick = (name, title, hint) => h("label.choice", h("input", { type: "checkbox", checked: kept[name], onchange: (event) => { kept[name] = event.target.checked; order.refresh(); } }), h("span", title), h("span.quiet", hint));
  const order = action({ kind: "train", label: "Train", isPrimary: true, wish, done: ended });
  const now = h("div.card", { "aria-live": "off" });

  function wish() {
    const chosen = { recipe: kept.recipe, false_alarm_rate: Number(kept.rate) / 100 };
    if (kept.groups) chosen.folders_are_groups = true;
    if (kept.defects && nDefects) chosen.with_known_defects = true;
    if (kept.smallest !== "") chosen.smallest_defect_px = Number(kept.smallest);
    return chosen;
  }

  function ended(job) {
    if (job.state === "done") location.hash = `result/${encodeURIComponent(job.facts.run.split("/")[1])}`;
    else if (job.state === "cancelled") show(main);
  }

  function showNow() {
    const job = jobs.running?.kind === "train" ? jobs.running : jobs.all.find((one) => one.kind === "train");
    if (!job) return fill(now, h("h2", "Progress"), h("p.quiet", "No training was started in the studio yet."));
    const percent = job.progress?.share === undefined || job.progress?.share === null ? null : Math.round(100 * job.progress.share);
    const head = job.state === "running" ? h("p.big", percent === null ? "…" : `${percent} %`) : h("p.big", { done: "Done", failed: "Not trained", cancelled: "Cancelled" }[job.state]);
    fill(now, h("h2", job.title), head,
      job.state === "running" ? [h("progress", { max: 1, value: job.progress?.share ?? 0, "aria-label": "Training" }), h("p", `${job.progress?.step ?? "starts"}${job.progress?.left ? ` · about ${job.progress.left} left` : ""}`)] : null,
      job.problem ? problemBox(job.problem) : null,
      h("pre", { tabIndex: 0, "aria-label": "What the training says" }, job.lines.filter((line) => !line.startsWith("{")).join("\n")));
  }

  fill(main, h("div.columns",
    h("section.card", { "aria-label": "Training" },
      h("h2", "Train on good images"),
      h("dl", h("dt", "Images"), h("dd", `${plural(nGood, "good image")} to learn from`, " · ", h("a", { href: "#images" }, "change")),
        h("dt", "Region"), h("dd", region ? "as drawn" : "the whole image", " · ", h("a", { href: "#region" }, "change"))),
      h("fieldset", h("legend", "Effort"),
        recipe("quick", "Quick", "for a first look: one or two minutes for a hundred images"),
        recipe("standard", "Standard", "recommended: larger memory, and tiles where they show more")),
      field("Smallest defect, in pixels of your images", smallest, "how wide it is; smaller means finer tiles and slower tests. Empty: not said"),
      field("False alarms, in percent of good parts", rate, "the threshold is set for this share of good images"),
      tick("groups", "The images of a folder belong together", "of one part, lot or patient: they are not split for the threshold"),
      nDefects ? tick("defects", `Learn from ${plural(nDefects, "known defect")}, too`, "they teach the map; the good images alone define what is normal") : null,
      order,
      unfinished.length ? h("div", h("h3", "Unfinished"), unfinished.map((name) => h("div", h("p", name), action({ kind: "train", label: "Resume", wish: () => ({ resume: name }), done: ended })))) : null),
    now));
  showNow();
  jobEvents.addEventListener("change", showNow);
  return () => jobEvents.removeEventListener("change", showNow);
}

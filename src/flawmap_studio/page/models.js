// Models: what was trained, what was changed since, and what can be done with it.
import { action } from "/page/action.js";
import { fill, h, nameOf, plural, problemBox } from "/page/elements.js";
import { outcomeAt } from "/page/scores.js";
import { downloadOf, get, reportOf } from "/page/server.js";

export async function show(main, wanted) {
  const [{ models, latest }, { results }] = await Promise.all([get("/api/models"), get("/api/results")]);
  if (!models.length) return void fill(main, h("div.empty", h("h2", "No model yet"), h("p.quiet", "Models appear here when they were trained."), h("p", h("a", { href: "#train" }, "Train one"))));
  const name = models.find((model) => model.name === wanted)?.name ?? latest ?? models[0].name;
  const model = models.find((one) => one.name === name);
  const again = () => show(main, name);
  const rows = models.map((one) => h("tr", { "aria-current": one.name === name ? "true" : null },
    h("td", h("a", { href: `#models/${encodeURIComponent(one.name)}` }, one.name), one.name === latest ? h("span.tag", "latest") : null),
    h("td", one.finished ? new Date(one.finished).toLocaleString() : ""),
    h("td.right", one.n_images ?? ""), h("td.right", one.threshold ? one.threshold.threshold.toFixed(3) : "none"),
    h("td.right", one.updates?.length ?? ""), h("td.right", one.measures?.auroc ? one.measures.auroc.value.toFixed(3) : "")));
  fill(main, h("div.side",
    h("section.card", { "aria-label": "Models" }, h("h2", "Models"), h("div.scroll", h("table", h("thead", h("tr", h("th", "Model"), h("th", "Trained"), h("th.right", "Images"), h("th.right", "Threshold"), h("th.right", "Updates"), h("th.right", "AUROC"))), h("tbody", rows)))),
    model.problem ? problemBox(model.problem) : detail(model, again),
    compareCard(results)));
}

function detail(model, again) {
  const run = model.name;
  const camera = h("input", { type: "text", placeholder: "none", maxLength: 64, oninput: () => calibrate.refresh() });
  const rate = h("input", { type: "number", min: 0.01, max: 49, step: "any", placeholder: "as before", oninput: () => calibrate.refresh() });
  const source = h("select", { onchange: () => calibrate.refresh() }, h("option", { value: "test" }, "test images that are labelled good"), h("option", { value: "reviews" }, "reviewed images"));
  const to = h("select", { onchange: () => exporting.refresh() }, ["onnx", "openvino", "torchscript"].map((one) => h("option", { value: one }, one)));
  const field = (text, control) => h("label.field", h("span", text), control);
  const calibrate = action({ kind: "calibrate", label: "Calibrate", done: again, wish: () => ({ run, source: source.value, ...(camera.value ? { camera: camera.value } : {}), ...(rate.value ? { false_alarm_rate: Number(rate.value) / 100 } : {}) }) });
  const outcome = h("div", { role: "status" });
  const exporting = action({ kind: "export", label: "Export", isPrimary: true, wish: () => ({ run, to: to.value }), done: exported });
  const files = h("ul.plain", model.exported.map((file) => h("li", h("a", { href: downloadOf(file.path), download: nameOf(file.path) }, nameOf(file.path)), h("span.quiet", ` ${(file.bytes / 1e6).toFixed(0)} MB`))));

  async function exported(job) {
    await again();
    if (job.state !== "done" || !job.answer) return;
    const { file, n, max_score_difference: difference, n_verdicts_changed: changed } = job.answer;
    const text = file ? `Checked on ${plural(n, "image")}: scores differ by at most ${difference.toPrecision(2)}, ${plural(changed, "verdict")} changed.` : "The file did not answer as the run does, and was not kept.";
    document.querySelector("#exported")?.replaceChildren(h(file ? "div.advice" : "div.problem", h("p", text)));
  }

  outcome.id = "exported";
  const words = (threshold) => threshold ? threshold.words.map((line) => h("p", line)) : "none";
  return h("div.columns",
    h("section.card", { "aria-label": "Model" }, h("h2", run),
      h("dl", h("dt", "Learned from"), h("dd", plural(model.n_images, "good image")), h("dt", "Threshold"), h("dd", words(model.threshold)),
        Object.entries(model.cameras).map(([name, threshold]) => [h("dt", `Camera ${name}`), h("dd", words(threshold))]),
        h("dt", "Version"), h("dd", model.version ?? "as trained"), h("dt", "Command"), h("dd", h("code", model.command))),
      h("div.bar", h("a", { href: `#result/${encodeURIComponent(run)}` }, "Result"), model.has_report ? h("a", { href: reportOf(run), target: "_blank", rel: "noopener" }, "Report") : null),
      h("h3", "Updates"), model.updates.length ? [h("ol", model.updates.map((one) => h("li", `${new Date(one.at).toLocaleString()}: ${plural(one.n_new, "image")} learned`))), action({ kind: "undo", label: "Undo the last update", wish: () => ({ run }), done: again })] : h("p.quiet", "none; Review adds images that you call good"),
      h("h3", "Thresholds that were set"), model.history.length ? [h("pre", { tabIndex: 0, "aria-label": "History of the thresholds" }, model.history.join("\n")), action({ kind: "undo-calibration", label: "Take back the last one", wish: () => ({ run, ...(camera.value ? { camera: camera.value } : {}) }), done: again })] : h("p.quiet", "only that of the training")),
    h("div.side",
      h("section.card", { "aria-label": "Export" }, h("h2", "Export for the line"), h("p.quiet", "One file that runs without torch; it is checked against the model."), field("Runtime", to), exporting, outcome, files),
      h("section.card", { "aria-label": "Calibrate" }, h("h2", "Calibrate"), h("p.quiet", "Sets the threshold from good images that the model has not learned from, for example of another camera."),
        field("Good images", source), field("Camera", camera), field("False alarms, in percent", rate), calibrate)));
}

function compareCard(results) {
  if (results.length < 2) return h("section.card", { "aria-label": "Compare" }, h("h2", "Compare"), h("p.quiet", "Two tests on the same images can be compared here: of two models, or of one before and after an update."));
  const choose = (at) => h("select", { "aria-label": at ? "Second test" : "First test", onchange: update }, results.map((one, index) => h("option", { value: one.name, selected: index === 1 - at }, `${one.name} (${new Date(1000 * one.at).toLocaleString()})`)));
  const pair = [choose(0), choose(1)];
  const table = h("div.scroll", { role: "status" });

  async function update() {
    const [first, second] = await Promise.all(pair.map((one) => get("/api/result", { name: one.value })));
    const others = new Map(second.images.map((image) => [image.path, image]));
    const both = first.images.filter((image) => others.has(image.path)).map((image) => [image, others.get(image.path)]);
    if (!both.length) return fill(table, h("p.quiet", "These tests have no image in common."));
    const sides = [0, 1].map((side) => outcomeAt(both[0][side].threshold ?? Infinity, both.map((images) => images[side]), []));
    const changed = both.filter(([one, other]) => one.is_anomalous !== other.is_anomalous);
    const row = (what, values) => h("tr", h("td", what), values.map((value) => h("td.right", value)));
    fill(table, h("p.quiet", `${plural(both.length, "image")} in both`), h("table", h("thead", h("tr", h("th", ""), h("th.right", pair[0].value), h("th.right", pair[1].value))), h("tbody",
      row("Threshold", both[0].map((image) => image.threshold?.toFixed(3) ?? "none")),
      sides[0].nGood ? row("False alarms, of good images", sides.map((side) => `${side.falseAlarms} of ${side.nGood}`)) : null,
      sides[0].nDefects ? row("Missed, of defects", sides.map((side) => `${side.missed} of ${side.nDefects}`)) : null,
      changed.slice(0, 50).map((images) => h("tr", h("td", `${images[0].path}${images[0].label ? ` (${images[0].label})` : ""}`), images.map((image) => h("td.right", h(image.is_anomalous ? "span.badge.anomaly" : "span.badge.ok", image.is_anomalous ? "anomaly" : "ok"), ` ${image.score.toFixed(2)}`)))))),
      h("p.quiet", changed.length ? `${plural(changed.length, "verdict")} changed` : "No verdict changed"));
  }

  update();
  return h("section.card", { "aria-label": "Compare" }, h("h2", "Compare two tests"), h("div.bar", pair), table);
}

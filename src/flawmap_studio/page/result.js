// Result: test a model, look at the maps, and see what another threshold would do.
import { action } from "/page/action.js";
import { fill, h, nameOf, percent, plural } from "/page/elements.js";
import { Grid } from "/page/grid.js";
import { camerasOf, images } from "/page/image_store.js";
import { binned, outcomeAt, rangeOf } from "/page/scores.js";
import { get, overlayOf, pictureOf, reportOf } from "/page/server.js";

const BINS = 60;
const asked = {}; // false-alarm rate by run, from the slider

export async function show(main, wanted) {
  const [{ models, latest }, { results }] = await Promise.all([get("/api/models"), get("/api/results")]);
  if (!models.length) return void fill(main, h("div.empty", h("h2", "No model yet"), h("p.quiet", "Results appear here when a model was trained."), h("p", h("a", { href: "#train" }, "Train one"))));
  main.className = "full";
  const run = models.find((model) => model.name === wanted)?.name ?? latest ?? models[0].name;
  const model = models.find((one) => one.name === run);
  const tests = results.filter((one) => one.run === `runs/${run}`);
  const found = tests.length ? await get("/api/result", { name: tests[0].name }) : null;
  const side = h("div.side");
  const viewer = h("div.viewer");
  fill(main, h("div.columns", side, viewer));

  const which = h("select", { "aria-label": "Model", onchange: () => (location.hash = `result/${encodeURIComponent(which.value)}`) },
    models.map((one) => h("option", { value: one.name, selected: one.name === run }, one.name)));
  const again = () => show(main, run);
  const report = () => model.has_report ? h("a", { href: reportOf(run), target: "_blank", rel: "noopener" }, "Open the report") : null;
  const names = camerasOf(images.all.filter((image) => image.use === "test"));
  const camera = h("select", { "aria-label": "Camera", hidden: !names.length, onchange: () => test.refresh() },
    h("option", { value: "" }, "Images of all cameras"), names.map((name) => h("option", { value: name }, `Camera ${name}`)));
  const test = action({ kind: "test", label: found ? "Test again" : "Test the images", isPrimary: !found, done: again, wish: () => ({ run, ...(camera.value ? { camera: camera.value } : {}), ...(asked[run] ? { false_alarm_rate: asked[run] } : {}) }) });
  fill(side,
    h("section.card", { "aria-label": "Model" }, h("div.bar", h("h2", "Model"), which),
      h("dl", h("dt", "Threshold"), h("dd", model.threshold ? model.threshold.words.map((line) => h("p", line)) : "none yet: Models, Calibrate"),
        h("dt", "Learned from"), h("dd", plural(model.n_images ?? 0, "good image")),
        model.unusual?.length ? [h("dt", "Unusual"), h("dd", `${plural(model.unusual.length, "good image")} look unusual: ${model.unusual.slice(0, 3).map(nameOf).join(", ")}`)] : null)),
    found ? thresholdCard(found, run) : null,
    h("section.card", { "aria-label": "Test" }, h("h2", "Test"), camera, test),
    found && images.all.some((image) => image.use === "test" && image.label === "defect") ? measuresCard(model, run, again) : null,
    h("section.card", { "aria-label": "Report" }, h("h2", "Report"), action({ kind: "report", label: "Write the report", wish: () => ({ run }), done: again }), report()));
  if (!found) return void fill(viewer, h("div.empty", h("h2", "Not tested yet"), h("p.quiet", images.all.some((image) => image.use === "test") ? "Press “Test the images”." : "Drop images to test on the page Images first.")));
  return showImages(viewer, found);
}

function thresholdCard(found, run) {
  const shown = found.images;
  const own = shown[0]?.threshold ?? null;
  const range = rangeOf(shown, found.good_scores, own);
  const slider = h("input", { type: "range", min: range[0], max: range[1], step: (range[1] - range[0]) / 1000, value: own ?? range[1], "aria-label": "Threshold", oninput: moved });
  const numbers = h("div.outcome", { role: "status" });
  const chart = h("div");
  const use = h("button", { type: "button", onclick: choose }, "Use for the next test");
  const back = h("button.plain", { type: "button", onclick: () => { slider.value = threshold = own ?? range[1]; delete asked[run]; note.textContent = ""; update(); } }, "Back to the model's");
  const note = h("p.quiet");

  let threshold = own ?? range[1]; // the slider has steps, between which the model's threshold may lie

  function moved() {
    threshold = Number(slider.value);
    update();
  }

  function update() {
    const at = outcomeAt(threshold, shown, found.good_scores);
    slider.setAttribute("aria-valuetext", threshold.toFixed(3));
    const stat = (title, big, small) => h("div.stat", h("span.quiet", title), h("span.big", big), h("span.quiet", small));
    fill(numbers, stat("Threshold", threshold.toFixed(2), own === null ? "" : `the model's is ${own.toFixed(2)}`),
      at.nGood ? stat("False alarms", `${at.falseAlarms} of ${at.nGood}`, "good test images") : null,
      at.nDefects ? stat("Missed", `${at.missed} of ${at.nDefects}`, "defects") : null,
      stat("Anomalous", `${at.anomalous} of ${shown.length}`, "all tested"),
      at.rate === null ? null : stat("Expected", percent(at.rate), "false alarms, from the good images that it learned"));
    fill(chart, histogram(shown, range, threshold));
    use.disabled = at.rate === null || at.rate >= 1;
    use.title = at.rate === null ? "The model has no threshold" : `Judge by the threshold for ${percent(at.rate)} false alarms`;
  }

  function choose() {
    asked[run] = Number(outcomeAt(threshold, shown, found.good_scores).rate.toPrecision(3));
    note.textContent = `The next test judges by the threshold for ${percent(asked[run], 2)} false alarms: --false-alarm-rate ${asked[run]}`;
  }

  update();
  return h("section.card", { "aria-label": "Threshold" }, h("h2", "Threshold"), numbers, chart, slider, h("div.bar", use, back), note);
}

function histogram(shown, [low, high], threshold) {
  const counts = binned(shown, [low, high], BINS);
  const most = Math.max(1, ...counts.good.map((_, bin) => counts.good[bin] + counts.defect[bin] + counts.other[bin]));
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const add = (name, attributes, text) => {
    const element = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    svg.append(element);
  };
  svg.setAttribute("viewBox", "0 0 600 150");
  svg.setAttribute("class", "chart");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "How many images have which score: good in green, defects in red, others in gray; the line is the threshold");
  for (let bin = 0; bin < BINS; bin++) {
    let top = 128;
    for (const kind of ["good", "other", "defect"]) {
      const height = (counts[kind][bin] / most) * 110;
      if (!height) continue;
      top -= height;
      add("rect", { x: bin * (600 / BINS) + 1, y: top, width: 600 / BINS - 2, height, class: kind });
    }
  }
  const x = ((threshold - low) / (high - low)) * 600;
  add("line", { x1: x, x2: x, y1: 6, y2: 130, class: "mark" });
  add("text", { x: 0, y: 146 }, "normal");
  add("text", { x: 600, y: 146, "text-anchor": "end" }, "anomalous");
  return svg;
}

function measuresCard(model, run, again) {
  const line = (name, title) => {
    const measure = model.measures?.[name];
    return measure ? [h("dt", title), h("dd.number", `${measure.value.toFixed(3)}${measure.low === null ? "" : ` (95 %: ${measure.low.toFixed(3)} to ${measure.high.toFixed(3)})`}`)] : null;
  };
  return h("section.card", { "aria-label": "Measures" }, h("h2", "Measures"),
    model.measures ? h("dl", line("auroc", "AUROC"), line("ap", "Average precision"), line("f1_max", "F1, best")) : h("p.quiet", "AUROC and other measures on the labelled test images"),
    action({ kind: "evaluate", label: "Measure", wish: () => ({ run }), done: again }));
}

function showImages(viewer, found) {
  const shown = found.images.toSorted((a, b) => b.score - a.score);
  const title = h("h2");
  const verdict = h("p", { role: "status" });
  const picture = h("img", { alt: "" });
  const stage = h("div.stage", picture);
  const state = { item: null, original: false };
  const toggle = h("button", { type: "button", "aria-pressed": false, onclick: () => { state.original = !state.original; draw(); } }, "Original");
  const grid = new Grid({ label: "Tested images, most anomalous first", badge: (image) => [image.is_anomalous ? "anomaly" : "ok", image.is_anomalous ? "defect" : "good"],
    caption: (image) => `${image.score.toFixed(2)}  ${nameOf(image.path)}`, onchange: () => { state.item = grid.items[grid.active] ?? state.item; draw(); } });
  function draw() {
    const { item } = state;
    if (!item) return;
    title.textContent = item.path;
    picture.src = state.original || !item.has_overlay ? pictureOf(item.path) : overlayOf(found.name, item.path);
    picture.alt = `${item.path}: ${item.is_anomalous ? "anomaly" : "ok"}, score ${item.score.toFixed(2)}`;
    toggle.setAttribute("aria-pressed", state.original);
    fill(verdict, h(item.is_anomalous ? "span.badge.anomaly" : "span.badge.ok", item.threshold === null ? "no threshold" : item.is_anomalous ? "anomaly" : "ok"), ` score ${item.score.toFixed(3)}`,
      item.threshold === null ? "" : `, threshold ${item.threshold.toFixed(3)}`, item.label ? h("span.quiet", ` · labelled ${item.label}`) : null, item.regions ? h("span.quiet", ` · ${plural(item.regions, "region")}`) : null);
  }
  fill(viewer, found.drift ? h("div.problem", { role: "status" }, h("strong", "Drift"), h("p", found.drift)) : null,
    found.not_scored.length ? h("div.problem", h("strong", `${plural(found.not_scored.length, "image")} could not be scored`), found.not_scored.map((one) => h("p", `${one.image}: ${one.problem}`))) : null,
    h("div.bar.apart", title, h("div.bar", verdict, toggle)), stage, grid.element);
  grid.element.classList.add("short");
  grid.show(shown);
  if (shown.length) {
    grid.active = 0;
    grid.only(0);
    grid.update();
  }
  return () => grid.sizes.disconnect();
}

// The inspection page: files go in, a table lists them by score, one image is shown, verdicts go to reviews.csv.
"use strict";

const KEPT_DETAILS = 12; // images whose maps stay in memory
const LOOK_AGAIN_MS = 5000; // for a new threshold
const byId = (id) => document.getElementById(id);
const state = { rows: [], waiting: [], active: 0, model: null, threshold: null, selected: null, painted: null, colours: [], token: "", seconds: [], detailed: [] };
const panes = new ImagePanes(byId("panes"), (zoom) => { byId("zoom-value").textContent = zoom === 1 ? "fit" : `${zoom.toFixed(1)} ×`; });
const windowLevel = new WindowLevel(byId("window-level"), (canvas) => panes.setSource(canvas));

// ---- the model

async function loadModel() {
  try {
    state.model = await answerOf(await ask("/v1/model"));
    const table = await (await ask("/page/colours.json")).json();
    state.colours = table.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  } catch (error) {
    byId("model").textContent = `Cannot reach the model: ${error.message}`;
    return;
  }
  showModel();
  state.threshold = state.model.threshold;
  showScale();
  showThreshold();
  if (!state.rows.length) await loadSession().catch((error) => problem("session", error.message));
  await showLine().catch((error) => problem("drift", error.message));
}

function showModel() {
  const { name, camera, threshold, false_alarm_rate: rate, n_held_out: count, sizes_px: sizes, precision, behind, threshold_file: file, min_area_px: area } = state.model;
  const promise = threshold === null
    ? "no threshold yet; flawmap calibrate sets one"
    : `threshold ${number(threshold)}${camera ? ` of camera ${camera}` : ""} for ${(100 * rate).toFixed(1)} % false alarms, from ${count} good images${file ? `, in ${file}` : ""}${area ? `; regions from ${number(area)} px` : ""}`;
  byId("model").textContent = `${name} · ${sizes.join(", ")} px, ${precision} · ${promise}`;
  byId("behind").textContent = behind;
  offer("camera", "taken-by", state.model.cameras, camera, "not named");
  offer("product", "showing", state.model.products, state.model.product, "found by likeness");
}

// Whose thresholds and region of interest are for the next images. What a person has chosen stays chosen.
function offer(id, part, names, served, without) {
  const select = byId(id);
  const named = [...new Set([...names, served])].filter(Boolean).map((name) => new Option(name, name));
  const options = served ? named : [new Option(without, ""), ...named];
  const chosen = select.options.length ? select.value : served ?? "";
  select.replaceChildren(...options);
  select.value = options.some(({ value }) => value === chosen) ? chosen : options[0]?.value ?? "";
  byId(part).hidden = !names.length;
}

// A calibration or another model changes the threshold while the page is open; a slider that was moved stays where it is.
async function followModel() {
  if (document.hidden || !state.model) return;
  let model;
  try {
    model = await answerOf(await ask("/v1/model"));
  } catch {
    return; // the next upload says what is wrong
  }
  showLine().catch(() => {}); // the next upload says what is wrong
  const before = state.model;
  state.model = model;
  showModel();
  if (model.model_id !== before.model_id) loadSession().catch((error) => problem("session", error.message)); // scores the kept images again
  if (model.threshold === before.threshold && String(model.map_scale) === String(before.map_scale)) return;
  if (state.threshold === before.threshold) setThreshold(model.threshold);
  showScale();
  showThreshold();
  for (const row of state.rows) row.details = null; // maps were drawn on the former scale
  if (state.selected) {
    const [row, note] = [state.selected, byId("note").value];
    state.selected = state.painted = null;
    const shown = select(row);
    byId("note").value = note; // which may just be written
    await shown;
  }
}

function showScale() {
  const bar = byId("colour-bar").getContext("2d");
  const content = bar.createImageData(256, 1);
  state.colours.forEach((colour, at) => content.data.set([...colour, 255], 4 * at));
  bar.putImageData(content, 0, 0);
  const [low, high] = state.model.map_scale;
  byId("scale-low").textContent = `${number(low)} normal`;
  byId("scale-middle").textContent = number((low + high) / 2);
  byId("scale-high").textContent = `${number(high)} anomalous`;
}

// ---- the threshold

function showThreshold() {
  const slider = byId("threshold");
  slider.disabled = byId("calibrated").disabled = state.threshold === null;
  if (state.threshold === null) return;
  const values = [state.threshold, state.model.threshold, ...state.rows.map((row) => row.answer.score)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max(1e-3, 0.05 * (high - low));
  slider.min = low - margin;
  slider.max = high + margin;
  slider.step = (high - low + 2 * margin) / 1000;
  slider.value = state.threshold;
  byId("threshold-value").textContent = number(state.threshold);
}

function setThreshold(value) {
  state.threshold = value;
  byId("threshold-value").textContent = number(value);
  for (const row of state.rows) fill(row);
  showCounts();
  if (state.selected) showVerdict(state.selected);
}

// ---- one image

async function select(row) {
  if (state.selected === row && state.painted === row) return;
  state.selected = row;
  state.painted = null; // until its picture is on the screen, no review is of it
  for (const other of state.rows) other.line.setAttribute("aria-current", String(other === row));
  row.line.scrollIntoView({ block: "nearest" });
  byId("nothing").hidden = true;
  byId("shown").hidden = false;
  byId("name").textContent = row.name;
  byId("note").value = row.note;
  byId("saved").textContent = "";
  showVerdict(row);
  showReview(row);
  showRegions(row);
  panes.clear();
  windowLevel.show(null);
  try {
    row.details ??= await detailsOf(row);
  } catch (error) {
    byId("saved").textContent = `the image cannot be shown: ${error.message}`;
    return;
  }
  forgetOldDetails(row);
  if (state.selected !== row) return;
  const { source, map, inside, attention, deep } = row.details;
  windowLevel.show(deep);
  panes.show(deep ? deep.canvas : source, map, inside, attention, state.colours);
  await painted();
  if (state.selected !== row) return;
  state.painted = row;
  showVerdict(row);
}

// After the next frame: what was drawn before is then on the screen. A hidden tab has no frames, and nobody looks at it.
const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

async function detailsOf(row) {
  row.file ??= await keptFile(row.answer.sha256, row.name);
  const answer = await score(row.file, { name: row.name, camera: row.camera, product: row.answer.product, withMaps: true });
  const map = await bitmapOf(answer.map_png);
  const inside = answer.inside_png ? await bitmapOf(answer.inside_png) : null;
  const attention = answer.attention_png ? await bitmapOf(answer.attention_png) : null;
  const { picture } = answer;
  if (picture?.window) return { source: null, map, inside, attention, deep: new DeepImage(await bitmapOf(picture.png), picture) };
  const source = picture ? await bitmapOf(picture.png) : await createImageBitmap(row.file);
  return { source, map, inside, attention, deep: null };
}

function forgetOldDetails(newest) {
  state.detailed = [newest, ...state.detailed.filter((row) => row !== newest)];
  for (const row of state.detailed.splice(KEPT_DETAILS)) row.details = null;
}

function showVerdict(row) {
  const { score: value, width_px: width, height_px: height } = row.answer;
  byId("verdict").replaceChildren(badge(row), `${[row.answer.product, row.answer.camera].map((part) => (part ? ` ${part} ·` : "")).join("")} score ${number(value)} · ${width} × ${height} px`);
  const verdict = state.threshold === null ? "" : isAnomalous(row) ? "“anomaly”" : "“ok”";
  byId("question").textContent = verdict ? `Is ${verdict} right?` : "Without a threshold there is no verdict.";
  byId("agree").disabled = byId("disagree").disabled = !verdict || state.painted !== row;
}

function showReview(row) {
  for (const word of ["agree", "disagree"]) byId(word).setAttribute("aria-pressed", String(row.review === word));
}

function showRegions(row) {
  const { regions, n_small_regions: small } = row.answer;
  const count = regions.length === 1 ? "1 region" : `${regions.length || "No"} regions`;
  byId("regions-title").textContent = small ? `${count}, ${small} too small` : count;
  byId("regions").replaceChildren(...regions.map((region) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const [x0, y0, x1, y1] = region.box_xyxy_px;
    button.type = "button";
    button.textContent = `${region.area_px} px at (${(x0 + x1) >> 1}, ${(y0 + y1) >> 1}), peak ${number(region.peak_score)}`;
    button.addEventListener("click", () => { if (panes.layers) panes.goTo(region.box_xyxy_px); });
    item.append(button);
    return item;
  }));
}

// ---- reviews

async function review(word) {
  const row = state.selected;
  if (!row || state.threshold === null) return;
  if (state.painted !== row) {
    byId("saved").textContent = "Look first: the image is not shown yet.";
    return;
  }
  const note = byId("note").value;
  const { sha256, model_id } = row.answer;
  const verdict = { image: row.name.slice(-255), sha256, model_id, threshold: thresholdOf(row), review: word, note };
  try {
    const written = await answerOf(await ask("/v1/reviews", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(verdict) }));
    Object.assign(row, { review: word, note });
    if (state.selected === row) {
      byId("saved").textContent = `saved as ${written.truth === "good" ? "good" : "a defect"}`;
      showReview(row);
    }
    fill(row);
    showCounts();
  } catch (error) {
    byId("saved").textContent = `not saved: ${error.message}`;
  }
}

function step(by) {
  const listed = state.rows.filter((row) => isListed(row) || row === state.selected);
  const next = listed[Math.min(listed.length - 1, Math.max(0, listed.indexOf(state.selected) + by))];
  if (next && next !== state.selected) select(next);
  else if (next) byId("saved").textContent = by > 0 ? "This is the last image of the list." : "This is the first image of the list.";
}

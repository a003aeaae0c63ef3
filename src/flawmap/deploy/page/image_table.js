// The table of scored images, highest score first, its filter, and the counts above it.
"use strict";

// All regions are smaller than the server's minimum area: such an image is ok whatever its score.
const isTolerated = (row) => row.answer.n_small_regions > 0 && !row.answer.regions.length;
// The slider is the common threshold; it moves those of products and other cameras with it.
const hasItsOwn = ({ answer, camera }) => (answer.product || camera) && answer.threshold !== null && state.model.threshold !== null;
const thresholdOf = (row) => state.threshold + (hasItsOwn(row) ? row.answer.threshold - state.model.threshold : 0);
const isAnomalous = (row) => state.threshold !== null && (row.answer.is_unknown_product || (row.answer.score > thresholdOf(row) && !isTolerated(row)));
const number = (value) => (value === 0 || Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3));
const FILTERS = {
  all: () => true,
  anomaly: isAnomalous,
  ok: (row) => !isAnomalous(row),
  open: (row) => !row.review,
  disagree: (row) => row.review === "disagree",
};

// Insert a new row and leave the others untouched, so that no button loses the focus. The first image to arrive stays
// selected until the user chooses another, so that a review is of the image that was looked at.
function insert(row) {
  const same = state.rows.find((other) => other.answer.sha256 === row.answer.sha256);
  if (same) {
    const isOfAnother = row.answer.camera !== same.answer.camera || row.answer.product !== same.answer.product;
    Object.assign(same, { name: row.name, camera: row.camera, file: row.file ?? same.file, answer: row.answer });
    move(same);
    if (!isOfAnother) return;
    same.details = null; // another region of interest may count
    if (state.selected !== same) return;
    state.selected = state.painted = null;
    select(same);
    return;
  }
  row.line = rowElement(row);
  place(row);
  if (!state.selected) select(row);
}

function move(row) {
  state.rows.splice(state.rows.indexOf(row), 1);
  const line = rowElement(row);
  row.line.remove();
  row.line = line;
  place(row);
  fill(row);
  row.line.setAttribute("aria-current", String(row === state.selected));
}

function place(row) {
  const after = state.rows.findIndex((other) => other.answer.score < row.answer.score);
  byId("table").insertBefore(row.line, after < 0 ? null : state.rows[after].line);
  state.rows.splice(after < 0 ? state.rows.length : after, 0, row);
  fill(row);
  showThreshold();
}

function rowElement(row) {
  const line = document.createElement("tr");
  line.setAttribute("aria-current", "false");
  line.addEventListener("click", () => select(row));
  const name = document.createElement("button");
  name.type = "button";
  name.title = row.name;
  const text = document.createElement("span");
  text.textContent = row.name.split("/").pop();
  name.append(thumbnail(row), text);
  line.append(cell(name), cell(badge(row)), cell(number(row.answer.score), "number"), cell(""));
  return line;
}

function thumbnail(row) {
  const picture = document.createElement("img");
  picture.alt = "";
  picture.width = picture.height = 34;
  if (row.answer.thumbnail) picture.src = `data:image/jpeg;base64,${row.answer.thumbnail}`;
  return picture;
}

// Update what depends on the threshold, on the review and on the filter.
function fill(row) {
  const [, verdict, , reviewed] = row.line.children;
  verdict.replaceChildren(badge(row));
  reviewed.textContent = row.review ? `${row.review}${row.note ? " ✎" : ""}` : "";
  row.line.hidden = !isListed(row);
}

function isListed(row) {
  const wanted = byId("search").value.trim().toLowerCase();
  return FILTERS[byId("filter").value](row) && row.name.toLowerCase().includes(wanted);
}

function cell(content, className = "") {
  const element = document.createElement("td");
  element.className = className;
  element.append(content);
  return element;
}

function badge(row) {
  const element = document.createElement("span");
  const [text, kind] = state.threshold === null ? ["–", "none"] : row.answer.is_unknown_product ? ["unknown product", "anomaly"] : isAnomalous(row) ? ["anomaly", "anomaly"] : ["ok", "ok"];
  element.textContent = text;
  element.className = `badge ${kind}`;
  return element;
}

function showCounts() {
  const { rows, waiting, active } = state;
  byId("clear").disabled = byId("save-table").disabled = !rows.length;
  if (!rows.length && !waiting.length && !active) {
    byId("counts").textContent = "No images yet.";
    return;
  }
  const pending = waiting.length + active;
  const anomalous = rows.filter(isAnomalous).length;
  const reviewed = rows.filter((row) => row.review).length;
  const listed = rows.filter(isListed).length;
  byId("counts").textContent = `${anomalous} of ${rows.length} anomalous` + (reviewed ? `, ${reviewed} reviewed` : "")
    + (listed < rows.length ? `, ${listed} listed` : "") + (pending ? `, ${pending} waiting` : "");
  const mean = state.seconds.reduce((sum, seconds) => sum + seconds, 0) / Math.max(1, state.seconds.length);
  byId("speed").textContent = state.seconds.length ? `${mean.toFixed(2)} s per image` : "";
}

function showFilter() {
  for (const row of state.rows) fill(row);
  showCounts();
}

// The table of scored images, highest score first, and the counts above it.
"use strict";

const isAnomalous = (row) => state.threshold !== null && row.answer.score > state.threshold;
const number = (value) => (value === 0 || Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3));

// Insert a new row and leave the others untouched, so that no button loses the focus. The first image to arrive stays
// selected until the user chooses another, so that a review is of the image that was looked at.
function insert(row) {
  const after = state.rows.findIndex((other) => other.answer.score < row.answer.score);
  row.line = rowElement(row);
  byId("table").insertBefore(row.line, after < 0 ? null : state.rows[after].line);
  state.rows.splice(after < 0 ? state.rows.length : after, 0, row);
  showThreshold();
  if (!state.selected) select(row);
}

function rowElement(row) {
  const line = document.createElement("tr");
  line.setAttribute("aria-current", "false");
  const name = document.createElement("button");
  name.type = "button";
  name.textContent = name.title = row.file.name;
  name.addEventListener("click", () => select(row));
  line.append(cell(name), cell(badge(row)), cell(number(row.answer.score), "number"), cell(""));
  return line;
}

// Update what depends on the threshold and on the review.
function fill(row) {
  const [, verdict, , reviewed] = row.line.children;
  verdict.replaceChildren(badge(row));
  reviewed.textContent = row.review ? `${row.review}${row.note ? " ✎" : ""}` : "";
}

function cell(content, className = "") {
  const element = document.createElement("td");
  element.className = className;
  element.append(content);
  return element;
}

function badge(row) {
  const element = document.createElement("span");
  const [text, kind] = state.threshold === null ? ["–", "none"] : isAnomalous(row) ? ["anomaly", "anomaly"] : ["ok", "ok"];
  element.textContent = text;
  element.className = `badge ${kind}`;
  return element;
}

function showCounts() {
  const { rows, waiting, active } = state;
  if (!rows.length && !waiting.length && !active) return;
  const pending = waiting.length + active;
  const anomalous = rows.filter(isAnomalous).length;
  const reviewed = rows.filter((row) => row.review).length;
  byId("counts").textContent = `${anomalous} of ${rows.length} anomalous` + (reviewed ? `, ${reviewed} reviewed` : "") + (pending ? `, ${pending} waiting` : "");
  const mean = state.seconds.reduce((sum, seconds) => sum + seconds, 0) / Math.max(1, state.seconds.length);
  byId("speed").textContent = state.seconds.length ? `${mean.toFixed(2)} s per image` : "";
}

// The table of scored images, highest score first, and the counts above it.
"use strict";

const isAnomalous = (row) => state.threshold !== null && row.answer.score > state.threshold;
const number = (value) => (value === 0 || Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3));

function showTable() {
  state.rows.sort((one, other) => other.answer.score - one.answer.score);
  byId("table").replaceChildren(...state.rows.map(rowElement));
  showThreshold();
  showCounts();
  if (!state.selected && state.rows.length) select(state.rows[0]);
}

function rowElement(row) {
  const line = document.createElement("tr");
  line.setAttribute("aria-current", String(row === state.selected));
  const name = document.createElement("button");
  name.type = "button";
  name.textContent = name.title = row.file.name;
  name.addEventListener("click", () => choose(row));
  line.append(cell(name), cell(badge(row)), cell(number(row.answer.score), "number"), cell(row.review ? `${row.review}${row.note ? " ✎" : ""}` : ""));
  row.line = line;
  return line;
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
  const left = waiting.length + active;
  const anomalous = rows.filter(isAnomalous).length;
  const reviewed = rows.filter((row) => row.review).length;
  byId("counts").textContent = `${anomalous} of ${rows.length} anomalous` + (reviewed ? `, ${reviewed} reviewed` : "") + (left ? `, ${left} waiting` : "");
  const mean = state.seconds.reduce((sum, one) => sum + one, 0) / Math.max(1, state.seconds.length);
  byId("speed").textContent = state.seconds.length ? `${mean.toFixed(2)} s per image` : "";
}

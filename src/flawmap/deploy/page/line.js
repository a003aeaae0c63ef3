// What the server knows of the line: a warning while images drift, and false alarms by day.
"use strict";

const digits = (share) => (100 * share).toFixed(share < 0.1 ? 1 : 0);
const percent = (share) => `${digits(share)} %`;

async function showLine() {
  const [drift, days] = await Promise.all(["/v1/drift", "/v1/days"].map(async (path) => answerOf(await ask(path))));
  showDrift(drift.cameras.filter((camera) => camera.is_warning));
  showDays(days);
}

function showDrift(warnings) {
  const part = byId("drift");
  part.hidden = !warnings.length;
  const said = JSON.stringify(warnings);
  if (part.dataset.said === said) return; // a screen reader would read it again
  part.dataset.said = said;
  const wereOpen = new Set([...part.querySelectorAll("details[open]")].map((details) => details.dataset.camera));
  part.replaceChildren(...warnings.flatMap((warning) => {
    const { camera } = warning;
    const measures = warning.measures.filter((measure) => measure.is_warning).map((measure) => measure.measure);
    const heading = document.createElement("strong");
    heading.textContent = `${camera ? `Camera ${camera}: i` : "I"}mages have moved away from the good ones (${measures.join(" and ")}).`;
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    const text = document.createElement("p");
    summary.textContent = "Since when, by how much, and what to do";
    text.textContent = warning.text;
    details.append(summary, text);
    details.dataset.camera = String(camera);
    details.open = wereOpen.has(String(camera));
    const moved = new Map(warning.measures.filter((measure) => measure.is_warning).flatMap((measure) => measure.moved_most.map((one) => [one.sha256, one])));
    const pictures = document.createElement("ul");
    pictures.append(...[...moved.values()].map(movedImage));
    return [heading, pictures, details];
  }));
}

function movedImage({ image, sha256, thumbnail }) {
  const item = document.createElement("li");
  const picture = document.createElement("img");
  if (thumbnail) picture.src = `data:image/jpeg;base64,${thumbnail}`;
  picture.alt = "";
  const name = document.createElement("span");
  name.textContent = image || `${sha256.slice(0, 8)}…`;
  name.title = image || sha256;
  item.append(...(thumbnail ? [picture] : []), name);
  return item;
}

function showDays({ wanted_rate: wanted, days }) {
  byId("days-part").hidden = !days.length;
  const newest = days[0];
  const today = newest && newest.rate !== null ? `, ${percent(newest.rate)} on ${newest.day}` : "";
  byId("days-title").textContent = `False alarms by day${today}${wanted === null ? "" : ` (wanted: ${percent(wanted)})`}`;
  byId("days").replaceChildren(...days.map((day) => {
    const line = document.createElement("tr");
    const rate = day.rate === null ? "no reviews" : `${percent(day.rate)} (${digits(day.rate_low)}–${digits(day.rate_high)})`;
    const cells = [day.camera ? `${day.day} ${day.camera}` : day.day, day.images, day.alarms, `${day.false_alarms}/${day.reviewed}`, rate];
    line.append(...cells.map((content) => {
      const cell = document.createElement("td");
      cell.textContent = content;
      if (content !== cells[0]) cell.className = "number";
      return cell;
    }));
    return line;
  }));
}

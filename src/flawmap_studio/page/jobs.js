// Jobs: what runs now, how far it is, and what it said. They run on without the page.
import { announce, commandBox, fill, h, problemBox } from "/page/elements.js";
import { get, post } from "/page/server.js";

const PAUSE_MS = { running: 1000, idle: 5000 };
export const jobEvents = new EventTarget(); // "change" after each look, "end" when a job ended
export const jobs = { all: [], running: null };
let ended = null; // the job that ended while the page was looking
let timer = 0;

export async function look() {
  clearTimeout(timer);
  const before = jobs.running;
  jobs.all = (await get("/api/jobs")).jobs;
  jobs.running = jobs.all.find((job) => job.state === "running") ?? null;
  if (before && jobs.running?.id !== before.id) {
    ended = jobs.all.find((job) => job.id === before.id);
    announce(`${ended.title}: ${ended.state}`);
    jobEvents.dispatchEvent(new CustomEvent("end", { detail: ended }));
  }
  show();
  jobEvents.dispatchEvent(new Event("change"));
  schedule();
}

function schedule() {
  clearTimeout(timer);
  timer = setTimeout(() => look().catch(lost), jobs.running ? PAUSE_MS.running : PAUSE_MS.idle);
}

// The studio was stopped, or started again with another token. A job that runs goes on without it.
function lost(error) {
  const place = document.getElementById("job");
  place.hidden = false;
  place.className = "failed";
  fill(place, problemBox(error));
  schedule();
}

export async function start(kind, wish) {
  const job = await post(`/api/jobs/${kind}`, wish);
  announce(`${job.title}: started`);
  ended = null;
  jobs.running = job;
  await look();
  return job;
}

// A job of a kind is awaited by pages that go on with its answer.
export function whenEnded(job) {
  return new Promise((done) => {
    const listen = (event) => {
      if (event.detail.id !== job.id) return;
      jobEvents.removeEventListener("end", listen);
      done(event.detail);
    };
    jobEvents.addEventListener("end", listen);
  });
}

function show() {
  const place = document.getElementById("job");
  const job = jobs.running ?? ended;
  place.hidden = !job;
  if (!job) return;
  place.className = job.state;
  const isOpen = place.querySelector("details.said")?.open ?? false;
  const focused = document.activeElement?.closest?.("#job") ? document.activeElement.dataset.name : null;
  fill(place, h("div.bar", h("strong", job.title), h("span.grow.quiet", words(job)), ...buttons(job)), bar(job),
    job.state === "failed" && job.problem ? problemBox(job.problem) : null, said(job, isOpen));
  if (focused) place.querySelector(`[data-name=${focused}]`)?.focus();
}

function words(job) {
  if (job.state === "done") return `done in ${Math.round(job.seconds)} s`;
  if (job.state === "cancelled") return "cancelled; what was finished is kept";
  if (job.state === "failed") return "failed";
  const { step, left } = job.progress ?? {};
  return `${step ?? ""}${left ? ` · about ${left} left` : ""}`;
}

function bar(job) {
  if (job.state !== "running") return null;
  const share = job.progress?.share;
  const element = h("progress", { max: 1, "aria-label": job.title });
  if (share !== null && share !== undefined) element.value = share;
  return element;
}

function buttons(job) {
  if (job.state === "running") {
    const cancel = h("button", { type: "button", onclick: () => post(`/api/cancel/${job.id}`).then(look) }, "Cancel");
    cancel.dataset.name = "cancel";
    return [cancel];
  }
  const close = h("button", { type: "button", onclick: () => { ended = null; show(); } }, "Close");
  close.dataset.name = "close";
  return [close];
}

function said(job, isOpen) {
  const summary = h("summary", "What it said, and its command");
  summary.dataset.name = "said";
  const pre = h("pre", { tabIndex: 0, "aria-label": "What the job said" }, job.lines.join("\n"));
  return h("details.said.quiet", { open: isOpen }, summary, pre, commandBox(job.command));
}

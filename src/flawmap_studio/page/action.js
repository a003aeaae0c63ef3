// A button that runs one of flawmap's commands: it shows the command, what to know before, and why it is refused.
import { adviceBox, announce, commandBox, fill, h, problemBox, reasonBox } from "/page/elements.js";
import { jobEvents, jobs, start, whenEnded } from "/page/jobs.js";
import { post } from "/page/server.js";

// kind: of the job. label: of the button. wish(): what the person chose; null refuses silently.
// done(job): called with the ended job. Returns the element, which has refresh().
export function action({ kind, label, wish = () => ({}), done = () => {}, isPrimary = false }) {
  const button = h(isPrimary ? "button.primary" : "button", { type: "button", disabled: true, onclick: run }, label);
  const notes = h("div", { role: "status" });
  const element = h("div.action", button, notes);
  let asked = 0;
  let plan = null;

  async function refresh() {
    const number = ++asked;
    const chosen = wish();
    if (chosen === null) {
      plan = null;
      return show();
    }
    const found = await post(`/api/plan/${kind}`, chosen).catch((error) => ({ command: null, advice: [], refused: error }));
    if (number !== asked) return;
    plan = found;
    show();
  }

  function show() {
    const shown = element.querySelector("details")?.open ?? false;
    button.disabled = !plan?.command || Boolean(jobs.running);
    button.title = jobs.running ? `Wait for: ${jobs.running.title}` : "";
    fill(notes, plan?.refused ? reasonBox(plan.refused) : null, plan ? adviceBox(plan.advice) : null, plan?.command ? commandBox(plan.command) : null);
    const details = element.querySelector("details");
    if (details) details.open = shown;
  }

  async function run() {
    button.disabled = true;
    try {
      const job = await start(kind, wish());
      const end = whenEnded(job);
      const ended = await end;
      if (element.isConnected) await done(ended); // else the person is on another page by now
    } catch (error) {
      fill(notes, problemBox(error));
      announce(error.message);
    }
  }

  const watch = () => {
    if (!element.isConnected) return jobEvents.removeEventListener("change", watch);
    button.disabled = !plan?.command || Boolean(jobs.running);
  };
  setTimeout(() => jobEvents.addEventListener("change", watch));
  element.refresh = refresh;
  refresh();
  return element;
}

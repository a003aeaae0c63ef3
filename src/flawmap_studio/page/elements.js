// Small parts that pages are made of.

// h("button.primary", { onclick, "aria-pressed": true }, "Text", child): an element; null children are left out.
export function h(name, properties = {}, ...children) {
  if (typeof properties !== "object" || properties === null || properties instanceof Node || Array.isArray(properties)) {
    children.unshift(properties);
    properties = {};
  }
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key in element && !key.startsWith("aria")) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
export const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);

export function problemBox(error) {
  const known = error.problem !== undefined;
  return h("div.problem", { role: "alert" },
    h("p", h("strong", known ? error.problem : `The page failed: ${error.message}`)),
    error.place ? h("p.quiet", `at: ${error.place}`) : null,
    error.remedy ? h("p", `What to do: ${error.remedy}`) : null);
}

// Why an action is not possible now. Nothing has gone wrong yet, so it is no alarm.
export function reasonBox({ problem, place, remedy }) {
  return h("div.reason", h("p", h("strong", `Not yet: ${problem}`), place ? ` (${place})` : ""), remedy ? h("p", remedy[0].toUpperCase() + remedy.slice(1)) : null);
}

export const adviceBox = (lines) => lines.length ? h("div.advice", lines.map((line) => h("p", line))) : null;

export function commandBox(command) {
  const copied = h("button", { type: "button", onclick: copy }, "Copy");
  async function copy() {
    await navigator.clipboard.writeText(command).catch(() => getSelection().selectAllChildren(code));
    copied.textContent = "Copied";
    announce("The command is copied");
    setTimeout(() => (copied.textContent = "Copy"), 1500);
  }
  const code = h("code", command);
  return h("details.command", h("summary", "The same as a command, in the studio's folder"), h("div", code, copied));
}

export function announce(text) {
  document.getElementById("said").textContent = text;
}

export function field(label, control, hint) {
  return h("label.field", h("span", label), control, hint ? h("span.quiet", hint) : null);
}

export function choice(name, value, label, hint, isChecked, onchange) {
  return h("label.choice", h("input", { type: "radio", name, value, checked: isChecked, onchange }), h("span", label), hint ? h("span.quiet", hint) : null);
}

// Keys of a page; they rest while somebody writes. Returns what removes them.
export function keys(map) {
  const listen = (event) => {
    const writes = event.target.closest?.("input:not([type=radio]):not([type=range]):not([type=checkbox]), select, textarea");
    if (writes || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = map[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) {
      event.preventDefault();
      action(event);
    }
  };
  document.addEventListener("keydown", listen);
  return () => document.removeEventListener("keydown", listen);
}

// Mouse, keyboard and dropped files.
"use strict";

function setView(tab) {
  for (const other of document.querySelectorAll("[role=tab]")) {
    other.setAttribute("aria-selected", String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
  }
  byId("panes").setAttribute("aria-labelledby", tab.id);
  panes.setView(tab.dataset.view);
}

const KEYS = {
  j: () => step(1), k: () => step(-1), a: () => review("agree"), d: () => review("disagree"), n: () => byId("note").focus(),
  "+": () => panes.zoomBy(1.5), "=": () => panes.zoomBy(1.5), "-": () => panes.zoomBy(1 / 1.5), 0: () => panes.fit(),
};

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=text], input[type=password], input[type=search], select")) {
    if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "note")) event.target.blur();
    return;
  }
  const action = KEYS[event.key.toLowerCase()];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.repeat && "ad".includes(event.key.toLowerCase())) return; // holding a key down is one review
  event.preventDefault();
  action();
});

for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => setView(tab));
  tab.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const tabs = [...document.querySelectorAll("[role=tab]")];
    const next = tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length];
    next.focus();
    setView(next);
  });
}
for (const id of ["files", "folder"]) {
  byId(id).addEventListener("change", (event) => { add(chosenFiles(event.target.files).map(ofChosenPart)); event.target.value = ""; });
}
byId("filter").addEventListener("change", showFilter);
byId("search").addEventListener("input", showFilter);
byId("clear").addEventListener("click", clearSession);
byId("save-table").addEventListener("click", saveTable);
byId("threshold").addEventListener("input", (event) => setThreshold(Number(event.target.value)));
byId("calibrated").addEventListener("click", () => { setThreshold(state.model.threshold); showThreshold(); });
byId("opacity").addEventListener("input", (event) => {
  byId("opacity-value").textContent = `${event.target.value} %`;
  panes.setOpacity(event.target.value / 100);
});
byId("zoom-in").addEventListener("click", () => panes.zoomBy(1.5));
byId("zoom-out").addEventListener("click", () => panes.zoomBy(1 / 1.5));
byId("fit").addEventListener("click", () => panes.fit());
byId("agree").addEventListener("click", () => review("agree"));
byId("disagree").addEventListener("click", () => review("disagree"));
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = byId("token").value;
  event.target.hidden = true;
  loadModel();
});
const drop = byId("drop");
for (const kind of ["dragenter", "dragover"]) window.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) window.addEventListener(kind, () => drop.classList.remove("over"));
window.addEventListener("drop", (event) => { event.preventDefault(); droppedFiles(event.dataTransfer).then((files) => add(files.map(ofChosenPart)), (error) => problem("drop", error.message)); });

document.addEventListener("visibilitychange", followModel);
setInterval(followModel, LOOK_AGAIN_MS);
loadModel();

// What the server keeps for a page that is loaded again: images, answers and reviews.
"use strict";

async function loadSession() {
  const { images } = await answerOf(await ask("/v1/session"));
  const outdated = [];
  for (const { name, answer, has_file: hasFile, review, note } of images) {
    const camera = answer.camera === state.model.camera ? "" : answer.camera;
    if (answer.model_id === state.model.model_id) insert({ name, camera, file: null, hasFile, answer, review, note, details: null });
    else if (hasFile) outdated.push({ name, camera, sha256: answer.sha256 }); // its review was of another model's verdict
  }
  add(outdated);
  showCounts();
}

async function keptFile(sha256, name) {
  const reply = await ask(`/v1/session/${sha256}`);
  if (!reply.ok) await answerOf(reply);
  return new File([await reply.blob()], name);
}

async function clearSession() {
  if (!state.rows.length || !window.confirm("Remove all images from this page and from the server? Reviews stay saved.")) return;
  const reply = await ask("/v1/session", { method: "DELETE" });
  if (!reply.ok) {
    problem("clear", `the server answered ${reply.status}`);
    return;
  }
  state.waiting.length = 0;
  for (const row of state.rows) row.line.remove();
  Object.assign(state, { rows: [], selected: null, painted: null, detailed: [] });
  byId("problems").replaceChildren();
  byId("shown").hidden = true;
  byId("nothing").hidden = false;
  showThreshold();
  showCounts();
}

async function saveTable() {
  const reply = await ask("/v1/session.csv");
  if (!reply.ok) {
    problem("table", `the server answered ${reply.status}`);
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await reply.blob());
  link.download = "flawmap.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Files and folders that are dropped or chosen, on their way to the server.
"use strict";

const UPLOADS_AT_ONCE = 2; // the server scores one image after the other
const SYSTEM_NAMES = /^(\.|~\$|Thumbs\.db$|desktop\.ini$|@eaDir$|#recycle$|\$RECYCLE\.BIN$|__MACOSX$|System Volume Information$)/i;

// entries: { name, file, camera, product } of an image to be scored, or { name, sha256, camera } of one that the server keeps
function add(entries) {
  for (const entry of entries) {
    if (entry.file && state.model && entry.file.size > state.model.max_bytes) {
      problem(entry.name, `larger than ${state.model.max_bytes.toLocaleString("en")} bytes`);
      continue;
    }
    state.waiting.push(entry);
  }
  while (state.active < UPLOADS_AT_ONCE && state.waiting.length) work();
  showCounts();
}

async function work() {
  state.active += 1;
  while (state.waiting.length) {
    const entry = state.waiting.shift();
    try {
      entry.file ??= await keptFile(entry.sha256, entry.name);
      const answer = await score(entry.file, { ...entry, inSession: true });
      insert({ name: entry.name, camera: entry.camera, file: entry.file, answer, review: entry.review ?? "", note: entry.note ?? "", details: null });
      state.seconds.push(answer.seconds);
    } catch (error) {
      problem(entry.name, error.message);
    }
    showCounts();
  }
  state.active -= 1;
  showCounts();
}

function problem(name, text) {
  const line = document.createElement("li");
  line.textContent = `${name}: ${text}`;
  byId("problems").append(line);
}

// What the person has chosen for the files that come next.
const ofChosenPart = (entry) => ({ ...entry, camera: byId("camera").value, product: byId("product").value });

// The files of a drop, those in folders among them, by their paths. What the system put there is passed over.
async function droppedFiles(transfer) {
  const roots = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!roots.length) return [...transfer.files].map((file) => ({ name: file.name, file }));
  const found = [];
  const folders = [];
  const take = async (entry) => {
    if (SYSTEM_NAMES.test(entry.name)) return;
    if (entry.isDirectory) folders.push(entry);
    else found.push({ name: entry.fullPath.replace(/^\//, ""), file: await new Promise((done, fail) => entry.file(done, fail)) });
  };
  for (const root of roots) await take(root);
  while (folders.length) {
    const reader = folders.shift().createReader();
    for (;;) {
      const entries = await new Promise((done, fail) => reader.readEntries(done, fail)); // a hundred at a time
      if (!entries.length) break;
      for (const entry of entries) await take(entry);
    }
  }
  return found.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
}

function chosenFiles(files) {
  const named = [...files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
  return named.filter(({ name }) => !name.split("/").some((part) => SYSTEM_NAMES.test(part)));
}

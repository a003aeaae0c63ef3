// Requests to the server and their answers.
"use strict";

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (state.token) headers.authorization = `Bearer ${state.token}`;
  for (;;) {
    const reply = await fetch(path, { ...options, headers });
    if (reply.status !== 503) return reply;
    const seconds = Number(reply.headers.get("retry-after") || 1);
    await new Promise((done) => setTimeout(done, 1000 * seconds));
  }
}

async function answerOf(reply) {
  if (reply.status === 401) byId("token-form").hidden = false;
  const content = await reply.json().catch(() => ({ error: `the server answered ${reply.status}` }));
  if (!reply.ok) throw new Error(content.error);
  return content;
}

// withMaps: also ask for the map, the attention, and the image itself where the browser cannot show all of it
async function score(file, withMaps) {
  const form = new FormData();
  form.append("image", new Blob([file], { type: "application/octet-stream" }), file.name);
  const query = withMaps ? `?with_map=true&with_attention=true&with_picture=${!(await browserShowsAll(file))}` : "";
  return answerOf(await ask(`/v1/detect${query}`, { method: "POST", body: form }));
}

// Browsers show neither TIFF nor DICOM, and only 8 bits of a 16-bit PNG.
async function browserShowsAll(file) {
  const head = new Uint8Array(await file.slice(0, 132).arrayBuffer());
  const text = (from, to) => String.fromCharCode(...head.subarray(from, to));
  const isDeepPng = text(1, 4) === "PNG" && head[24] === 16;
  return !isDeepPng && !["II", "MM"].includes(text(0, 2)) && text(128, 132) !== "DICM";
}

async function bitmapOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
}

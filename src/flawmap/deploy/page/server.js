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

// camera, product: that the image is of; empty where nobody has said
// inSession: the server keeps the image for a page that is loaded again
// withMaps: also ask for the map, the attention, and the image itself where the browser cannot show all of it
async function score(file, { name, camera, product, inSession = false, withMaps = false }) {
  const form = new FormData();
  form.append("image", new Blob([file], { type: "application/octet-stream" }), name.slice(-255));
  const views = withMaps ? `&with_map=true&with_attention=true&with_picture=${!(await browserShowsAll(file))}` : "";
  const of = (camera ? `&camera=${encodeURIComponent(camera)}` : "") + (product ? `&product=${encodeURIComponent(product)}` : "");
  const query = `?in_session=${inSession}${of}${views}`;
  return answerOf(await ask(`/v1/detect${query}`, { method: "POST", body: form }));
}

// Of PNG with 8 bits and of JPEG without EXIF rotation, a browser shows the pixels that the model sees; of all others the
// server sends them: TIFF, DICOM, 16 bits, transparency and the like are read by one reader only.
async function browserShowsAll(file) {
  const head = new Uint8Array(await file.slice(0, 16_384).arrayBuffer());
  if (head[0] === 0xff && head[1] === 0xd8) return true;
  const text = new TextDecoder("latin1").decode(head);
  const [bits, colours] = [head[24], head[25]];
  return text.startsWith("PNG", 1) && bits === 8 && (colours === 0 || colours === 2) && !text.includes("tRNS");
}

async function bitmapOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
}

// Requests to the studio's server. A refusal has what flawmap's errors have: problem, place and remedy.

export class Refused extends Error {
  constructor({ problem, place = "", remedy = "" }, status = 0) {
    super(problem);
    Object.assign(this, { problem, place, remedy, status });
  }
}

async function ask(method, path, { query = {}, body, type = "application/json" } = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) if (value !== null && value !== undefined) url.searchParams.set(name, value);
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.body = type === "application/json" ? JSON.stringify(body) : body;
    options.headers["content-type"] = type;
  }
  let reply;
  try {
    reply = await fetch(url, options);
  } catch {
    throw new Refused({ problem: "the studio does not answer", remedy: "start it again: flawmap studio FOLDER. A job that runs goes on" });
  }
  if (reply.ok) return reply.status === 204 ? null : reply.json();
  const content = await reply.json().catch(() => ({}));
  throw new Refused({ problem: content.problem ?? `the server answered ${reply.status}`, ...content }, reply.status);
}

export const get = (path, query) => ask("GET", path, { query });
export const post = (path, body = {}) => ask("POST", path, { body });
export const put = (path, body, query) => ask("PUT", path, { body, query });
export const remove = (path, query) => ask("DELETE", path, { query });
export const upload = (file, query) => ask("PUT", "/api/images", { query, body: file, type: "application/octet-stream" });

// The token follows the # of the address that the terminal shows. It is exchanged for a cookie, and disappears from view.
export async function enter() {
  const token = location.hash.slice(1);
  if (token.length < 20) return;
  history.replaceState(null, "", location.pathname);
  const reply = await fetch("/enter", { method: "POST", body: token });
  if (!reply.ok) throw new Refused(await reply.json(), reply.status);
}

const address = (path, query) => `${path}?${new URLSearchParams(query)}`;
export const thumbnailOf = (image) => address("/api/thumbnail", { path: image.path, v: image.version });
export const pictureOf = (path) => address("/api/image", { path });
export const overlayOf = (name, path) => address("/api/overlay", { name, path });
export const downloadOf = (path) => address("/api/download", { path });
export const reportOf = (run) => address("/api/report", { run });

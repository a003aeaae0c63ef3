// The images, as the server lists them. Pages change them here, so that all pages agree.
import { get, post } from "/page/server.js";

class Images extends EventTarget {
  all = [];
  folder = "";
  leftOut = [];

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}

export const images = new Images();

export async function loadImages(scan = false) {
  const found = await get("/api/images", scan ? { scan: true } : {});
  images.all = found.images.map(([path, label, use, version]) => ({ path, label, use, version }));
  images.folder = found.folder;
  images.leftOut = found.left_out;
  images.changed();
}

export async function say(chosen, { label = null, use = null }) {
  await post("/api/labels", { paths: chosen.map((image) => image.path), label, use });
  for (const image of chosen) {
    if (label !== null) image.label = label;
    if (use !== null) image.use = use;
  }
  images.changed();
}

export const groupOf = (image) => image.path.includes("/") ? image.path.slice(0, image.path.lastIndexOf("/")) : "";

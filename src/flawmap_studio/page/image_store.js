// The images, as the server lists them. Pages change them here, so that all pages agree.
import { get, post } from "/page/server.js";

class Images extends EventTarget {
  all = [];
  folder = "";
  cameras = {}; // by folder
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
  images.cameras = found.cameras;
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

export async function nameCamera(folder, camera) {
  images.cameras = (await post("/api/camera", { folder, camera })).cameras;
  images.changed();
}

// The camera that took an image, as somebody has said of the nearest folder around it; empty where nobody has.
export function cameraOf(image) {
  let folder = image.path;
  while (folder) {
    folder = folder.includes("/") ? folder.slice(0, folder.lastIndexOf("/")) : "";
    if (folder in images.cameras) return images.cameras[folder];
  }
  return "";
}

export const camerasOf = (some) => [...new Set(some.map(cameraOf))].filter(Boolean).sort();

export const groupOf = (image) => image.path.includes("/") ? image.path.slice(0, image.path.lastIndexOf("/")) : "";

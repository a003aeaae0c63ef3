// One image as original, map, overlay and attention, all with the same pan and zoom.
"use strict";

const TITLES = { overlay: "Overlay", original: "Original", map: "Map", attention: "Attention" };
// As in flawmap.drawing.overlay: the tint begins half-way to the threshold and grows with the map.
const TINT = [[0, 0], [0.25, 0], [0.5, 0.5], [1, 0.8]];

const SHADE = 153; // of 255: 40 % of the brightness is left outside of the region of interest, as in flawmap.drawing.overlay

class ImagePanes {
  constructor(container, onZoom) {
    this.container = container;
    this.onZoom = onZoom;
    this.view = "overlay";
    this.opacity = 0.5;
    this.layers = null; // canvases of the image, by view
    this.zoom = 1; // 1 = the whole image fits
    this.center = [0.5, 0.5]; // the point in the middle of a pane, as a share of width and height
    this.marked = null; // box in image pixels
    new ResizeObserver(() => this.draw()).observe(container);
    container.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    container.addEventListener("pointerdown", (event) => this.startDrag(event));
    container.addEventListener("keydown", (event) => this.onKey(event));
  }

  // source: an ImageBitmap or a canvas; map, inside and attention: ImageData-like gray bitmaps or null, inside 255 in the
  // region of interest; colours: 256 [r, g, b]
  show(source, map, inside, attention, colours) {
    this.parts = { source, map, attention, colours };
    this.shade = inside && shadeOf(inside);
    this.compose();
    this.marked = null;
    this.layOut();
  }

  clear() {
    this.parts = this.layers = null;
    this.marked = null;
    const waiting = document.createElement("div");
    waiting.className = "pane";
    waiting.append(document.createElement("p"));
    waiting.firstChild.textContent = "Loading …";
    this.container.classList.remove("all");
    this.container.replaceChildren(waiting);
  }

  setView(view) {
    this.view = view;
    this.layOut();
  }

  setSource(source) {
    this.parts.source = source;
    this.layers.original = copyOf(source);
    this.layers.overlay = this.overlay();
    this.draw();
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    if (this.parts) this.layers.overlay = this.overlay();
    this.draw();
  }

  compose() {
    const { source, map, attention, colours } = this.parts;
    this.layers = { original: copyOf(source), map: null, overlay: null, attention: null };
    if (map) {
      this.mapValues = grayOf(map);
      this.layers.map = coloured(map.width, map.height, this.mapValues, colours, () => 255);
      if (this.shade) this.layers.map.getContext("2d").drawImage(this.shade, 0, 0, map.width, map.height);
      this.layers.overlay = this.overlay();
    }
    if (attention) {
      const gray = coloured(attention.width, attention.height, grayOf(attention), grayTable(), () => 255);
      this.layers.attention = canvasOf(source.width, source.height);
      this.layers.attention.getContext("2d").drawImage(gray, 0, 0, source.width, source.height);
    }
  }

  overlay() {
    const { source, map, colours } = this.parts;
    if (!map) return null;
    const strength = this.opacity / 0.5; // 50 % is the opacity of the saved overlays
    const alphas = Array.from({ length: 256 }, (_, value) => Math.round(255 * Math.min(1, tintAt(value / 255) * strength)));
    const tint = coloured(map.width, map.height, this.mapValues, colours, (value) => alphas[value]);
    const overlay = canvasOf(source.width, source.height);
    const context = overlay.getContext("2d");
    context.drawImage(this.layers.original, 0, 0);
    context.drawImage(tint, 0, 0, source.width, source.height);
    if (this.shade) context.drawImage(this.shade, 0, 0, source.width, source.height);
    return overlay;
  }

  layOut() {
    const views = this.view === "all" ? Object.keys(TITLES) : [this.view];
    this.container.classList.toggle("all", this.view === "all");
    this.panes = views.map((view) => {
      const pane = document.createElement("div");
      pane.className = "pane";
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${TITLES[view]} of the selected image`);
      const title = document.createElement("span");
      title.textContent = TITLES[view];
      pane.append(canvas, title);
      return { view, pane, canvas };
    });
    this.container.replaceChildren(...this.panes.map(({ pane }) => pane));
    this.draw();
  }

  draw() {
    if (!this.layers || !this.panes) return;
    const dense = window.devicePixelRatio || 1;
    for (const { view, pane, canvas } of this.panes) {
      const layer = this.layers[view];
      pane.querySelector("p")?.remove();
      if (!layer) {
        const why = document.createElement("p");
        why.textContent = view === "attention" ? "Exported models have no attention maps." : "Loading …";
        pane.append(why);
        continue;
      }
      canvas.width = Math.max(1, Math.round(pane.clientWidth * dense));
      canvas.height = Math.max(1, Math.round(pane.clientHeight * dense));
      const context = canvas.getContext("2d");
      const { scale, left, top } = this.placed(canvas, layer);
      context.imageSmoothingEnabled = scale < 3; // zoomed in, pixels are shown as squares
      context.drawImage(layer, left, top, layer.width * scale, layer.height * scale);
      if (this.marked) {
        const [x0, y0, x1, y1] = this.marked;
        context.lineWidth = 2 * dense;
        context.strokeStyle = "#fff";
        context.setLineDash([6 * dense, 4 * dense]);
        context.strokeRect(left + x0 * scale, top + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
      }
    }
    this.onZoom(this.zoom);
  }

  placed(canvas, layer) {
    const scale = this.zoom * Math.min(canvas.width / layer.width, canvas.height / layer.height);
    return {
      scale,
      left: canvas.width / 2 - this.center[0] * layer.width * scale,
      top: canvas.height / 2 - this.center[1] * layer.height * scale,
    };
  }

  fit() {
    this.zoom = 1;
    this.center = [0.5, 0.5];
    this.marked = null;
    this.draw();
  }

  // factor > 1 zooms in; at: the point that stays in place, from the middle of the pane, as a share of its size
  zoomBy(factor, at = [0, 0]) {
    if (!this.layers) return;
    const before = this.paneInImage();
    this.zoom = Math.min(64, Math.max(1, this.zoom * factor));
    const after = this.paneInImage();
    this.moveBy(at[0] * (before[0] - after[0]), at[1] * (before[1] - after[1]));
  }

  // the size of a pane as a share of the image
  paneInImage() {
    const { canvas, view } = this.panes[0];
    const layer = this.layers[view] || this.layers.original;
    const { scale } = this.placed(canvas, layer);
    return [canvas.width / scale / layer.width, canvas.height / scale / layer.height];
  }

  moveBy(x, y) {
    this.center = [clamp(this.center[0] + x), clamp(this.center[1] + y)];
    if (this.zoom === 1) this.center = [0.5, 0.5];
    this.draw();
  }

  goTo(box) {
    const { width, height } = this.layers.original;
    const share = Math.max((box[2] - box[0]) / width, (box[3] - box[1]) / height);
    this.zoom = Math.min(16, Math.max(1, 0.6 / share));
    this.center = [(box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height];
    this.marked = box;
    this.draw();
  }

  onWheel(event) {
    if (!this.layers) return;
    event.preventDefault();
    const pane = event.target.closest(".pane");
    if (!pane) return;
    const place = pane.getBoundingClientRect();
    const at = [(event.clientX - place.left) / place.width - 0.5, (event.clientY - place.top) / place.height - 0.5];
    this.zoomBy(Math.exp(-event.deltaY / 400), at);
  }

  startDrag(event) {
    const pane = event.target.closest(".pane");
    if (!pane || !this.layers) return;
    let [x, y] = [event.clientX, event.clientY];
    const move = (moved) => {
      const [width, height] = this.paneInImage();
      this.moveBy(-((moved.clientX - x) / pane.clientWidth) * width, -((moved.clientY - y) / pane.clientHeight) * height);
      [x, y] = [moved.clientX, moved.clientY];
    };
    const stop = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", stop);
      window.removeEventListener("pointercancel", stop);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", stop);
    window.addEventListener("pointercancel", stop);
  }

  onKey(event) {
    if (!this.layers) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [width, height] = this.paneInImage();
    this.moveBy(steps[event.key][0] * width * 0.15, steps[event.key][1] * height * 0.15);
  }
}

function tintAt(position) {
  for (let i = 1; i < TINT.length; i++) {
    const [[p0, t0], [p1, t1]] = [TINT[i - 1], TINT[i]];
    if (position <= p1) return t0 + ((t1 - t0) * (position - p0)) / (p1 - p0);
  }
  return TINT[TINT.length - 1][1];
}

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return canvas;
}

function copyOf(source) {
  const canvas = canvasOf(source.width, source.height);
  canvas.getContext("2d").drawImage(source, 0, 0);
  return canvas;
}

function grayOf(bitmap) {
  const context = canvasOf(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  return Uint8Array.from({ length: rgba.length / 4 }, (_, pixel) => rgba[4 * pixel]);
}

function coloured(width, height, values, colours, alphaOf) {
  const canvas = canvasOf(width, height);
  const context = canvas.getContext("2d");
  const content = context.createImageData(width, height);
  for (let pixel = 0; pixel < values.length; pixel++) {
    const value = values[pixel];
    const [red, green, blue] = colours[value];
    content.data.set([red, green, blue, alphaOf(value)], 4 * pixel);
  }
  context.putImageData(content, 0, 0);
  return canvas;
}

function shadeOf(inside) {
  const black = Array.from({ length: 256 }, () => [0, 0, 0]);
  return coloured(inside.width, inside.height, grayOf(inside), black, (value) => (value ? 0 : SHADE));
}

function grayTable() {
  return Array.from({ length: 256 }, (_, value) => [value, value, value]);
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}

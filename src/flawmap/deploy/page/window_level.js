// Images of more than 8 bits: which of their values are shown as black and white. The model's own window decides the
// verdict; another one changes only the display.
"use strict";

const SLIDER_STEPS = 1000;

class DeepImage {
  // bitmap: red and green are the upper and lower byte of a position between low and high; window: values [black, white]
  constructor(bitmap, { low, high, window: [black, white] }) {
    const context = canvasOf(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
    this.positions = Uint16Array.from({ length: rgba.length / 4 }, (_, pixel) => 256 * rgba[4 * pixel] + rgba[4 * pixel + 1]);
    this.isInverted = black > white;
    const [from, to] = this.isInverted ? [white, black] : [black, white];
    Object.assign(this, { low, high, own: { level: (from + to) / 2, width: to - from } });
    this.canvas = canvasOf(bitmap.width, bitmap.height);
    this.setWindow(this.own);
  }

  setWindow({ level, width }) {
    this.shown = { level, width };
    const [from, step] = [level - width / 2, (this.high - this.low) / 65535];
    const table = Uint8Array.from({ length: 65536 }, (_, position) => {
      const share = Math.min(1, Math.max(0, (this.low + position * step - from) / width));
      return Math.round(255 * (this.isInverted ? 1 - share : share));
    });
    const context = this.canvas.getContext("2d");
    const content = context.createImageData(this.canvas.width, this.canvas.height);
    const pixels = new Uint32Array(content.data.buffer);
    this.positions.forEach((position, at) => { pixels[at] = 0xff000000 | (table[position] * 0x010101); });
    context.putImageData(content, 0, 0);
  }
}

class WindowLevel {
  constructor(container, onChange) {
    this.container = container;
    this.onChange = onChange;
    this.image = null;
    this.level = byId("level");
    this.width = byId("width");
    for (const slider of [this.level, this.width]) {
      slider.addEventListener("input", () => this.set({ level: Number(this.level.value), width: Number(this.width.value) }));
    }
    byId("own-window").addEventListener("click", () => { this.set(this.image.own); this.place(); });
  }

  // image: a DeepImage, or null where there is nothing to choose
  show(image) {
    this.image = image;
    this.container.hidden = !image;
    if (image) this.place();
  }

  set(shown) {
    this.image.setWindow(shown);
    this.say();
    this.onChange(this.image.canvas);
  }

  place() {
    const { low, high, own, shown } = this.image;
    const step = (high - low) / SLIDER_STEPS;
    Object.assign(this.level, { min: low, max: high, step, value: shown.level });
    Object.assign(this.width, { min: step, max: Math.max(high - low, own.width), step, value: shown.width });
    this.say();
  }

  say() {
    const { level, width } = this.image.shown;
    byId("level-value").textContent = Math.round(level).toLocaleString("en");
    byId("width-value").textContent = Math.round(width).toLocaleString("en");
  }
}

// Images of more than 8 bits: which of their values are shown black and white. The model's own window decides the
// verdict; another one only changes what is looked at.
"use strict";

const FINEST = 1000; // steps of a slider

class DeepImage {
  // bitmap: red and green are the upper and lower byte of a place between low and high; window: values [black, white]
  constructor(bitmap, { low, high, window: [black, white] }) {
    const context = canvasOf(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
    this.places = Uint16Array.from({ length: rgba.length / 4 }, (_, pixel) => 256 * rgba[4 * pixel] + rgba[4 * pixel + 1]);
    this.isInverted = black > white;
    const [from, to] = this.isInverted ? [white, black] : [black, white];
    Object.assign(this, { low, high, own: { level: (from + to) / 2, width: to - from } });
    this.picture = canvasOf(bitmap.width, bitmap.height);
    this.setWindow(this.own);
  }

  setWindow({ level, width }) {
    this.shown = { level, width };
    const [from, step] = [level - width / 2, (this.high - this.low) / 65535];
    const table = Uint8Array.from({ length: 65536 }, (_, place) => {
      const share = Math.min(1, Math.max(0, (this.low + place * step - from) / width));
      return Math.round(255 * (this.isInverted ? 1 - share : share));
    });
    const context = this.picture.getContext("2d");
    const content = context.createImageData(this.picture.width, this.picture.height);
    const pixels = new Uint32Array(content.data.buffer);
    this.places.forEach((place, at) => { pixels[at] = 0xff000000 | (table[place] * 0x010101); });
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
    this.onChange(this.image.picture);
  }

  place() {
    const { low, high, own, shown } = this.image;
    const step = (high - low) / FINEST;
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

// A grid of thousands of thumbnails: only those in view, and a few around, are in the document.
import { h, nameOf } from "/page/elements.js";
import { thumbnailOf } from "/page/server.js";

const WIDTH = 140, PICTURE = 104, HEIGHT = PICTURE + 32; // of a cell, in px; the width is the smallest
const AROUND = 2; // rows before and after those in view
const FAST = 2.5; // px per ms: while it scrolls faster, no picture is asked for

export class Grid {
  // badge(image): [text, class]; onopen(image); onchange(): the selection changed
  constructor({ label, badge, caption = (image) => nameOf(image.path), onchange = () => {}, onopen = () => {} }) {
    Object.assign(this, { badge, caption, onchange, onopen });
    this.items = [];
    this.selected = new Set();
    this.active = -1;
    this.anchor = -1;
    this.cells = new Map(); // index -> element
    this.free = [];
    this.space = h("div.space", { role: "presentation" });
    this.element = h("div.grid", { tabIndex: 0, role: "listbox", "aria-multiselectable": "true", "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("click", (event) => this.click(event));
    this.element.addEventListener("dblclick", () => this.items[this.active] && this.onopen(this.items[this.active]));
    this.sizes = new ResizeObserver(() => this.measure());
    this.sizes.observe(this.element);
    [this.top, this.at, this.speed] = [0, 0, 0];
  }

  show(items) {
    this.items = items;
    const left = new Set(items);
    this.selected = new Set([...this.selected].filter((item) => left.has(item)));
    this.active = Math.min(this.active, items.length - 1);
    for (const index of [...this.cells.keys()]) this.release(index);
    this.measure();
  }

  // after labels changed
  refresh() {
    for (const [index, cell] of this.cells) this.describe(cell, index);
  }

  measure() {
    this.columns = Math.max(1, Math.floor((this.element.clientWidth - 8) / WIDTH));
    this.width = Math.floor((this.element.clientWidth - 8) / this.columns);
    this.space.style.height = `${Math.ceil(this.items.length / this.columns) * HEIGHT + 8}px`;
    for (const index of [...this.cells.keys()]) this.release(index);
    this.draw();
  }

  scrolled() {
    const now = performance.now();
    this.speed = Math.abs(this.element.scrollTop - this.top) / Math.max(1, now - this.at);
    [this.top, this.at] = [this.element.scrollTop, now];
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      this.draw();
    });
  }

  draw() {
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / HEIGHT) - AROUND) * this.columns;
    const last = Math.min(this.items.length, (Math.ceil((scrollTop + clientHeight) / HEIGHT) + AROUND) * this.columns);
    for (const index of [...this.cells.keys()]) if (index < first || index >= last) this.release(index);
    for (let index = first; index < last; index++) if (!this.cells.has(index)) this.place(index);
    clearTimeout(this.later);
    if (this.speed > FAST) this.later = setTimeout(() => { this.speed = 0; this.load(); }, 90);
    else this.load();
    this.point();
  }

  place(index) {
    const cell = this.free.pop() ?? h("div.cell", { role: "option" }, h("img", { alt: "", decoding: "async", draggable: false }), h("b"), h("span"));
    this.cells.set(index, cell);
    cell.style.cssText = `width:${this.width}px;height:${HEIGHT}px;left:${4 + (index % this.columns) * this.width}px;top:${4 + Math.floor(index / this.columns) * HEIGHT}px`;
    cell.firstChild.style.height = `${PICTURE}px`;
    this.describe(cell, index);
    if (!cell.isConnected) this.space.append(cell);
  }

  describe(cell, index) {
    const item = this.items[index];
    const [text, kind] = this.badge(item);
    const [, badge, name] = cell.children;
    badge.textContent = text;
    badge.className = kind;
    name.textContent = this.caption(item);
    cell.id = `cell-${index}`;
    cell.setAttribute("aria-label", `${item.path}${text ? `, ${text}` : ""}`);
    cell.setAttribute("aria-posinset", index + 1);
    cell.setAttribute("aria-setsize", this.items.length);
    cell.setAttribute("aria-selected", this.selected.has(item));
    cell.title = item.path;
    cell.classList.toggle("active", index === this.active);
  }

  load() {
    for (const [index, cell] of this.cells) {
      const address = thumbnailOf(this.items[index]);
      if (cell.firstChild.getAttribute("src") !== address) cell.firstChild.src = address;
    }
  }

  release(index) {
    const cell = this.cells.get(index);
    this.cells.delete(index);
    cell.firstChild.removeAttribute("src");
    cell.remove();
    this.free.push(cell);
  }

  click(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const index = Number(cell.id.slice(5));
    if (event.shiftKey && this.anchor >= 0) this.range(this.anchor, index);
    else if (event.ctrlKey || event.metaKey) this.toggle(index);
    else this.only(index);
    this.active = index;
    this.update();
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -4 * this.columns, PageDown: 4 * this.columns }[event.key];
    const end = { Home: 0, End: this.items.length - 1 }[event.key];
    if (step !== undefined || end !== undefined) {
      const index = Math.min(this.items.length - 1, Math.max(0, end ?? this.active + (this.active < 0 ? 1 : step)));
      if (event.shiftKey) this.range(this.anchor < 0 ? index : this.anchor, index);
      else if (!event.ctrlKey) this.only(index);
      this.active = index;
      this.reveal(index);
    } else if (event.key === " ") this.toggle(Math.max(0, this.active));
    else if (event.key === "Enter" && this.items[this.active]) this.onopen(this.items[this.active]);
    else if (event.key === "Escape") this.selected.clear();
    else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) this.selected = new Set(this.items);
    else return;
    event.preventDefault();
    this.update();
  }

  only(index) {
    this.selected = new Set(this.items.slice(index, index + 1));
    this.anchor = index;
  }

  toggle(index) {
    const item = this.items[index];
    if (!this.selected.delete(item) && item) this.selected.add(item);
    this.anchor = index;
  }

  range(from, to) {
    this.selected = new Set(this.items.slice(Math.min(from, to), Math.max(from, to) + 1));
  }

  selectAll() {
    this.selected = new Set(this.items);
    this.update();
  }

  reveal(index) {
    const top = Math.floor(index / this.columns) * HEIGHT;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + HEIGHT + 8 > scrollTop + clientHeight) this.element.scrollTop = top + HEIGHT + 8 - clientHeight;
    this.draw();
  }

  update() {
    this.refresh();
    this.point();
    this.onchange();
  }

  point() {
    if (this.cells.has(this.active)) this.element.setAttribute("aria-activedescendant", `cell-${this.active}`);
    else this.element.removeAttribute("aria-activedescendant");
  }
}

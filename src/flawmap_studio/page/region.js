// Region: draw what counts, and what does not, on an image. Nothing drawn: the whole image counts.
import { announce, choice, commandBox, fill, h, keys, nameOf, percent, problemBox, reasonBox } from "/page/elements.js";
import { cameraOf, camerasOf, images } from "/page/image_store.js";
import { get, pictureOf, post, put } from "/page/server.js";

const SPACE = "http://www.w3.org/2000/svg";
const NEAR = 0.02; // share of the image: a corner this near to the first one closes a polygon
const STEP = 0.01, FINE = 0.002; // of the cross, by arrow keys

export async function show(main) {
  const learn = images.all.filter((image) => image.use === "learn");
  if (!learn.length) return void fill(main, h("div.empty", h("h2", "No images yet"), h("p.quiet", "Drop images of good parts first; the region is drawn on one of them."), h("p", h("a", { href: "#images" }, "To Images"))));
  const state = { camera: null, shapes: [], tool: "rectangle", side: "inside", begun: [], cross: null, size: null, isShared: true, past: [] };
  const picture = h("img", { alt: "", draggable: false });
  const drawing = document.createElementNS(SPACE, "svg");
  drawing.setAttribute("viewBox", "0 0 1 1");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("tabindex", "0");
  drawing.setAttribute("role", "application");
  drawing.setAttribute("aria-label", "Drawing. Arrow keys move the cross, Enter sets a corner, C closes a polygon, Escape gives up, Z undoes");
  const frame = h("div.draw.first", picture, drawing);
  const list = h("ul.plain", { "aria-label": "Shapes" });
  const outcome = h("div", { role: "status" });
  const shape = h("p.quiet");
  const which = h("select", { "aria-label": "Image", onchange: () => open(which.value) });
  const names = camerasOf(learn);
  const cameras = h("select", { "aria-label": "Camera", hidden: !names.length, onchange: () => choose(cameras.value || null) },
    h("option", { value: "" }, "All images whose camera has no region of its own"), names.map((name) => h("option", { value: name }, `Camera ${name}`)));
  const mine = () => (state.camera === null ? learn : learn.filter((image) => cameraOf(image) === state.camera));

  async function choose(camera) {
    const { region } = await get("/api/region", { camera });
    Object.assign(state, { camera, shapes: fromJson(region), begun: [], past: [] });
    fill(which, mine().slice(0, 500).map((image) => h("option", { value: image.path }, nameOf(image.path))));
    fill(outcome);
    await Promise.all([open(mine()[0].path), compareShapes()]);
    draw();
  }

  async function open(path) {
    picture.src = pictureOf(path);
    picture.alt = path;
    state.size = await get("/api/size", { path });
    const aspect = state.size.width_px / state.size.height_px;
    frame.style.width = `min(100%, calc((100vh - 6rem) * ${aspect}))`; // all of it in view
  }

  // Pixels of one size are stricter than shares: images of another shape are then refused.
  async function compareShapes() {
    const all = mine();
    const some = [all[0], all[Math.floor(all.length / 2)], all.at(-1), all[Math.floor(all.length / 4)]];
    const sizes = await Promise.all(some.map((image) => get("/api/size", { path: image.path })));
    const aspects = sizes.map((size) => size.width_px / size.height_px);
    state.isShared = Math.max(...aspects) / Math.min(...aspects) > 1.02;
    shape.textContent = state.isShared ? "The images have several shapes: the region is kept as shares of the image, and stretches with it." : "The region is kept in pixels of this image. Training refuses images of another shape.";
  }

  function draw() {
    drawing.replaceChildren(...state.shapes.map((one) => figure(one.corners, one.side)));
    const begun = state.cross && state.begun.length ? [...state.begun, state.cross] : state.begun;
    if (begun.length) drawing.append(figure(state.tool === "rectangle" && begun.length > 1 ? corners(begun[0], begun.at(-1)) : begun, "begun"));
    if (state.cross) for (const [x1, y1, x2, y2] of [[state.cross[0], 0, state.cross[0], 1], [0, state.cross[1], 1, state.cross[1]]]) drawing.append(element("line", { x1, y1, x2, y2, class: "cross" }));
    fill(list, state.shapes.length ? state.shapes.map((one, index) => h("li.bar", h(one.side === "inside" ? "span.tag.good" : "span.tag.defect", one.side === "inside" ? "counts" : "does not count"),
      h("span.grow", one.isRectangle ? "rectangle" : `polygon of ${one.corners.length} corners`),
      h("button", { type: "button", "aria-label": `Remove shape ${index + 1}`, onclick: () => change(state.shapes.filter((other) => other !== one)) }, "Remove"))) : h("li.quiet", nothing()));
  }

  const nothing = () => (state.camera === null ? "The whole image counts." : `Camera ${state.camera} has no region of its own.`);

  function figure(points, kind) {
    return element("polygon", { points: points.map((point) => point.join(",")).join(" "), class: kind });
  }

  function change(shapes) {
    state.past.push(state.shapes);
    state.shapes = shapes;
    save();
  }

  async function save() {
    state.begun = [];
    draw();
    try {
      const { share } = await put("/api/region", toJson(state), { camera: state.camera });
      const { command, refused } = await post("/api/plan/train", {});
      const whose = state.camera === null ? "each image" : `each image of camera ${state.camera}`;
      fill(outcome, h("p", h("strong", state.shapes.length ? `${percent(share)} of ${whose} counts` : nothing())),
        command && state.shapes.length ? commandBox(command) : null, refused?.place === "Region" ? reasonBox(refused) : null);
    } catch (error) {
      fill(outcome, problemBox(error));
    }
  }

  function add(points, isRectangle) {
    change([...state.shapes, { side: state.side, corners: points.map((point) => point.map(rounded)), isRectangle }]);
    announce(`${isRectangle ? "Rectangle" : "Polygon"} added`);
  }

  function corner(point) {
    if (state.tool === "rectangle") {
      if (!state.begun.length) state.begun = [point];
      else if (Math.abs(point[0] - state.begun[0][0]) > 0.005 && Math.abs(point[1] - state.begun[0][1]) > 0.005) return add(corners(state.begun[0], point), true);
    } else {
      const [first] = state.begun;
      if (state.begun.length > 2 && Math.hypot(point[0] - first[0], point[1] - first[1]) < NEAR) return close();
      state.begun.push(point);
    }
    draw();
  }

  function close() {
    if (state.tool === "polygon" && state.begun.length > 2) add(state.begun, false);
  }

  function undo() {
    if (state.begun.length) state.begun.pop();
    else if (state.past.length) {
      state.shapes = state.past.pop();
      return save();
    }
    draw();
  }

  const at = (event) => {
    const box = drawing.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((value) => Math.min(1, Math.max(0, value)));
  };
  let dragged = false;
  drawing.addEventListener("pointerdown", (event) => {
    drawing.setPointerCapture(event.pointerId);
    dragged = state.tool === "rectangle" && !state.begun.length;
    corner(at(event));
  });
  drawing.addEventListener("pointermove", (event) => {
    state.cross = at(event);
    draw();
  });
  drawing.addEventListener("pointerup", (event) => {
    const point = at(event);
    if (dragged && state.begun.length && Math.hypot(point[0] - state.begun[0][0], point[1] - state.begun[0][1]) > NEAR) corner(point);
    dragged = false;
  });
  drawing.addEventListener("pointerleave", () => {
    state.cross = null;
    draw();
  });
  drawing.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? FINE : STEP;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (!move && event.key !== "Enter") return;
    event.preventDefault();
    state.cross ??= [0.5, 0.5];
    if (move) state.cross = state.cross.map((value, axis) => Math.min(1, Math.max(0, value + move[axis])));
    else corner([...state.cross]);
    announce(`${percent(state.cross[0], 0)} from the left, ${percent(state.cross[1], 0)} from the top`);
    draw();
  });

  const tool = (value, title, hint) => choice("tool", value, title, hint, state.tool === value, () => { [state.tool, state.begun] = [value, []]; draw(); });
  const side = (value, title, hint) => choice("side", value, title, hint, state.side === value, () => (state.side = value));
  fill(main, h("div.columns",
    h("section.card", { "aria-label": "Region" }, h("h2", "What counts"),
      h("p.quiet", `Nothing outside is learned or scored. Draw on one image; the region holds for all${names.length ? " of its camera" : ""}.`), cameras, which,
      h("fieldset", h("legend", "Shape"), tool("rectangle", "Rectangle", "drag, or click two corners"), tool("polygon", "Polygon", "click corners; the first one, or C, closes it")),
      h("fieldset", h("legend", "What is inside it"), side("inside", "counts", "several shapes together"), side("outside", "does not count", "cut out of the rest")),
      h("div.bar", h("button", { type: "button", onclick: undo }, h("kbd", "Z"), " Undo"), h("button", { type: "button", onclick: close }, h("kbd", "C"), " Close the polygon"), h("button", { type: "button", onclick: () => state.shapes.length && change([]) }, "Remove all")),
      list, outcome, shape),
    frame));
  await choose(null);
  return keys({ z: undo, c: close, Escape: () => { state.begun = []; draw(); } });
}

const element = (name, attributes) => {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const corners = ([a, b], [c, d]) => [[a, b], [c, b], [c, d], [a, d]];
const rounded = (value) => Math.round(1e5 * value) / 1e5;

function toJson({ shapes, size, isShared }) {
  if (!shapes.length) return {};
  const [width, height] = isShared ? [1, 1] : [size.width_px, size.height_px];
  const kept = (value, length) => (isShared ? value : Math.round(100 * value * length) / 100);
  const written = ({ corners: points, isRectangle }) => {
    const scaled = points.map(([x, y]) => [kept(x, width), kept(y, height)]);
    if (!isRectangle) return { polygon: scaled };
    const [xs, ys] = [0, 1].map((axis) => scaled.map((point) => point[axis]));
    return { rectangle: [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] };
  };
  const of = (wanted) => shapes.filter((one) => one.side === wanted).map(written);
  return { ...(isShared ? {} : { image_size_px: [width, height] }), inside: of("inside"), outside: of("outside") };
}

function fromJson(region) {
  if (!region) return [];
  const [width, height] = region.image_size_px ?? [1, 1];
  const read = (side) => (item) => {
    const points = item.polygon ?? corners(item.rectangle.slice(0, 2), item.rectangle.slice(2));
    return { side, corners: points.map(([x, y]) => [x / width, y / height]), isRectangle: Boolean(item.rectangle) };
  };
  return [...(region.inside ?? []).map(read("inside")), ...(region.outside ?? []).map(read("outside"))];
}
